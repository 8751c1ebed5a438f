"""Texts with a class each: how they are stored, and how they become numbers for a net.

A prepared data set is a directory with ``classes.json``, the names of the classes in the order of
their numbers, and a file ``SPLIT.jsonl`` for each split, with a line ``{"text": ..., "label":
NUMBER}`` for each example. How the texts are read, by characters and to which length, is said when
they are opened, so that one prepared data set serves any net.
"""

import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32

from deeper.data.dataset import Dataset, Split
from deeper.data.prepare.atomic_directory import Progress, publish, scratch_directory
from deeper.data.reader import Given, Read
from deeper.errors import UserError
from deeper.record.atomic_files import read_json
from deeper.record.schema import DATA

COLUMN, LABEL = "text", "label"
CLASSES = "classes.json"
PADDING, UNKNOWN, FIRST = 0, 1, 2  # numbers of tokens; characters begin at FIRST
BROUGHT = ("languages", "snippets")  # data sets that are prepared by their name alone
SHOWN = 40  # characters of a text that stand for it

Texts = Mapping[str, Sequence[tuple[str, int]]]  # split -> (text, number of its class)


def is_prepared(directory: Path) -> bool:
    """Return whether a directory holds a prepared data set of texts."""
    return (directory / CLASSES).is_file()


def store(directory: Path, texts: Texts, class_names: Sequence[str], progress: Progress) -> None:
    """Write a data set of texts, whole or not at all.

    Args:
        directory: where it is to be.
        texts: of each split.
        class_names: in the order of their numbers.
        progress: called where another process has to be waited for.
    """
    with scratch_directory(directory.parent, directory.name, progress) as scratch:
        if is_prepared(directory):
            return
        made = scratch / directory.name
        made.mkdir()
        for split, examples in texts.items():
            lines = (json.dumps({"text": t, "label": n}, ensure_ascii=False) for t, n in examples)
            content = "".join(f"{line}\n" for line in lines)
            (made / f"{split}.jsonl").write_text(content, encoding="utf-8")
        names = json.dumps(list(class_names), ensure_ascii=False)
        (made / CLASSES).write_text(names, encoding="utf-8")
        publish(made, directory)


def load(directory: Path, command: str) -> tuple[dict[str, list[tuple[str, int]]], list[str]]:
    """Return the texts of each split with the numbers of their classes, and the classes' names.

    Args:
        directory: of a prepared data set.
        command: that prepares it, for the message.

    Raises:
        UserError: it is not there, or a file is damaged.
    """
    if not is_prepared(directory):
        raise UserError(
            f"The data set {directory.name} is not in {directory.parent.absolute()}: run "
            f"`{command}`, or say data.dir=DIRECTORY."
        )
    names = json.loads((directory / CLASSES).read_text(encoding="utf-8"))
    splits = {}
    for path in sorted(directory.glob("*.jsonl")):
        examples = []
        # Only \n ends a line: a text may hold other characters that str.splitlines divides at.
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1], 1):
            try:
                entry = json.loads(line)
                examples.append((str(entry["text"]), int(entry["label"])))
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{path}, line {number}, is no text with a label: move {directory} away and "
                    f"run `{command}` again."
                ) from error
        splits[path.stem] = examples
    return splits, names


def recorded(run: Path, name: str) -> Any:
    """Return an argument of the reader that a run has recorded.

    Args:
        run: its directory.
        name: of the argument.

    Raises:
        UserError: there is no such run, or its texts are read in another way.
    """
    reader = (read_json(run / DATA) or {}).get("reader") or {}
    if name not in reader:
        raise UserError(
            f"data.vocabulary={run} is no directory of a run whose texts are read by {name}."
        )
    return reader[name]


def load_for_training(dir: str, folder: str) -> tuple[dict[str, list[tuple[str, int]]], list[str]]:
    """Return what `load` does, of a data set that a run is trained on.

    Args:
        dir: where prepared data sets are.
        folder: of the data set in it.

    Raises:
        UserError: it is not prepared, or has no training texts.
    """
    command = f"deeper prepare data={folder}"
    if folder not in BROUGHT:
        command = f"deeper prepare data=texts data.name={folder} data.prepare.source=FILE"
    splits, names = load(Path(dir) / folder, command)
    if not splits.get("train"):
        raise UserError(f"{folder} in {Path(dir).absolute()} has no training texts.")
    return splits, names


