"""Vectors of words from texts, without a network: singular vectors of the words' associations.

    PYTHONPATH=src .venv/bin/python experiments/text/vectors.py OUT FILE [FILE ...]

Reads text files, plain or compressed as .gz or dictd's .dz, and writes OUT in word2vec's text form.
Words within `WINDOW` of each other in a paragraph are counted, weighted by 1 / distance; the counts
become positive pointwise mutual information with smoothed contexts, of which the first `FEATURES`
left singular vectors are taken, scaled by the roots of the singular values (Levy, Goldberg and
Dagan 2015, "Improving distributional similarity with lessons learned from word embeddings"). All
are then scaled so that their values have the deviation of Kim's random vectors (0.25 / sqrt 3).
"""

import gzip
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds

from deeper.data.words import words_of

FEATURES = 100
WINDOW = 5
LEAST = 10  # times that a word has to occur
MOST = 30_000  # words
SMOOTHING = 0.75  # exponent of the contexts' counts


def main():
    """Read the texts, and write the vectors."""
    out, *files = map(Path, sys.argv[1:])
    texts = [words_of(line) for file in files for line in lines_of(file)]
    counts = Counter(word for text in texts for word in text)
    words = sorted((w for w, n in counts.items() if n >= LEAST), key=lambda w: (-counts[w], w))
    words = words[:MOST]
    vectors = vectors_of(pairs_of(texts, words))
    with out.open("w", encoding="utf-8") as file:
        file.write(f"{len(words)} {FEATURES}\n")
        for word, vector in zip(words, vectors, strict=True):
            file.write(f"{word} {' '.join(f'{value:.5f}' for value in vector)}\n")
    print(f"{sum(counts.values()):,} words of {len(files)} files: {len(words):,} vectors -> {out}")


def lines_of(file):
    """Return the lines of a text, plain or compressed."""
    content = file.read_bytes()
    if content.startswith(b"\x1f\x8b"):
        content = gzip.decompress(content)
    # A paragraph is a line: dictionaries are broken at 70 columns.
    text = content.decode("utf-8", errors="replace").replace("\r\n", "\n")
    return [part.replace("\n", " ") for part in text.split("\n\n")]


def pairs_of(texts, words):
    """Return how often words stand near each other (words, words), sparse."""
    number = {word: i for i, word in enumerate(words)}
    ends = np.cumsum([0, *(len(text) for text in texts)])
    ids = np.array([number.get(word, -1) for text in texts for word in text], np.int32)
    text_of = np.repeat(np.arange(len(texts)), np.diff(ends))
    pairs = csr_matrix((len(words), len(words)))
    for distance in range(1, WINDOW + 1):
        first, second = ids[:-distance], ids[distance:]
        near = (first >= 0) & (second >= 0) & (text_of[:-distance] == text_of[distance:])
        values = np.full(int(near.sum()), 1.0 / distance)
        there = csr_matrix((values, (first[near], second[near])), shape=pairs.shape)
        pairs = pairs + there + there.T
    return pairs


def vectors_of(pairs):
    """Return the words' vectors (words, FEATURES)."""
    pairs = pairs.tocoo()
    of_word = np.asarray(pairs.sum(axis=1)).ravel()
    of_context = of_word**SMOOTHING
    of_context = of_context / of_context.sum()
    information = np.log(pairs.data / (of_word[pairs.row] * of_context[pairs.col]))
    kept = information > 0
    matrix = csr_matrix((information[kept], (pairs.row[kept], pairs.col[kept])), shape=pairs.shape)
    left, values, _ = svds(matrix, FEATURES, random_state=0)
    vectors = left * np.sqrt(values)
    return vectors * (0.25 / np.sqrt(3) / vectors.std())


if __name__ == "__main__":
    main()
