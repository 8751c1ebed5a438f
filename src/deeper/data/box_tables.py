"""The boxes of photographs, as they are stored beside the records of a prepared data set.

``boxes-SPLIT.npz`` has a `Boxes` for each split, and ``classes.json`` the `Classes`.

Boxes are x1, y1, x2, y2 in pixels of the upright photograph, with x2 and y2 exclusive: a box of
the upper left pixel is 0, 0, 1, 1. Classes are 0 to C-1.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64

from deeper.errors import UserError

BOXES = "boxes-{}.npz"
CLASSES = "classes.json"
NO_OBJECT = -1  # label of a place that no box is in
AGAIN = "Move that directory away and run `deeper prepare` again."


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


def joined(tables: Sequence[Boxes]) -> Boxes:
    """Return one table of several."""
    offsets = np.cumsum([0, *(len(one.boxes) for one in tables)])
    ends = [one.ends + offset for one, offset in zip(tables, offsets, strict=False)]
    others = {
        one.name: np.concatenate([getattr(table, one.name) for table in tables])
        for one in fields(Boxes)
    }
    return Boxes(**{**others, "ends": np.concatenate(ends)})


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