@dataclass(frozen=True)
class CharacterReader:
    """Reads texts character by character.

    A text is normalised (Unicode's NFC), runs of white space become one space, letters become
    lower case if asked. Characters beyond ``length`` are cut off; those that are not in the
    alphabet become one token, `UNKNOWN`. A text of white space alone is left out.

    Attributes:
        characters: the alphabet; the token of its i-th character is i + `FIRST`.
        length: tokens of an example; a shorter text is padded at its end with `PADDING`.
        lower: make letters lower case.
    """

    characters: str
    length: int
    lower: bool

    def __call__(self, given: Sequence[Given]) -> Read:
        """Read texts; of a file every line that is not empty is one, of a directory every file."""
        return read_texts(given, self.tokens)

    def tokens(self, texts: Sequence[str]) -> tuple[Int32[np.ndarray, "n length"], dict[str, int]]:
        """Return the texts as tokens, and how many of them were changed in which way."""
        number = {character: i for i, character in enumerate(self.characters, FIRST)}
        rows = np.full((len(texts), self.length), PADDING, np.int32)
        cut = unknown = 0
        for row, text in zip(rows, texts, strict=True):
            clean = normalise(text, lower=self.lower)
            cut += len(clean) > self.length
            found = [number.get(character, UNKNOWN) for character in clean[: self.length]]
            unknown += UNKNOWN in found
            row[: len(found)] = found
        told = {
            f"cut to {self.length} characters": cut,
            "with characters that the net does not know": unknown,
        }
        return rows, {words: count for words, count in told.items() if count}

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """What the tokens from `FIRST` on stand for."""
        return tuple(self.characters)

    def text(self, tokens: Int32[np.ndarray, " length"]) -> str:
        """Return a text as the net reads it."""
        return "".join(self.symbols(tokens))

    def symbols(self, tokens: Int32[np.ndarray, " length"]) -> list[str]:
        """Return what stands at each position of a text, up to its padding."""
        known = {PADDING: "", UNKNOWN: "\N{REPLACEMENT CHARACTER}"}
        used = tokens[: int(np.flatnonzero(tokens).max(initial=-1)) + 1]
        return [known.get(int(n), "") or self.characters[int(n) - FIRST] for n in used]


def normalise(text: str, *, lower: bool) -> str:
    """Return a text in Unicode's NFC, with single spaces, in lower case if asked."""
    clean = " ".join(unicodedata.normalize("NFC", text).split())
    return clean.lower() if lower else clean


def _texts_of(given: Sequence[Given]) -> tuple[list[str], list[str]]:
    """Return texts, those in files too, and a sentence for each file that cannot be read."""
    texts: list[str] = []
    left_out: list[str] = []
    for one in given:
        if isinstance(one, str):
            texts.append(one)
            continue
        files = sorted(path for path in one.rglob("*") if path.is_file()) if one.is_dir() else [one]
        for path in files:
            try:
                content = path.read_text(encoding="utf-8-sig")
            except (OSError, UnicodeDecodeError) as error:
                left_out.append(f"{path} cannot be read as UTF-8 text: {error}.")
                continue
            texts += [line for line in content.split("\n") if line.strip()]
    return texts, left_out


Tokens = Callable[[Sequence[str]], tuple[Int32[np.ndarray, "n length"], dict[str, int]]]


def read_texts(given: Sequence[Given], tokens: Tokens) -> Read:
    """Read texts and files of texts; texts of white space alone are left out.

    Args:
        given: see `CharacterReader.__call__`.
        tokens: texts -> tokens, and how many texts were changed in which way.

    Raises:
        UserError: there is no text.
    """
    texts, left_out = _texts_of(given)
    known = [text for text in texts if normalise(text, lower=False)]
    left_out += ["A text is empty."] * (len(texts) - len(known))
    if not known:
        raise UserError("\n".join(["There is no text to read.", *left_out]))
    rows, changed = tokens(known)
    names = tuple(text if len(text) <= SHOWN else f"{text[:SHOWN]}..." for text in known)
    return Read({COLUMN: rows}, names, tuple(left_out), changed)


def alphabet_of(texts: Sequence[str], *, least: int, lower: bool) -> str:
    """Return the characters that occur so many times in some texts, the most frequent first."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(normalise(text, lower=lower))
    kept = [(count, character) for character, count in counts.items() if count >= least]
    return "".join(character for count, character in sorted(kept, key=lambda p: (-p[0], p[1])))


def characters(
    dir: str,
    folder: str,
    length: int,
    tokens: int,
    least: int = 1,
    lower: bool = False,
    characters: str | None = None,
    vocabulary: str | None = None,
) -> Dataset:
    """Return a prepared data set of texts, read character by character.

    Columns: ``text`` int32 (n, length), 0 behind the end of a text; ``label`` int32 (n,).

    Args:
        dir: where prepared data sets are.
        folder: of the data set in it.
        length: characters of an example; longer texts are cut.
        tokens: that the net knows: padding, the unknown character, and the alphabet.
        least: times that a character has to occur in the training texts to be in the alphabet.
        lower: make letters lower case.
        characters: the alphabet; by default the most frequent ones of the training texts.
        vocabulary: the directory of a run whose alphabet is taken, so that its net can be given
            these texts.

    Raises:
        UserError: it is not prepared, has no training texts, or there is no such run.
    """
    splits, names = load_for_training(dir, folder)
    if vocabulary is not None:
        alphabet = recorded(Path(vocabulary), "characters")
    elif characters is None:
        alphabet = alphabet_of([text for text, _ in splits["train"]], least=least, lower=lower)
    else:
        alphabet = characters
    alphabet = alphabet[: tokens - FIRST]
    reader = CharacterReader(alphabet, length, lower)
    parts = {}
    for split, examples in splits.items():
        rows, _ = reader.tokens([text for text, _ in examples])
        labels = np.array([number for _, number in examples], np.int32)
        parts[split] = Split.of(**{COLUMN: rows, LABEL: labels})
    return Dataset(
        folder,
        parts,
        tuple(names),
        reader={
            "_target_": "deeper.data.text.CharacterReader",
            "characters": alphabet,
            "length": length,
            "lower": lower,
        },
    )
