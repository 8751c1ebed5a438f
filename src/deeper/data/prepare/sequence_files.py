"""DNA of one's own: tables, FASTA and BED files, and one-hot arrays of DeepSEA's form."""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deeper.data.dna import (
    ABOUT,
    BASES,
    UNKNOWN,
    Bases,
    Examples,
    encode,
    is_prepared,
    lines_of,
    read_fasta,
    reverse_complement,
    store,
)
from deeper.data.prepare.atomic_directory import Progress
from deeper.errors import UserError

SPLITS = {"train": "train", "test": "test", "valid": "validation", "validation": "validation"}
FASTA = (".fa", ".fasta", ".fna")
TABLES = {".csv": ",", ".tsv": "\t"}
ARRAYS = (".npz", ".mat", ".h5", ".hdf5")
COLUMNS = ("sequence", "label")
HDF5 = b"\x89HDF\r\n\x1a\n"  # first bytes
_SHARES = 10_000  # hashes are compared with the fraction in such steps


@dataclass
class Gathered:
    """Sequences that were read, with the number of those that were left out or changed.

    Attributes:
        examples: (split or None, sequence, class).
        changed: what was done -> sequences it was done to.
        left_out: reason -> sequences.
    """

    examples: list[tuple[str | None, Bases, str]] = field(default_factory=list)
    changed: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, split: str | None, sequence: str, label: str) -> None:
        """Append a sequence, or count it as left out."""
        if not label:
            self.left_out["without a label"] += 1
            return
        try:
            self.examples.append((split, encode(sequence, self.changed), label))
        except UserError:
            self.left_out["empty, without a known base, or with characters that are none"] += 1


def sequence_files(
    dir: str,
    name: str,
    source: str | None,
    genome: str | None = None,
    chromosomes: Sequence[str] = (),
    bases: str = BASES,
    fraction: float = 0.1,
    progress: Progress = lambda what, done, total: None,
) -> tuple[Path, list[str]]:
    """Prepare a data set of a user's own sequences, unless it is prepared.

    Args:
        dir: where prepared data sets are.
        name: of the data set.
        source: a table, a directory of FASTA files, BED files or arrays; see conf/data/sequences.
        genome: FASTA file that BED files refer to.
        chromosomes: of BED files, that are tested on.
        bases: order of the bases in one-hot arrays.
        fraction: share that is tested on where the source is not divided.
        progress: called where another process has to be waited for.

    Returns:
        Its directory, and sentences on what was read.

    Raises:
        UserError: the source cannot be read as any of these, or has fewer than two classes.
    """
    directory = Path(dir) / name
    if not is_prepared(directory):
        path = Path(source) if source is not None else None
        if path is None or not path.exists():
            raise UserError(
                f"data.prepare.source={source} is not there: give a table, a directory of FASTA "
                "files, or what else conf/data/sequences.yaml lists."
            )
        if not 0.0 < fraction < 1.0:
            raise UserError(f"data.prepare.fraction={fraction}: give a share between 0 and 1.")
        arrays = _array_files(path)
        if arrays:
            splits, names = read_arrays(arrays, bases)
            store(directory, splits, names, progress)
        else:
            gathered = _read(path, genome, chromosomes)
            splits, names = divide(gathered, fraction, path)
            left_out, changed = dict(gathered.left_out), gathered.changed
            store(directory, splits, names, progress, changed=changed, left_out=left_out)
    return directory, _sentences(directory)


def _sentences(directory: Path) -> list[str]:
    about = json.loads((directory / ABOUT).read_text(encoding="utf-8"))
    counts = {
        path.name.removesuffix("-lengths.npy"): len(np.load(path, mmap_mode="r"))
        for path in sorted(directory.glob("*-lengths.npy"))
    }
    splits = ", ".join(f"{split} {count:,}" for split, count in counts.items())
    names = about["classes"]
    sentences = [f"Sequences: {splits}; data.classes={len(names)}: {', '.join(names[:10])}."]
    sentences += [f"{n:,} sequences are left out: {why}." for why, n in about["left_out"].items()]
    return sentences + [f"{n:,} sequences {what}." for what, n in about["changed"].items()]


