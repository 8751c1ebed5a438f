"""Boxes of a data set that TensorFlow Datasets prepared as array_record, such as voc/2007.

The photographs stay where TFDS put them; the boxes are written beside them. TFDS stores corners as
shares of the photograph's height and width.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deeper.data import array_records, jpeg
from deeper.data.box_tables import BOXES, CLASSES, Boxes, Classes
from deeper.data.prepare.atomic_directory import Progress
from deeper.data.prepare.tfds_prepared import find_array_records
from deeper.errors import UserError

CHUNK = 64  # records at a time


def tfds_boxes(
    dir: str,
    name: str,
    ids: Sequence[int] | None = None,
    first_pixel: int = 0,
    progress: Progress = lambda what, done, total: None,
) -> tuple[Path, list[str]]:
    """Write the boxes of a TFDS data set beside its records, unless that is done.

    Args:
        dir: TFDS's data_dir.
        name: in TFDS, with its config.
        ids: the data set's own numbers of the classes, for results in its format; by default from
            1 on.
        first_pixel: the number of the first pixel in the annotations: 1 for VOC, whose left and
            upper sides TFDS keeps as they are.
        progress: called with the number of records read.

    Returns:
        Its directory, and sentences on boxes that were left out.

    Raises:
        UserError: TFDS has not prepared it as array_record, or it has no boxes.
    """
    directory = find_array_records(name, Path(dir))
    if (directory / CLASSES).is_file():
        return directory, []
    names = _class_names(directory, name)
    if ids is not None and len(ids) != len(names):
        raise UserError(
            f"data.prepare.ids has {len(ids)} numbers, and {name} {len(names)} classes."
        )
    said = []
    for split, lengths in array_records.split_lengths(directory).items():
        table, without_area = _boxes(
            directory, split, sum(lengths), len(names), first_pixel, progress
        )
        _write(directory / BOXES.format(split), table.to_bytes())
        if without_area:
            said.append(f"{without_area:,} boxes of no area in {split} are left out")
    numbers = tuple(ids or range(1, len(names) + 1))
    _write(directory / CLASSES, Classes(names, numbers).to_bytes())
    return directory, said


def _write(path: Path, content: bytes) -> None:
    aside = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        aside.write_bytes(content)
        aside.replace(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}.") from error


def _class_names(directory: Path, name: str) -> tuple[str, ...]:
    for file in ("objects-label.labels.txt", "objects_label.labels.txt", "labels.labels.txt"):
        if (directory / file).is_file():
            text = (directory / file).read_text(encoding="utf-8")
            return tuple(text.removesuffix("\n").split("\n"))
    raise UserError(f"{name} in {directory} has no objects with a label: it is no detection.")


def _boxes(
    directory: Path,
    split: str,
    count: int,
    classes: int,
    first_pixel: int,
    progress: Progress,
) -> tuple[Boxes, int]:
    """Return a split's boxes, and how many have no area and are left out."""
    records = array_records.open_records(directory, split)
    found: list[dict[str, Any]] = []
    for begin in range(0, count, CHUNK):
        progress(f"boxes of {split}", begin, count)
        for number, record in enumerate(
            records.__getitems__(range(begin, min(begin + CHUNK, count))), begin
        ):
            try:
                found.append(_of_record(record, number, first_pixel))
            except ValueError as error:
                raise UserError(
                    f"Record {number} of {split} in {directory} is damaged: {error}."
                ) from error
    progress(f"boxes of {split}", count, count)
    joined = {
        key: np.concatenate([one[key] for one in found] or [np.zeros(0)])
        for key in ("labels", "crowd", "difficult", "areas")
    }
    corners = np.concatenate([np.zeros((0, 4)), *(one["boxes"] for one in found)])
    labels = joined["labels"].astype(np.int32)
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise UserError(f"Boxes of {split} in {directory} are of none of the {classes} classes.")
    sound = (np.isfinite(corners).all(axis=1)) & (corners[:, 2:] > corners[:, :2]).all(axis=1)
    counts = np.array([len(one["boxes"]) for one in found], np.int64)
    row = np.repeat(np.arange(len(found)), counts)
    kept = np.bincount(row[sound], minlength=len(found))
    return Boxes(
        ids=np.array([one["id"] for one in found], np.int64),
        names=np.array([one["name"] for one in found]),
        sizes=np.array([one["size"] for one in found], np.int32).reshape(-1, 2),
        ends=np.cumsum(kept, dtype=np.int64),
        boxes=corners[sound],
        labels=labels[sound],
        crowd=joined["crowd"].astype(bool)[sound],
        difficult=joined["difficult"].astype(bool)[sound],
        areas=joined["areas"].astype(np.float64)[sound],
    ), int((~sound).sum())


def _of_record(record: bytes, number: int, first_pixel: int) -> dict[str, Any]:
    """Return what one record says."""
    single = array_records.fields(record)
    image, name = single["image"], single.get("image/filename", b"")
    if not isinstance(image, bytes) or not isinstance(name, bytes):
        raise ValueError("it has no photograph")
    known = name.decode(errors="replace") or f"record {number}"
    height, width = jpeg.size_of(image, known, exif=True)
    shares = array_records.floats(record, "objects/bbox").reshape(-1, 4).astype(np.float64)
    y1, x1, y2, x2 = (shares * [height, width, height, width]).T  # TFDS's order
    boxes = np.stack([x1 - first_pixel, y1 - first_pixel, x2, y2], axis=1)
    labels = array_records.integers(record, "objects/label")
    if len(labels) != len(boxes):
        raise ValueError(f"it has {len(labels)} labels of {len(boxes)} boxes")

    def flags(field: str) -> np.ndarray:
        values = array_records.integers(record, field, missing_is_empty=True)
        return values if len(values) == len(boxes) else np.zeros(len(boxes), np.int64)

    areas = array_records.integers(record, "objects/area", missing_is_empty=True)
    if len(areas) != len(boxes):
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    own = single.get("image/id", number)
    return {
        "id": own if isinstance(own, int) else number,
        "name": known,
        "size": (height, width),
        "boxes": boxes,
        "labels": labels,
        "crowd": flags("objects/is_crowd"),
        "difficult": flags("objects/is_difficult"),
        "areas": areas,
    }
