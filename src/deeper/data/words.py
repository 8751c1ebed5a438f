"""Texts read word by word, with vectors of words from a file of word2vec's or GloVe's text form.

The words are those of Kim 2014 (arXiv:1408.5882), whose code separates contractions and signs and
takes lower case. His letters are ASCII's; here every letter counts, so that words of other
languages are not cut at an accent.
"""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32

from deeper.data.dataset import Dataset, Split
from deeper.data.reader import Given, Read
from deeper.data.text import (
    COLUMN,
    FIRST,
    LABEL,
    PADDING,
    UNKNOWN,
    load_for_training,
    normalise,
    read_texts,
    recorded,
)
from deeper.errors import UserError

_NO_PART_OF_WORDS = re.compile(r"[^\w(),!?'`]|_")
_CONTRACTIONS = re.compile(r"'s|'ve|n't|'re|'d|'ll")
_SIGNS = re.compile(r"[,!()?]")


def words_of(text: str) -> list[str]:
    """Return the words of a text: lower case, contractions and signs by themselves.

    Letters, digits, ``(),!?'`` and the backtick are kept; everything else divides words.
    """
    plain = _NO_PART_OF_WORDS.sub(" ", normalise(text, lower=False))
    plain = _CONTRACTIONS.sub(lambda found: f" {found[0]}", plain)
    return _SIGNS.sub(lambda found: f" {found[0]} ", plain).lower().split()


@dataclass(frozen=True)
class WordReader:
    """Reads texts word by word, see `words_of`.

    Words beyond ``length`` are cut off; those that are not in the vocabulary become one token,
    `UNKNOWN`, as does a text that has no words. A text of white space alone is left out.

    Attributes:
        words: the vocabulary; the token of its i-th word is i + `FIRST`.
        length: tokens of an example; a shorter text is padded at its end with `PADDING`.
    """

    words: Sequence[str]
    length: int

    def __call__(self, given: Sequence[Given]) -> Read:
        """Read texts; of a file every line that is not empty is one, of a directory every file."""
        return read_texts(given, self.tokens)

    def tokens(self, texts: Sequence[str]) -> tuple[Int32[np.ndarray, "n length"], dict[str, int]]:
        """Return the texts as tokens, and how many of them were changed in which way."""
        number = {word: i for i, word in enumerate(self.words, FIRST)}
        rows = np.full((len(texts), self.length), PADDING, np.int32)
        cut = unknown = 0
        for row, text in zip(rows, texts, strict=True):
            words = words_of(text)
            cut += len(words) > self.length
            found = [number.get(word, UNKNOWN) for word in words[: self.length]] or [UNKNOWN]
            unknown += UNKNOWN in found
            row[: len(found)] = found
        counts = {
            f"cut to {self.length} words": cut,
            "with words that the net does not know": unknown,
        }
        return rows, {phrase: count for phrase, count in counts.items() if count}

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """What the tokens from `FIRST` on stand for."""
        return tuple(self.words)

    def text(self, tokens: Int32[np.ndarray, " length"]) -> str:
        """Return a text as the net reads it."""
        return " ".join(self.symbols(tokens))

    def symbols(self, tokens: Int32[np.ndarray, " length"]) -> list[str]:
        """Return what stands at each position of a text, up to its padding."""
        known = {PADDING: "", UNKNOWN: "\N{REPLACEMENT CHARACTER}"}
        return [known.get(token) or self.words[token - FIRST] for token in tokens.tolist() if token]


def vocabulary_of(texts: Sequence[str], *, least: int) -> list[str]:
    """Return the words that occur so many times in some texts, the most frequent first."""
    counts = Counter(word for text in texts for word in words_of(text))
    kept = [(count, word) for word, count in counts.items() if count >= least]
    return [word for _, word in sorted(kept, key=lambda pair: (-pair[0], pair[1]))]