def _read(path: Path, genome: str | None, chromosomes: Sequence[str]) -> Gathered:
    gathered = Gathered()
    if path.is_file() and _suffix(path) in TABLES:
        _read_table(path, gathered)
    elif beds := _files(path, (".bed",)):
        if genome is None:
            raise UserError(f"{path} needs data.prepare.genome=FASTA: the file it refers to.")
        _read_beds(beds, path.is_dir(), Path(genome), chromosomes, gathered)
    elif path.is_dir():
        whole: dict[str, str | None] = {".": None}
        parts: dict[str, str | None] = {
            folder: split for folder, split in SPLITS.items() if (path / folder).is_dir()
        }
        for folder, split in (parts or whole).items():
            for file in _files(path / folder, FASTA):
                for _, sequence in read_fasta(file):
                    gathered.add(split, sequence, _stem(file))
    if not gathered.examples:
        raise UserError(
            f"data.prepare.source={path} has no sequence that can be read: give a table (.csv, "
            ".tsv) with columns sequence and label, a directory of FASTA files (.fa), a class "
            "each, BED files and data.prepare.genome, or arrays of DeepSEA's form."
            + "".join(f" {n:,} are left out: {why}." for why, n in gathered.left_out.items())
        )
    return gathered


def _suffix(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def _stem(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).stem


def _files(path: Path, suffixes: Sequence[str]) -> list[Path]:
    """Return the path itself, or the files in it, that have one of some suffixes."""
    found = [path] if path.is_file() else sorted(path.iterdir())
    return [one for one in found if one.is_file() and _suffix(one) in suffixes]


def _read_table(path: Path, gathered: Gathered) -> None:
    rows = csv.DictReader(lines_of(path), delimiter=TABLES[_suffix(path)])
    missing = [column for column in COLUMNS if column not in (rows.fieldnames or ())]
    if missing:
        raise UserError(
            f"{path} has no column {missing[0]}, but {', '.join(rows.fieldnames or ['nothing'])}: "
            f"its first line has to name the columns {' and '.join(COLUMNS)}."
        )
    for number, row in enumerate(rows, 2):
        split = row.get("split")
        if split and split not in SPLITS:
            raise UserError(f"{path}, row {number}: split={split} is none of {', '.join(SPLITS)}.")
        # A short row gives None.
        sequence, label = (row[column] or "" for column in COLUMNS)
        gathered.add(SPLITS[split] if split else None, sequence, label.strip())


def _read_beds(
    beds: Sequence[Path],
    by_file: bool,
    genome: Path,
    chromosomes: Sequence[str],
    gathered: Gathered,
) -> None:
    """Cut the regions of BED files (0-based, the end excluded) out of a genome."""
    regions: dict[str, list[tuple[int, int, str, str]]] = {}
    for bed in beds:
        for number, line in enumerate(lines_of(bed), 1):
            if not line.strip() or line.startswith(("#", "track", "browser")):
                continue
            cells = line.split("\t") if "\t" in line else line.split()
            try:
                chromosome, begin, end = cells[0], int(cells[1]), int(cells[2])
                label = _stem(bed) if by_file else cells[3]
            except (IndexError, ValueError) as error:
                raise UserError(
                    f"{bed}, line {number}, is no region: chromosome, begin, end"
                    f"{'' if by_file else ' and class'} are needed."
                ) from error
            strand = cells[5] if len(cells) > 5 else "+"
            regions.setdefault(chromosome, []).append((begin, end, label, strand))
    tested = set(chromosomes)
    for header, sequence in read_fasta(genome):
        chromosome = (header.split() or [""])[0]
        for begin, end, label, strand in regions.pop(chromosome, ()):
            if not 0 <= begin < end <= len(sequence):
                gathered.left_out["beyond the end of its chromosome"] += 1
                continue
            split = None if not tested else "test" if chromosome in tested else "train"
            before = len(gathered.examples)
            gathered.add(split, sequence[begin:end], label)
            if strand == "-" and len(gathered.examples) > before:
                _, bases, label = gathered.examples[-1]
                gathered.examples[-1] = (split, reverse_complement(bases), label)
    absent = sum(map(len, regions.values()))
    if absent:
        gathered.left_out[f"of chromosomes that {genome.name} has not"] += absent


def divide(
    gathered: Gathered, fraction: float, source: Path
) -> tuple[dict[str, Examples], list[str]]:
    """Return the splits and the classes' names, in the order of the alphabet.

    Where the source says no split, it is a function of the sequence, the same for both strands.

    Raises:
        UserError: there are fewer than two classes, or nothing to train or to test on.
    """
    names = sorted({label for _, _, label in gathered.examples})
    if len(names) < 2:
        raise UserError(f"data.prepare.source={source} has one class, {names[0]}: two are needed.")
    numbers = {name: number for number, name in enumerate(names)}
    splits: dict[str, Examples] = {}
    for split, bases, label in gathered.examples:
        if split is None:
            strand = min(bases.tobytes(), reverse_complement(bases).tobytes())
            drawn = int.from_bytes(hashlib.sha256(strand).digest()[:8], "big") % _SHARES
            split = "test" if drawn < fraction * _SHARES else "train"
        splits.setdefault(split, Examples()).add(bases, numbers[label])
    missing = [split for split in ("train", "test") if split not in splits]
    if missing:
        raise UserError(
            f"data.prepare.source={source} has no sequence in the split {missing[0]}: it has "
            f"{', '.join(f'{len(e.labels):,} in {split}' for split, e in splits.items())}."
        )
    return splits, names


# --- one-hot arrays ------------------------------------------------------------------------------


def _array_files(path: Path) -> dict[str, Path]:
    """Return split -> file of arrays in a directory."""
    if not path.is_dir():
        return {}
    return {SPLITS[_stem(f)]: f for f in _files(path, ARRAYS) if _stem(f) in SPLITS}


def read_arrays(files: dict[str, Path], order: str) -> tuple[dict[str, Examples], list[str]]:
    """Return splits of one-hot sequences, and names of the labels.

    Of each file the array whose name is or ends in ``x`` or ``xdata`` holds sequences, (n, 4,
    length) or (n, length, 4), the other one labels, (n,) or (n, labels). A file in MATLAB's or
    HDF5's format may have the axes in the opposite order, as MATLAB writes them.

    Raises:
        UserError: a file has no such arrays.
    """
    if sorted(order) != sorted(BASES):
        raise UserError(f"data.prepare.bases={order}: give the four letters of {BASES}.")
    numbers = np.array([BASES.index(base) + 1 for base in order], np.uint8)
    splits, columns = {}, set()
    for split, path in files.items():
        sequences, labels = _sequences_and_labels(path)
        examples = Examples()
        for one, label in zip(_bases_of(sequences, numbers), labels, strict=True):
            examples.add(one, label)
        splits[split] = examples
        columns.add(labels.shape[1] if labels.ndim == 2 else int(labels.max(initial=0)) + 1)
    absent = [split for split in ("train", "test") if split not in splits]
    if absent:
        raise UserError(f"There is no file of arrays for {absent[0]}, but for {', '.join(splits)}.")
    return splits, [str(number) for number in range(max(columns))]


def _bases_of(one_hot: np.ndarray, numbers: np.ndarray) -> Iterator[Bases]:
    for row in one_hot:
        yield np.where(row.any(axis=-1), numbers[row.argmax(axis=-1)], UNKNOWN).astype(np.uint8)


def _sequences_and_labels(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return one-hot sequences (n, length, 4) and labels (n, ...)."""
    arrays = _arrays(path)
    x = [name for name in arrays if name == "x" or name.endswith(("_x", "xdata"))]
    others = [name for name in arrays if name not in x]
    if len(x) != 1 or len(others) != 1:
        raise UserError(
            f"{path} holds {', '.join(arrays) or 'nothing'}: one array of sequences is needed, "
            "whose name is x or ends in xdata, and one of labels."
        )
    sequences, labels = arrays[x[0]], arrays[others[0]]
    if sequences.ndim == 3 and 4 not in sequences.shape[1:] and sequences.shape[0] == 4:
        sequences = sequences.T
    if sequences.ndim == 3 and sequences.shape[2] != 4 and sequences.shape[1] == 4:
        if len(labels) != len(sequences) and labels.shape[-1] == sequences.shape[2]:
            sequences = sequences.transpose(2, 0, 1)  # MATLAB's order: (length, 4, n)
        else:
            sequences = sequences.swapaxes(1, 2)
    if labels.ndim == 2 and len(labels) != len(sequences):
        labels = labels.T
    if sequences.ndim != 3 or sequences.shape[2] != 4 or len(labels) != len(sequences):
        raise UserError(
            f"{path}: sequences of shape {arrays[x[0]].shape} and labels of shape "
            f"{arrays[others[0]].shape} do not fit: (n, 4, length) and (n, labels) are needed."
        )
    return sequences, labels


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a file by their names."""
    try:
        if path.suffix == ".npz":
            with np.load(path) as file:
                return {name: file[name] for name in file.files}
        if path.suffix == ".mat" and not _is_hdf5(path):
            from scipy.io import loadmat

            found: dict[str, Any] = loadmat(path)
            return {name: value for name, value in found.items() if not name.startswith("__")}
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from error
    return _arrays_of_hdf5(path)


def _is_hdf5(path: Path) -> bool:
    """Tell whether a file is in HDF5, as MATLAB writes since 7.3, behind a block of its own."""
    with path.open("rb") as file:
        head = file.read(520)
    return HDF5 in (head[:8], head[512:])


def _arrays_of_hdf5(path: Path) -> dict[str, np.ndarray]:
    try:
        import h5py
    except ImportError as error:
        raise UserError(
            f"{path} is in HDF5, which the Python package h5py reads, and that is missing: run "
            "`pip install h5py` and prepare again; training does not need it."
        ) from error
    try:
        with h5py.File(path) as file:
            return {name: file[name][()] for name in file}
    except (OSError, TypeError) as error:
        raise UserError(f"{path} cannot be read as HDF5: {error}.") from error
