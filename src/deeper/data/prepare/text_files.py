"""A user's own texts: a table of texts and labels, or a folder of text files for each class."""

import csv
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from deeper.data.prepare.atomic_directory import Progress
from deeper.data.text import is_prepared, normalise, store
from deeper.errors import UserError

TABLES = (".csv", ".tsv", ".jsonl")
SPLITS = ("train", "test")


def texts(
    dir: str,
    name: str,
    source: str | None,
    text: str,
    label: str,
    fraction: float,
    progress: Progress = lambda what, done, total: None,
) -> tuple[Path, list[str]]:
    """Prepare texts of one's own, unless they are prepared.

    A row or a file without a text, and a row without a label, are left out. Without a test split,
    a share of each class is tested on, chosen by the texts themselves, so that a text that is
    there twice is on one side.

    Args:
        dir: where prepared data sets are.
        name: of the data set.
        source: a table, which is a file of `TABLES`; a directory of ``train`` and ``test`` as such
            files or as directories of ``CLASS/FILE``; or a directory of ``CLASS/FILE``.
        text: the table's column of texts.
        label: the table's column of labels; each that occurs is a class.
        fraction: share of each class that is tested on, if the source has no test split.
        progress: called where another process has to be waited for.

    Returns:
        Its directory, and sentences on what was left out.

    Raises:
        UserError: the source is not there, is no such thing, or has fewer than two classes.
    """
    directory = Path(dir) / name
    if is_prepared(directory):
        if source is None:
            return directory, []
        return directory, [
            f"{name} was prepared before: data.prepare.source={source} was not looked at. To "
            f"prepare it anew, move {directory} away and repeat the command."
        ]
    if source is None:
        raise UserError(
            f"Say where the texts of {name} are: data.prepare.source=FILE, a .csv, .tsv or .jsonl "
            "of texts and labels, or a directory with a folder of text files for each class."
        )
    left_out: Counter[str] = Counter()
    rows = {
        split: list(_read(part, text, label, left_out))
        for split, part in _parts(Path(source)).items()
    }
    classes = sorted({of_text for some in rows.values() for _, of_text in some})
    if len(classes) < 2:
        raise UserError(
            f"data.prepare.source={source} has "
            + (f"one class alone, {classes[0]}." if classes else "no texts with labels.")
            + " A net is trained on two or more."
        )
    if "test" not in rows:
        rows = _divided(rows["train"], fraction)
    number = {one: i for i, one in enumerate(classes)}
    store(
        directory,
        {split: [(one, number[of]) for one, of in some] for split, some in rows.items()},
        classes,
        progress,
    )
    return directory, [f"{count:,} {what} left out." for what, count in left_out.items()]


def _parts(source: Path) -> dict[str, Path]:
    """Return what holds each split of a source; the whole of it is ``train`` without a test."""
    if source.is_file():
        return {"train": source}
    if not source.is_dir():
        raise UserError(f"data.prepare.source={source}: there is no such file or directory.")
    found = {}
    for split in SPLITS:
        places = [source / split, *(source / f"{split}{suffix}" for suffix in TABLES)]
        there = [place for place in places if place.exists()]
        if len(there) > 1:
            raise UserError(f"{source} has {' and '.join(p.name for p in there)}: leave one.")
        if there:
            found[split] = there[0]
    return found if "train" in found else {"train": source}


def _read(part: Path, text: str, label: str, left_out: Counter[str]) -> Iterator[tuple[str, str]]:
    """Yield texts and their classes' names; what has none is counted."""
    for content, of in _of_folders(part, left_out) if part.is_dir() else _table(part, text, label):
        if not normalise(content, lower=False):
            left_out["empty texts"] += 1
        elif not of:
            left_out["texts without a label"] += 1
        else:
            yield content, of


def _of_folders(part: Path, left_out: Counter[str]) -> Iterator[tuple[str, str]]:
    for folder in sorted(path for path in part.iterdir() if path.is_dir()):
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            try:
                yield file.read_text(encoding="utf-8-sig"), folder.name
            except (OSError, UnicodeDecodeError):
                left_out["files that are no UTF-8 text"] += 1


def _table(path: Path, text: str, label: str) -> Iterator[tuple[str, str]]:
    """Yield the two columns of a table.

    Raises:
        UserError: it cannot be read, or has not these columns.
    """
    if path.suffix not in TABLES:
        raise UserError(f"{path} is none of {', '.join(TABLES)}.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix == ".jsonl":
                rows: Iterator[tuple[int, object]] = (
                    (number, json.loads(line))
                    for number, line in enumerate(file, 1)
                    if line.strip()
                )
            else:
                csv.field_size_limit(sys.maxsize)
                table = csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
                rows = ((table.line_num, row) for row in table)
            for number, row in rows:
                if not isinstance(row, dict) or text not in row or label not in row:
                    there = ", ".join(map(str, row)) if isinstance(row, dict) else "no columns"
                    raise UserError(
                        f"{path}, line {number}, has {there}: say which are the text and the label "
                        "by data.prepare.text=NAME and data.prepare.label=NAME."
                    )
                yield _plain(row[text]), _plain(row[label])
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a table in UTF-8: {error}.") from error


def _plain(value: object) -> str:
    return "" if value is None else str(value).strip()


def _divided(rows: list[tuple[str, str]], fraction: float) -> dict[str, list[tuple[str, str]]]:
    """Divide texts of each class by the texts themselves; at least one is tested on."""
    by_class: dict[str, set[str]] = {}
    for text, of in rows:
        by_class.setdefault(of, set()).add(text)
    tested = set()
    for some in by_class.values():
        ordered = sorted(some, key=lambda one: hashlib.sha256(one.encode()).digest())
        tested |= set(ordered[: max(1, round(fraction * len(ordered)))])
    return {
        "train": [row for row in rows if row[0] not in tested],
        "test": [row for row in rows if row[0] in tested],
    }
