"""DNA sequences with labels: how they are stored, and how they become numbers for a net.

A prepared data set is a directory with ``about.json`` (the classes in the order of their numbers,
and what was done to sequences), and for each split three arrays: ``SPLIT-bases.npy``, all sequences
one after the other; ``SPLIT-lengths.npy``; and ``SPLIT-labels.npy``, numbers of classes (n,) or 0
and 1 (n, labels). The length of an example is said when the data set is opened, so that one
prepared data set serves any net.
"""

import gzip
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from deeper.data.dataset import Dataset, Split
from deeper.data.prepare.atomic_directory import Progress, publish, scratch_directory
from deeper.data.reader import Given, Read
from deeper.errors import UserError

COLUMN, LABEL = "dna", "label"
ABOUT = "about.json"
BASES = "ACGT"  # the base of number i is BASES[i - 1]
UNKNOWN = 0  # an unknown base, and what is beyond the ends of a sequence
AMBIGUOUS = "NRYSWKMBDHVX"  # IUPAC's letters for "one of several bases", and X
_NO_LETTER = 255

# What is done to sequences, in words, of which a count is kept.
LOWER = "in lower case, read as upper case"
RNA = "with U, read as T"
NOT_KNOWN = "with bases that are not known"

Bases = UInt8[np.ndarray, " length"]


def _letters() -> UInt8[np.ndarray, " 256"]:
    numbers = np.full(256, _NO_LETTER, np.uint8)
    for letters, number in [(AMBIGUOUS, UNKNOWN), ("U", 4), *zip(BASES, range(1, 5))]:
        for letter in letters + letters.lower():
            numbers[ord(letter)] = number
    return numbers


_NUMBERS = _letters()


def encode(sequence: str, changed: Counter[str]) -> Bases:
    """Return the numbers of a sequence's bases.

    Letters in lower case (masked repeats) are read as upper case, U as T, and IUPAC's letters for
    several bases as unknown.

    Args:
        sequence: white space in it is ignored.
        changed: what was done -> how many sequences it was done to; counted up here.

    Raises:
        UserError: it is empty, has no known base, or a character that stands for none.
    """
    text = "".join(sequence.split())
    letters = np.frombuffer(text.encode("ascii", errors="replace"), np.uint8)
    numbers = _NUMBERS[letters]
    if (numbers == _NO_LETTER).any():
        wrong = text[int(np.flatnonzero(numbers == _NO_LETTER)[0])]
        raise UserError(f"{shown(text)} is no DNA: the character {wrong!r} stands for no base.")
    if not numbers.any():
        raise UserError(f"{shown(text)} has no known base." if text else "A sequence is empty.")
    upper = text.upper()
    changed[LOWER] += text != upper
    changed[RNA] += "U" in upper
    changed[NOT_KNOWN] += bool((numbers == UNKNOWN).any())
    return numbers


def shown(sequence: str) -> str:
    """Return the beginning of a sequence, to stand for it."""
    return sequence if len(sequence) <= 24 else f"{sequence[:24]}..."


