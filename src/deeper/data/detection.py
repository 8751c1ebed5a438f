"""Photographs with boxes: how they are stored, and the columns that a detector's task reads.

A prepared data set is a directory of array_record files as for classification, the photographs'
files in it unchanged, or one that TFDS wrote. Beside the records are ``boxes-SPLIT.npz``, a
`Boxes` for each split, and ``classes.json``. Nothing of the boxes depends on the size at which a
net is shown the photographs.

Boxes are x1, y1, x2, y2 in pixels of the upright photograph, with x2 and y2 exclusive: a box of
the upper left pixel is 0, 0, 1, 1. Classes are 0 to C-1.
"""

import contextlib
import hashlib
import io
import json
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64, UInt8

from deeper.data import array_records, crops, jpeg
from deeper.data.array_cache import places
from deeper.data.dataset import Dataset, Split, prepared_directory
from deeper.data.fingerprint import content_of
from deeper.data.image_files import pictures_below
from deeper.data.reader import Given, Read
from deeper.errors import UserError
from deeper.platform_support import core_count

BOXES = "boxes-{}.npz"
CLASSES = "classes.json"
NO_OBJECT = -1
IN_MEMORY = 4 << 30  # bytes of decoded photographs, up to which memory=auto keeps them
AGAIN = "Move that directory away and run `deeper prepare` again."

Images = UInt8[np.ndarray, "n height width channels"]


@dataclass(frozen=True)
class Boxes:
    """The boxes of a split's photographs, in the order of its records.

    The boxes of photograph i are those from ``ends[i - 1]`` to before ``ends[i]``.

    Attributes:
        ids: the data set's own numbers of the photographs, as its annotations have them.
        names: of the photographs' files.
        sizes: height and width of each upright photograph.
        ends: see above.
        boxes: x1, y1, x2, y2 in pixels of the photograph.
        labels: 0 to C-1.
        crowd: the box is around a group, not one object (COCO's iscrowd).
        difficult: an object that is hard to see (VOC).
        areas: of the objects in pixels: of COCO's masks, else of the boxes.
    """

    ids: Int64[np.ndarray, " n"]
    names: np.ndarray
    sizes: Int32[np.ndarray, "n 2"]
    ends: Int64[np.ndarray, " n"]
    boxes: Float64[np.ndarray, "boxes 4"]
    labels: Int32[np.ndarray, " boxes"]
    crowd: Bool[np.ndarray, " boxes"]
    difficult: Bool[np.ndarray, " boxes"]
    areas: Float64[np.ndarray, " boxes"]

    def __len__(self) -> int:
        """Return the number of photographs."""
        return len(self.ids)

    @property
    def counts(self) -> Int64[np.ndarray, " n"]:
        """The number of boxes of each photograph."""
        return np.diff(self.ends, prepend=0)

    def to_bytes(self) -> bytes:
        """Return the content of its file."""
        stream = io.BytesIO()
        values: dict[str, Any] = {one.name: getattr(self, one.name) for one in fields(self)}
        np.savez(stream, **values)
        return stream.getvalue()


@dataclass(frozen=True)
class Classes:
    """The classes of a data set.

    Attributes:
        names: in the order of the labels.
        ids: the data set's own numbers of them, for results in its format.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]

    def to_bytes(self) -> bytes:
        """Return the content of its file."""
        about = {"names": list(self.names), "ids": list(self.ids)}
        return (json.dumps(about, ensure_ascii=False) + "\n").encode()


def read_boxes(directory: Path, split: str) -> Boxes:
    """Return the boxes beside a split's records.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = directory / BOXES.format(split)
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            read = Boxes(**{one.name: arrays[one.name] for one in fields(Boxes)})
        objects = (read.boxes, read.labels, read.crowd, read.difficult, read.areas)
        per_photograph = (read.names, read.sizes, read.ends)
        if {len(one) for one in objects} != {int(read.ends[-1]) if len(read) else 0}:
            raise ValueError("its arrays differ in length")
        if {len(one) for one in per_photograph} != {len(read)}:
            raise ValueError("its arrays differ in length")
    except FileNotFoundError as error:
        raise UserError(
            f"{path} is missing: run `deeper prepare` with the same data=..."
        ) from error
    except Exception as error:  # damaged archives raise errors of many types
        raise UserError(f"{path} is damaged: {error}. {AGAIN}") from error
    return read


