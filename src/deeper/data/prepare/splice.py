"""StatLog's DNA (Noordewier, Towell and Shavlik 1991): splice junctions in 60 bases.

R's package mlbench holds it as 180 indicator columns, three a base: A is 1 0 0, C is 0 1 0, G is
0 0 1 and T is 0 0 0; its first 2,000 rows are StatLog's training set, the others its test set.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from deeper.data.dna import Examples, is_prepared, store
from deeper.data.prepare.atomic_directory import Progress
from deeper.data.prepare.debian_package import files_of
from deeper.errors import UserError

CLASSES = ("ei", "ie", "n")
FILE = "DNA.rda"
TRAIN = 2000
INSTALL = "pip install rdata"


def splice(
    dir: str,
    name: str,
    source: str | None,
    progress: Progress = lambda what, done, total: None,
) -> Path:
    """Prepare the data set, unless it is prepared, and return its directory.

    Args:
        dir: where prepared data sets are.
        name: of the data set.
        source: Debian's r-cran-mlbench (.deb), its DNA.rda, or a directory of either.
        progress: called where another process has to be waited for.

    Raises:
        UserError: the source is not there or damaged, or the package rdata is not installed.
    """
    directory = Path(dir) / name
    if is_prepared(directory):
        return directory
    table = _read(_content(source))
    try:
        columns = [np.asarray(table[f"V{i}"]).astype(np.int64) for i in range(1, 181)]
        labels = [CLASSES.index(str(one)) for one in table["Class"]]
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{source} is not mlbench's table of DNA: {error}.") from error
    bases = bases_of(np.stack(columns, axis=1))
    splits = {
        "train": Examples(list(bases[:TRAIN]), labels[:TRAIN]),
        "test": Examples(list(bases[TRAIN:]), labels[TRAIN:]),
    }
    store(directory, splits, CLASSES, progress)
    return directory


def bases_of(indicators: Int[np.ndarray, "n columns"]) -> UInt8[np.ndarray, "n length"]:
    """Return numbers of bases of indicator columns, three a base; T has none set."""
    rows = indicators.reshape(len(indicators), -1, 3)
    return np.where(rows.any(axis=-1), rows.argmax(axis=-1) + 1, 4).astype(np.uint8)


def _content(source: str | None) -> bytes:
    """Return DNA.rda."""
    if source is None or not Path(source).exists():
        raise UserError(
            f"data.prepare.source={source} is not there: run `apt-get download r-cran-mlbench` in "
            "a directory, and give that directory."
        )
    path = Path(source)
    if path.is_dir():
        found = sorted([*path.glob(FILE), *path.glob("r-cran-mlbench_*.deb")])
        if not found:
            raise UserError(
                f"data.prepare.source={source} has neither {FILE} nor r-cran-mlbench_*.deb: "
                "`apt-get download r-cran-mlbench` fetches it."
            )
        path = found[0]
    if path.suffix != ".deb":
        return path.read_bytes()
    for name, content in files_of(path):
        if Path(name).name == FILE:
            return content
    raise UserError(f"{path} holds no {FILE}: it has to be Debian's r-cran-mlbench.")


def _read(content: bytes) -> Any:
    """Return the table of DNA.rda, a pandas frame."""
    try:
        import rdata
    except ImportError as error:
        raise UserError(
            f"R's files are read by the Python package rdata, which is missing: run `{INSTALL}` "
            "and prepare again; training does not need it."
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "Unknown encoding. Assumed ASCII.", which it is
            tables = rdata.conversion.convert(rdata.parser.parse_data(content))
    except (ValueError, NotImplementedError, EOFError, OSError) as error:
        raise UserError(f"{FILE} is damaged: {error}.") from error
    if "DNA" not in tables:
        raise UserError(f"{FILE} holds no table DNA, but {', '.join(tables) or 'nothing'}.")
    return tables["DNA"]