def fit(bases: Bases, length: int) -> Bases:
    """Return the middle of a sequence, or the sequence in the middle of unknown bases."""
    missing = length - len(bases)
    if missing <= 0:
        return bases[-missing // 2 :][:length]
    return np.pad(bases, (missing // 2, missing - missing // 2), constant_values=UNKNOWN)


def letters_of(bases: Bases) -> str:
    """Return a sequence's letters, N for an unknown base."""
    return "".join(("N" + BASES)[number] for number in bases)


def reverse_complement(bases: Bases) -> Bases:
    """Return the other strand, read in its own direction."""
    other = bases[::-1]
    return np.where(other == UNKNOWN, UNKNOWN, 5 - other).astype(np.uint8)


def read_fasta(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (header, sequence) of each entry of a FASTA file, which may be compressed (.gz).

    Raises:
        UserError: it cannot be read, or begins otherwise than with ``>``.
    """
    header: str | None = None
    lines: list[str] = []
    for number, line in enumerate(lines_of(path), 1):
        if line.startswith(">"):
            if header is not None:
                yield header, "".join(lines)
            header, lines = line[1:].strip(), []
        elif header is None:
            if line.strip():
                raise UserError(f"{path}, line {number}: a FASTA file begins with `>NAME`.")
        else:
            lines.append(line.strip())
    if header is not None:
        yield header, "".join(lines)


def lines_of(path: Path) -> Iterator[str]:
    """Yield the lines of a text file, which may be compressed (.gz).

    Raises:
        UserError: it cannot be read.
    """
    opener: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig") as file:
            for line in file:
                yield line.rstrip("\r\n")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text: {error}.") from error


@dataclass(frozen=True)
class DnaReader:
    """Reads DNA sequences.

    Of longer sequences the middle is taken, shorter ones stand in the middle of unknown bases; the
    letters are read as `encode` says. A sequence that cannot be read is left out.

    Attributes:
        length: bases of an example.
    """

    length: int

    def __call__(self, given: Sequence[Given]) -> Read:
        """Read sequences; of a file its FASTA entries, or every line that is not empty."""
        left_out: list[str] = []
        changed: Counter[str] = Counter()
        rows, names = [], []
        for name, sequence in _sequences_of(given, left_out):
            try:
                bases = encode(sequence, changed)
            except UserError as error:
                left_out.append(str(error))
                continue
            rows.append(self.row(bases, changed))
            names.append(name)
        if not rows:
            raise UserError("\n".join(["There is no sequence to read.", *left_out]))
        counts = {words: count for words, count in changed.items() if count}
        return Read({COLUMN: np.stack(rows)}, tuple(names), tuple(left_out), counts)

    def row(self, bases: Bases, changed: Counter[str]) -> Bases:
        """Return a sequence at this reader's length."""
        changed[f"cut to the middle {self.length} bases"] += len(bases) > self.length
        changed[f"filled up to {self.length} bases"] += len(bases) < self.length
        return fit(bases, self.length)

    def text(self, bases: Bases) -> str:
        """Return a sequence as letters."""
        return letters_of(bases)

    def symbols(self, bases: Bases) -> list[str]:
        """Return the letter at each position."""
        return list(letters_of(bases))


def _sequences_of(given: Sequence[Given], left_out: list[str]) -> Iterator[tuple[str, str]]:
    """Yield (name, sequence); a sentence for each file that cannot be read is appended."""
    for one in given:
        if isinstance(one, str):
            yield shown(one), one
            continue
        files = sorted(path for path in one.rglob("*") if path.is_file()) if one.is_dir() else [one]
        for path in files:
            try:
                first = next((line for line in lines_of(path) if line.strip()), "")
                if first.startswith(">"):
                    yield from read_fasta(path)
                else:
                    yield from ((shown(line), line) for line in lines_of(path) if line.strip())
            except UserError as error:
                left_out.append(str(error))


@dataclass
class Examples:
    """Sequences of a split with their labels, as they are gathered for `store`.

    Attributes:
        bases: numbers of the bases of each sequence.
        labels: number of the class, or 0 and 1 by label, of each.
    """

    bases: list[Bases] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)

    def add(self, bases: Bases, label: Any) -> None:
        """Append an example."""
        self.bases.append(bases)
        self.labels.append(label)


def is_prepared(directory: Path) -> bool:
    """Return whether a directory holds a prepared data set of DNA."""
    return (directory / ABOUT).is_file()


def store(
    directory: Path,
    splits: Mapping[str, Examples],
    class_names: Sequence[str],
    progress: Progress,
    *,
    changed: Mapping[str, int] | None = None,
    left_out: Mapping[str, int] | None = None,
    arrays: Mapping[str, np.ndarray] | None = None,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write a data set of DNA, whole or not at all.

    Args:
        directory: where it is to be.
        splits: sequences and labels of each.
        class_names: in the order of their numbers.
        progress: called where another process has to be waited for.
        changed: what was done to sequences -> to how many.
        left_out: reason -> sequences that were left out.
        arrays: further files NAME.npy.
        more: further entries of ``about.json``.
    """
    with scratch_directory(directory.parent, directory.name, progress) as scratch:
        if is_prepared(directory):
            return
        made = scratch / directory.name
        made.mkdir()
        for split, examples in splits.items():
            labels = np.array(examples.labels)
            lengths = np.array([len(bases) for bases in examples.bases], np.int32)
            joined = np.concatenate([np.zeros(0, np.uint8), *examples.bases])
            np.save(made / f"{split}-bases.npy", joined)
            np.save(made / f"{split}-lengths.npy", lengths)
            np.save(made / f"{split}-labels.npy", labels.astype(np.int32))
        for name, array in (arrays or {}).items():
            np.save(made / f"{name}.npy", array)
        about = {
            "classes": list(class_names),
            "changed": {words: count for words, count in (changed or {}).items() if count},
            "left_out": dict(left_out or {}),
            **(more or {}),
        }
        (made / ABOUT).write_text(json.dumps(about, indent=1), encoding="utf-8")
        publish(made, directory)


def _rows(directory: Path, split: str, length: int) -> UInt8[np.ndarray, "n length"]:
    """Return a split's sequences at one length; from the disk when they are needed, if they fit."""
    lengths = np.load(directory / f"{split}-lengths.npy")
    joined = np.load(directory / f"{split}-bases.npy", mmap_mode="r")
    if (lengths == length).all():
        return joined.reshape(-1, length)
    ends = np.cumsum(lengths)
    rows = np.zeros((len(lengths), length), np.uint8)
    for row, first, end in zip(rows, ends - lengths, ends, strict=True):
        row[:] = fit(joined[first:end], length)
    return rows


def sequences(dir: str, folder: str, length: int, several_labels: bool = False) -> Dataset:
    """Return a prepared data set of DNA.

    Columns: ``dna`` uint8 (n, length), 1 to 4 for A, C, G and T, 0 for an unknown base; ``label``
    int32 (n,), or (n, labels) of 0 and 1. Of longer sequences the middle is taken, shorter ones
    stand in the middle of unknown bases.

    Args:
        dir: where prepared data sets are.
        folder: of the data set in it.
        length: bases of an example.
        several_labels: what the run's task expects.

    Raises:
        UserError: it is not prepared, is damaged, or has labels of the other kind.
    """
    directory = Path(dir) / folder
    if not is_prepared(directory):
        raise UserError(
            f"The data set {folder} is not in {Path(dir).absolute()}: `deeper prepare` with the "
            "same data=NAME makes it, or say data.dir=DIRECTORY."
        )
    parts: dict[str, Split] = {}
    try:
        about = json.loads((directory / ABOUT).read_text(encoding="utf-8"))
        names: Sequence[str] = about["classes"]
        for path in sorted(directory.glob("*-labels.npy")):
            split = path.name.removesuffix("-labels.npy")
            columns = {COLUMN: _rows(directory, split, length), LABEL: np.load(path)}
            parts[split] = Split.of(**columns)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{directory} is damaged ({error}): move it away and prepare the data set again."
        ) from error
    several = any(part.labels.ndim == 2 for part in parts.values())
    if several != several_labels:
        raise UserError(
            f"The sequences of {folder} have {'several labels' if several else 'one class'} each: "
            f"say task.several_labels={str(several).lower()}."
        )
    return Dataset(
        folder,
        parts,
        tuple(names),
        reader={"_target_": "deeper.data.dna.DnaReader", "length": length},
    )