def read_classes(directory: Path) -> Classes:
    """Return the classes of a prepared data set.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = directory / CLASSES
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        names = tuple(str(name) for name in about["names"])
        ids = tuple(int(number) for number in about["ids"])
    except FileNotFoundError as error:
        raise UserError(
            f"{path} is missing: run `deeper prepare` with the same data=..."
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged: {error}. {AGAIN}") from error
    return Classes(names, ids)


# --- how a photograph is shown -------------------------------------------------------------------


@dataclass(frozen=True)
class Canvas:
    """The array that every photograph is fitted into: resized, then zeros below and at its right.

    Attributes:
        height: of the array.
        width: of the array.
        shorter_side: that a photograph is resized to, unless it then exceeds the array or
            ``longer_side`` (Ren et al. 2015: 600 and 1000, torchvision: 800 and 1333); None: to
            what does not.
        longer_side: at most; None: what the array has room for.
        antialias: see `crops.cut_into`.
    """

    height: int
    width: int
    shorter_side: int | None = None
    longer_side: int | None = None
    antialias: bool | Literal["fast"] = True

    def __post_init__(self) -> None:
        """Check the values."""
        if min(self.height, self.width) < 1:
            raise UserError(f"data.canvas=[{self.height},{self.width}]: give two positive numbers.")
        for key in ("shorter_side", "longer_side"):
            side = getattr(self, key)
            if side is not None and side < 1:
                raise UserError(f"data.{key}={side}: give at least 1 pixel.")

    def fitted(self, sizes: Int32[np.ndarray, "n 2"]) -> Int32[np.ndarray, "n 2"]:
        """Return the heights and widths to which photographs of these sizes are resized."""
        room = np.array([self.height, self.width])
        scale = (room / sizes).min(axis=1)
        if self.shorter_side is not None:
            scale = np.minimum(scale, self.shorter_side / sizes.min(axis=1))
        if self.longer_side is not None:
            scale = np.minimum(scale, self.longer_side / sizes.max(axis=1))
        return np.clip(np.rint(sizes * scale[:, None]), 1, room).astype(np.int32)

    def show_into(self, image: Any, data: bytes, name: str) -> tuple[int, int]:
        """Decode a photograph's file, upright, into an array of this size.

        Returns:
            Height and width of the photograph.

        Raises:
            jpeg.UnreadableError: the file cannot be read.
        """
        pixels = jpeg.decode(data, 3, name, exif=True)
        size = pixels.shape[0], pixels.shape[1]
        height, width = self.fitted(np.array([size], np.int32))[0].tolist()
        if (height, width) != size:
            crop = crops.Crop(0.0, 0.0, float(size[0]), float(size[1]), mirrored=False)
            resized = np.empty((height, width, 3), np.uint8)
            crops.cut_into(resized, pixels, crop, crops.Box(0, 0, *size), self.antialias)
            pixels = resized
        image[height:], image[:, width:] = 0, 0
        image[:height, :width] = pixels
        return size


class FittedPhotographs:
    """The photographs of a split, which stand in for an array (n, height, width, 3).

    Args:
        parts: directory and stored split of each part.
        part: number of the part that each photograph is in.
        numbers: number of its record there.
        canvas: how they are shown.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        parts: Sequence[tuple[Path, str]],
        part: Int32[np.ndarray, " n"],
        numbers: Int64[np.ndarray, " n"],
        canvas: Canvas,
    ):
        self.parts, self.part, self.numbers, self.canvas = tuple(parts), part, numbers, canvas
        self._per_thread = threading.local()  # array_record's reader may be used by one thread only

    def __len__(self) -> int:
        """Return the number of photographs."""
        return len(self.numbers)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of the array that this stands in for."""
        return (len(self), self.canvas.height, self.canvas.width, 3)

    def select(self, which: Any) -> "FittedPhotographs":
        """Return a subset without decoding; ``which`` is an index of a NumPy array (n,)."""
        return FittedPhotographs(self.parts, self.part[which], self.numbers[which], self.canvas)

    def __getitem__(self, which: Any) -> Images:
        """Decode some of them."""
        if isinstance(which, (int, np.integer)):
            return self[np.array([which])][0]
        rows = np.arange(len(self))[which]
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        self.decode_into(images, rows)
        return images

    def decode_into(
        self, images: Images, rows: Any, seed: int | None = None, first: int = 0
    ) -> None:
        """Decode photographs into an array; nothing is random, whatever the seed.

        Raises:
            UserError: a record is damaged, or a photograph cannot be read.
        """
        del seed, first
        for image, row in zip(images, rows, strict=True):
            directory, split = self.parts[self.part[row]]
            number = int(self.numbers[row])
            data, name = self._file(directory, split, number)
            self.canvas.show_into(image, data, f"{name} (record {number} of {split})")

    def _file(self, directory: Path, split: str, number: int) -> tuple[bytes, str]:
        """Return the content and the name of a photograph's file."""
        opened = self._per_thread.__dict__.setdefault("records", {})
        if (directory, split) not in opened:
            opened[directory, split] = array_records.open_records(directory, split)
        try:
            record = array_records.fields(opened[directory, split][number])
            data, name = record["image"], record.get("file_name", b"a photograph")
        except (ValueError, KeyError) as error:
            raise UserError(
                f"Record {number} of {split} in {directory} is damaged: prepare the data set again."
            ) from error
        assert isinstance(data, bytes) and isinstance(name, bytes)
        return data, name.decode(errors="replace")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without the open files, which another process opens again."""
        return FittedPhotographs, (self.parts, self.part, self.numbers, self.canvas)


# --- the data set of a run -----------------------------------------------------------------------


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
        table = _joined([tables[name] for name in names])
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
        split: _joined([read_boxes(directory, name) for name in names])
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


def _joined(tables: Sequence[Boxes]) -> Boxes:
    """Return one table of several."""
    offsets = np.cumsum([0, *(len(one.boxes) for one in tables)])
    ends = [one.ends + offset for one, offset in zip(tables, offsets, strict=False)]
    others = {
        one.name: np.concatenate([getattr(table, one.name) for table in tables])
        for one in fields(Boxes)
    }
    return Boxes(**{**others, "ends": np.concatenate(ends)})


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


CHUNK = 64  # photographs a task


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


def without_boxes(names: Sequence[str], sizes: Sequence[tuple[int, int]]) -> Boxes:
    """Return the table of photographs that have no boxes."""
    count = len(names)
    none: Float32[np.ndarray, " 0"] = np.zeros(0, np.float32)
    return Boxes(
        ids=np.arange(count, dtype=np.int64),
        names=np.array(names),
        sizes=np.array(sizes, np.int32).reshape(-1, 2),
        ends=np.zeros(count, np.int64),
        boxes=none.reshape(0, 4).astype(np.float64),
        labels=none.astype(np.int32),
        crowd=none.astype(bool),
        difficult=none.astype(bool),
        areas=none.astype(np.float64),
    )