def words(
    dir: str,
    folder: str,
    length: int,
    tokens: int,
    least: int = 1,
    vectors: str | None = None,
    vocabulary: str | None = None,
) -> Dataset:
    """Return a prepared data set of texts, read word by word.

    Columns: ``text`` int32 (n, length), 0 behind the end of a text; ``label`` int32 (n,). The
    vocabulary is that of the training texts before they are divided into folds, as Kim's is.

    Args:
        dir: where prepared data sets are.
        folder: of the data set in it.
        length: words of an example; longer texts are cut.
        tokens: that the net knows: padding, the unknown word, and the vocabulary.
        least: times that a word has to occur in the training texts to be in the vocabulary.
        vectors: a file of vectors that the net begins with, see `read_vectors`: its path, or its
            place in ``dir``.
        vocabulary: the directory of a run whose words are taken, so that its net can be given
            these texts.

    Raises:
        UserError: it is not prepared, has no training texts, or the vectors cannot be read.
    """
    splits, names = load_for_training(dir, folder)
    if vocabulary is None:
        known = vocabulary_of([text for text, _ in splits["train"]], least=least)
    else:
        known = recorded(Path(vocabulary), "words")
    known = known[: tokens - FIRST]
    reader = WordReader(known, length)
    parts = {}
    for split, examples in splits.items():
        rows, _ = reader.tokens([text for text, _ in examples])
        labels = np.array([number for _, number in examples], np.int32)
        parts[split] = Split.of(**{COLUMN: rows, LABEL: labels})
    dataset = Dataset(
        folder,
        parts,
        tuple(names),
        reader={
            "_target_": "deeper.data.words.WordReader",
            "words": known,
            "length": length,
        },
    )
    if vectors is None:
        return dataset
    table = table_of(read_vectors(Path(dir) / vectors, known), known, tokens)
    return replace(dataset, token_vectors=table)


def read_vectors(
    path: Path, wanted: Collection[str]
) -> dict[str, Float32[np.ndarray, " features"]]:
    """Return the vectors of some words, of a file in word2vec's or GloVe's text form.

    A line is a word and its values, divided by spaces; word2vec's begins with a line of the number
    of words and of values. A word that stands there twice keeps its first vector.

    Args:
        path: the file, UTF-8.
        wanted: words; others are passed over.

    Raises:
        UserError: it cannot be read, a line is of another length, or no word is in it.
    """
    known, found = set(wanted), {}
    features = None
    try:
        with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
            for number, line in enumerate(lines, 1):
                parts = line.rstrip(" \r\n").split(" ")
                if number == 1 and len(parts) == 2:
                    continue
                features = features or len(parts) - 1
                if len(parts) <= features or not features:
                    raise UserError(
                        f"data.vectors={path}, line {number}, has {len(parts) - 1} values, and "
                        f"those before it {features}: is it a text file of word2vec or GloVe?"
                    )
                # GloVe's file of 840 billion words has some with spaces in them.
                word, values = " ".join(parts[:-features]), parts[-features:]
                if word in known and word not in found:
                    found[word] = np.array(values, np.float32)
    except (OSError, ValueError) as error:
        raise UserError(
            f"data.vectors={path} cannot be read: {error}. Give a text file of word2vec or GloVe."
        ) from error
    if not found:
        raise UserError(f"data.vectors={path} has a vector of none of the {len(known):,} words.")
    if not all(np.isfinite(vector).all() for vector in found.values()):
        raise UserError(f"data.vectors={path} has values that are no finite numbers.")
    return found


def table_of(
    vectors: dict[str, Float32[np.ndarray, " features"]], vocabulary: Sequence[str], tokens: int
) -> Float32[np.ndarray, "tokens features"]:
    """Return a row for each token; NaN where there is no vector, which the net draws.

    Args:
        vectors: word -> its vector.
        vocabulary: in the order of the tokens.
        tokens: rows.
    """
    features = len(next(iter(vectors.values())))
    table = np.full((tokens, features), np.nan, np.float32)
    for number, word in enumerate(vocabulary, FIRST):
        if word in vectors:
            table[number] = vectors[word]
    return table
