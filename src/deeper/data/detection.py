"""Data sets of photographs with boxes: the columns that a detector's task reads.

A prepared data set is a directory of array_record files as for classification, the photographs'
files in it unchanged, or one that TFDS wrote, with tables of the boxes beside them (`box_tables`).
Nothing of the boxes depends on the size at which a net is shown the photographs (`canvas`).
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from deeper.data import array_records, jpeg
from deeper.data.array_cache import places
from deeper.data.box_tables import (
    AGAIN,
    BOXES,
    NO_OBJECT,
    Boxes,
    Classes,
    joined,
    read_boxes,
    read_classes,
    without_boxes,
)
from deeper.data.canvas import Canvas, FittedPhotographs
from deeper.data.dataset import Dataset, Split, prepared_directory
from deeper.data.fingerprint import content_of
from deeper.data.image_files import pictures_below
from deeper.data.reader import Given, Read
from deeper.errors import UserError
from deeper.platform_support import core_count

IN_MEMORY = 4 << 30  # bytes of decoded photographs, up to which memory=auto keeps them
CHUNK = 64  # photographs a task


def detection(
    dir: str,
    folder: str,
    canvas: Sequence[int],
    most_boxes: int,
    shorter_side: int | None = None,
    longer_side: int | None = None,
    antialias: bool | Literal["fast"] = True,
    splits: Mapping[str, Sequence[str]] | None = None,
    memory: bool | Literal["auto"] = "auto",
    workers: int | None = None,
    processes: bool | Literal["auto"] = "auto",
) -> Dataset:
    """Return a prepared data set of photographs with boxes.

    Columns, of n photographs with M boxes at most:

    - ``image`` uint8 (n, H, W, 3): fitted into the canvas, see `Canvas`.
    - ``size`` float32 (n, 2): height and width of the part of the canvas that it fills;
      ``original`` float32 (n, 2): of the upright photograph.
    - ``boxes`` float32 (n, M, 4): in pixels of the canvas, zeros where there is none; ``labels``
      int32 (n, M), -1 where there is none; ``crowd``, ``difficult`` bool (n, M); ``area`` float32
      (n, M): of the object in pixels of the photograph.
    - ``number`` int32 (n,): row in the split's table of photographs (`tables_of`).

    Args:
        dir: where prepared data sets are.
        folder: of the data set in it: its name, or the name in TFDS with a config.
        canvas: height and width.
        most_boxes: M.
        shorter_side: see `Canvas`.
        longer_side: see `Canvas`.
        antialias: see `crops.cut_into`.
        splits: split of a run -> stored splits that it consists of; by default those of the same
            names.
        memory: decode all photographs once, into arrays beside the records; auto: where they have
            no more than 4 GiB.
        workers: that decode batches at a time; the run reads it. None: one per core.
        processes: decode batches in processes, not threads; the run reads it.

    Raises:
        UserError: it is not prepared, a file is damaged, or a photograph has more boxes.
    """
    del workers, processes
    directory = prepared_directory(folder, Path(dir))
    if directory is None:
        raise UserError(
            f"The data set {folder} is not in {Path(dir).absolute()}: run `deeper prepare` with "
            "the same data=..., or say data.dir=DIRECTORY."
        )
    height, width = canvas
    shown = Canvas(height, width, shorter_side, longer_side, antialias)
    classes = read_classes(directory)
    parts = _parts(directory, splits)
    stored = sorted({one for some in parts.values() for one in some})
    content = content_of(directory, _ignore_progress, stored)
    digest = hashlib.sha256(content.encode())
    tables = {split: read_boxes(directory, split) for split in stored}
    for split, table in tables.items():
        _require_same_records(directory, split, table)
        for one in fields(table):
            values = np.ascontiguousarray(getattr(table, one.name))
            digest.update(f"{split} {one.name} {values.dtype} {values.shape}".encode())
            digest.update(values.tobytes())
    opened = {}
    for split, names in parts.items():
        table = joined([tables[name] for name in names])
        images: Any = _photographs(directory, names, [len(tables[name]) for name in names], shown)
        size = int(np.prod(images.shape))
        if memory is True or (memory == "auto" and size <= IN_MEMORY):
            images = _decoded(images, directory, content)
        opened[split] = Split.of(image=images, **columns_of(table, shown, most_boxes))
    return Dataset(
        folder,
        opened,
        classes.names,
        digest.hexdigest(),
        (shown.height, shown.width, 3),
        reader={
            "_target_": "deeper.data.detection.PhotographReader",
            "canvas": [shown.height, shown.width],
            "shorter_side": shorter_side,
            "longer_side": longer_side,
            "antialias": antialias,
        },
    )


def tables_of(
    dir: str, folder: str, splits: Mapping[str, Sequence[str]] | None = None, **others: Any
) -> tuple[dict[str, Boxes], Classes]:
    """Return what `detection` with these arguments has of each split: its photographs and boxes.

    The column ``number`` counts the photographs of a split's table.

    Raises:
        UserError: it is not prepared, or a file is damaged.
    """
    del others
    directory = prepared_directory(folder, Path(dir))
    if directory is None:
        raise UserError(f"The data set {folder} is not in {Path(dir).absolute()}.")
    parts = _parts(directory, splits)
    tables = {
        split: joined([read_boxes(directory, name) for name in names])
        for split, names in parts.items()
    }
    return tables, read_classes(directory)


def _parts(
    directory: Path, splits: Mapping[str, Sequence[str]] | None
) -> dict[str, tuple[str, ...]]:
    """Return split of a run -> stored splits."""
    there = array_records.split_lengths(directory)
    if splits is None:
        return {name: (name,) for name in array_records.READ if name in there}
    parts = {str(name): tuple(some) for name, some in splits.items()}
    missing = sorted({one for some in parts.values() for one in some} - set(there))
    if missing or not all(parts.values()):
        raise UserError(
            f"data.splits names {', '.join(missing) or 'nothing'} of {directory}, which has "
            f"{', '.join(there)}."
        )
    return parts


def _require_same_records(directory: Path, split: str, table: Boxes) -> None:
    count = sum(array_records.split_lengths(directory)[split])
    if len(table) != count:
        raise UserError(
            f"{directory / BOXES.format(split)} is of {len(table):,} photographs, and {split} has "
            f"{count:,} records. {AGAIN}"
        )


def _photographs(
    directory: Path, names: Sequence[str], lengths: Sequence[int], canvas: Canvas
) -> FittedPhotographs:
    return FittedPhotographs(
        [(directory, name) for name in names],
        np.repeat(np.arange(len(names), dtype=np.int32), lengths),
        np.concatenate([np.arange(length) for length in lengths]),
        canvas,
    )


def columns_of(table: Boxes, canvas: Canvas, most_boxes: int) -> dict[str, np.ndarray]:
    """Return the columns of `detection` beside ``image``.

    Raises:
        UserError: a photograph has more boxes than ``most_boxes``.
    """
    counts, count = table.counts, len(table)
    if count and counts.max() > most_boxes:
        most = int(counts.argmax())
        raise UserError(
            f"data.most_boxes={most_boxes}, and {table.names[most]} has {counts[most]} boxes: say "
            f"data.most_boxes={counts[most]}."
        )
    size = canvas.fitted(table.sizes)
    scale = size / table.sizes  # down and along
    row = np.repeat(np.arange(count), counts)
    place = np.arange(len(table.boxes)) - np.repeat(table.ends - counts, counts)

    def padded(values: np.ndarray, nothing: float, dtype: Any) -> np.ndarray:
        column = np.full((count, most_boxes, *values.shape[1:]), nothing, dtype)
        column[row, place] = values
        return column

    return {
        "size": size.astype(np.float32),
        "original": table.sizes.astype(np.float32),
        "boxes": padded(table.boxes * scale[row][:, [1, 0, 1, 0]], 0, np.float32),
        "labels": padded(table.labels, NO_OBJECT, np.int32),
        "crowd": padded(table.crowd, False, bool),
        "difficult": padded(table.difficult, False, bool),
        "area": padded(table.areas, 0, np.float32),
        "number": np.arange(count, dtype=np.int32),
    }


def _ignore_progress(what: str, done: int, total: int) -> None:
    pass


def _decoded(photographs: FittedPhotographs, directory: Path, content: str) -> np.ndarray:
    """Return all photographs as an array, mapped from a file that the first call writes."""
    which = [content, [split for _, split in photographs.parts], str(photographs.canvas)]
    name = f"fitted-{hashlib.sha256(json.dumps(which).encode()).hexdigest()[:16]}.npy"
    candidates = places(directory.parent.name, directory)
    for place in candidates:
        with contextlib.suppress(OSError, ValueError):
            found = np.load(place / name, mmap_mode="r")
            if found.shape == photographs.shape and found.dtype == np.uint8:
                return found
    for place in candidates:
        try:
            place.mkdir(parents=True, exist_ok=True)
            aside = place / f".{name}-{os.getpid()}"
            _write(photographs, aside)
            aside.replace(place / name)
            return np.load(place / name, mmap_mode="r")
        except OSError:
            with contextlib.suppress(OSError):
                aside.unlink()
    return photographs[:]  # nothing can be written: each run decodes them


def _write(photographs: FittedPhotographs, path: Path) -> None:
    if not len(photographs):
        with path.open("wb") as file:
            np.save(file, np.empty(photographs.shape, np.uint8))
        return
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=photographs.shape)

    def decode(begin: int) -> None:
        rows = np.arange(begin, min(begin + CHUNK, len(photographs)))
        photographs.decode_into(images[rows[0] : rows[-1] + 1], rows)

    with ThreadPoolExecutor(core_count()) as pool:
        list(pool.map(decode, range(0, len(photographs), CHUNK)))
    images.flush()


@dataclass(frozen=True)
class PhotographReader:
    """Reads photographs as the data set's were.

    Attributes:
        canvas: height and width.
        shorter_side: see `Canvas`.
        longer_side: see `Canvas`.
        antialias: see `crops.cut_into`.
    """

    canvas: tuple[int, int]
    shorter_side: int | None
    longer_side: int | None
    antialias: bool | Literal["fast"]

    def __post_init__(self) -> None:
        """Make a tuple of a list, as a record gives it."""
        object.__setattr__(self, "canvas", tuple(self.canvas))

    def __call__(self, given: Sequence[Given]) -> Read:
        """Read files of photographs, and those in directories; they have no boxes."""
        left_out: list[str] = []
        files: list[Path] = []
        for one in given:
            if isinstance(one, str):
                left_out.append(f"{one!r} is no file: this net is asked about photographs.")
            else:
                files += pictures_below(one, one, {}) if one.is_dir() else [one]
        canvas = Canvas(*self.canvas, self.shorter_side, self.longer_side, self.antialias)
        images, sizes, names = [], [], []
        for path in files:
            image = np.empty((canvas.height, canvas.width, 3), np.uint8)
            try:
                sizes.append(canvas.show_into(image, path.read_bytes(), str(path)))
            except OSError as error:
                left_out.append(f"{path} cannot be read: {error.strerror}.")
                continue
            except jpeg.UnreadableError as error:
                left_out.append(str(error))
                continue
            images.append(image)
            names.append(str(path))
        if not images:
            raise UserError("\n".join(["There is no photograph to look at.", *left_out]))
        columns = columns_of(without_boxes(names, sizes), canvas, 1)
        return Read({"image": np.stack(images), **columns}, tuple(names), tuple(left_out))
