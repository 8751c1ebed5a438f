"""Reads annotations in COCO's format: one JSON file a split, beside a directory of photographs.

https://cocodataset.org/#format-data: ``images`` with id, file_name, width and height;
``annotations`` with id, image_id, category_id, bbox [left, top, width, height], area and iscrowd;
``categories`` with id and name. Labels are numbered in the order of the categories' numbers.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deeper.data.box_tables import Classes
from deeper.data.image_files import LeftOut
from deeper.data.prepare.atomic_directory import Progress
from deeper.data.prepare.boxes import Annotated, Annotations, Box, held_out, store
from deeper.data.prepare.image_folder import as_text
from deeper.errors import UserError


def coco(
    dir: str,
    name: str,
    images: str | None,
    annotations: str | None,
    test_images: str | None = None,
    test_annotations: str | None = None,
    fraction: float = 0.1,
    on_bad: str = "raise",
    progress: Progress = lambda what, done, total: None,
) -> tuple[Path, list[str]]:
    """Prepare a data set in COCO's format, unless it is prepared.

    Args:
        dir: where prepared data sets are.
        name: of the data set.
        images: directory of the training photographs, to which names in the file are relative.
        annotations: the JSON file of the training photographs.
        test_images: directory of the photographs to test on; by default ``images``.
        test_annotations: their JSON file; None: a share of the training photographs is tested on.
        fraction: that share.
        on_bad: raise, or skip boxes and photographs that are wrong.
        progress: called while files are looked at and written.

    Returns:
        Its directory, and a sentence on each kind of fault.

    Raises:
        UserError: a file is missing or not in this format, photographs or annotations share a
            number, the splits have other classes, or see `boxes.store`.
    """
    given = {"annotations": annotations, "test_annotations": test_annotations}
    digests = {
        f"data.prepare.{key}": _digest(key, path) for key, path in given.items() if path is not None
    }

    def read() -> Annotations:
        if images is None or annotations is None:
            raise UserError(
                f"Say where {name} is: data.prepare.annotations=FILE (a JSON file) and "
                "data.prepare.images=DIRECTORY, and test_annotations and test_images alike."
            )
        faults: LeftOut = {}
        training, classes = read_json(Path(annotations), Path(images), faults)
        if test_annotations is None:
            splits: Mapping[str, Sequence[Annotated]] = held_out(training, fraction)
        else:
            where = Path(test_images or images)
            testing, others = read_json(Path(test_annotations), where, faults, classes)
            splits = {"train": training, "test": testing}
            _require_same_classes(classes, others, annotations, test_annotations)
        return Annotations(splits, classes, digests, faults, {})

    return store(dir, name, read, on_bad, progress, digests or None)


def _digest(key: str, path: str) -> str:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"data.prepare.{key}={path} cannot be read: {error.strerror}.") from error


def _require_same_classes(classes: Classes, others: Classes, first: str, second: str) -> None:
    known = dict(zip(classes.ids, classes.names, strict=True))
    for number, name in zip(others.ids, others.names, strict=True):
        if known.get(number) != name:
            raise UserError(
                f"{second} has the category {number} {name!r}, which is {known.get(number)!r} in "
                f"{first}: the splits need the same classes."
            )


def read_json(
    path: Path, images: Path, faults: LeftOut, classes: Classes | None = None
) -> tuple[list[Annotated], Classes]:
    """Return the photographs of a JSON file in COCO's format, and its classes.

    Args:
        path: of the file.
        images: directory that the names of photographs are relative to.
        faults: kind -> names, to which faults are added that the photographs returned do not show.
        classes: by which labels are numbered; by default the file's own.

    Raises:
        UserError: the file is not in this format, or photographs or categories share a number.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        entries, found = content["images"], content["annotations"]
        known = sorted((int(one["id"]), str(one["name"])) for one in content["categories"])
        own = Classes(tuple(n for _, n in known), tuple(i for i, _ in known))
        files = [(int(one["id"]), str(one["file_name"]), _size(one)) for one in entries]
        boxes: list[Any] = list(found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        said = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path} is no JSON file in COCO's format: {said}.") from error
    _require_different([number for number, _, _ in files], "images", path)
    _require_different(list(own.ids), "categories", path)
    label_of = {number: label for label, number in enumerate((classes or own).ids)}
    by_image: dict[int, list[Box]] = {number: [] for number, _, _ in files}
    seen: set[int] = set()
    for place, one in enumerate(boxes):
        try:
            number = int(one.get("id", -1 - place))
            image = int(one["image_id"])
            box = _box(one, number, label_of)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            said = f"no {error}" if isinstance(error, KeyError) else str(error)
            faults.setdefault("annotations that cannot be read", []).append(
                f"number {place} in {path.name} ({said})"
            )
            continue
        if number in seen:
            faults.setdefault("annotations whose number is taken", []).append(box.name)
        elif image not in by_image:
            faults.setdefault("annotations of an unknown photograph", []).append(box.name)
        else:
            seen.add(number)
            by_image[image].append(box)
    photographs = [
        Annotated(images / name, as_text(name), number, size, tuple(by_image[number]))
        for number, name, size in files
    ]
    return photographs, own


def _size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    if "height" not in image or "width" not in image:
        return None
    return int(image["height"]), int(image["width"])


def _box(one: Mapping[str, Any], number: int, label_of: Mapping[int, int]) -> Box:
    left, top, width, height = (float(value) for value in one["bbox"])
    area = one.get("area")
    return Box(
        (left, top, left + width, top + height),
        label_of.get(int(one["category_id"])),
        f"annotation {number}",
        crowd=bool(one.get("iscrowd", 0)),
        area=None if area is None else float(area),
    )


def _require_different(numbers: Sequence[int], what: str, path: Path) -> None:
    seen: set[int] = set()
    for number in numbers:
        if number in seen:
            raise UserError(
                f"{path}: {what} has the id {number} twice, so that nothing tells which is meant."
            )
        seen.add(number)
