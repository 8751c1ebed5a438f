"""Stores photographs with boxes, after looking at every file and every box.

What the annotations say may be wrong. Each fault is counted and named; `store` raises, or leaves
the box or the photograph out, as it is told.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deeper.data import jpeg
from deeper.data.box_tables import BOXES, CLASSES, Boxes, Classes
from deeper.data.dataset import prepared_directory
from deeper.data.image_files import LeftOut
from deeper.data.prepare import shard_writer
from deeper.data.prepare.atomic_directory import Progress
from deeper.data.prepare.image_folder import Photograph, Tree
from deeper.data.prepare.prepare import prepare_photographs
from deeper.errors import UserError
from deeper.platform_support import core_count

SOURCES = "annotations.json"  # digests of the annotations that a data set was prepared of
NAMED = 20  # faults that a message lists
SHOWN = 5  # of each kind, in a sentence
OVERHANG = 1.0  # pixels: a box may end so far outside, by rounding, and stays as it is

CUT = "boxes cut at the edge of their photograph"


class Box(NamedTuple):
    """A box as annotated.

    Attributes:
        corners: x1, y1, x2, y2 in pixels, x2 and y2 exclusive.
        label: number of its class; None if the annotations name a class that there is not.
        name: by which messages call it.
        crowd: it is around a group.
        difficult: the object is hard to see.
        area: of the object in pixels; None: that of the box.
    """

    corners: tuple[float, float, float, float]
    label: int | None
    name: str
    crowd: bool = False
    difficult: bool = False
    area: float | None = None


@dataclass(frozen=True)
class Annotated:
    """A photograph as annotated.

    Attributes:
        path: of its file.
        name: by which messages call it, and under which it is stored.
        id: the data set's number of it.
        size: height and width that the annotations state; None if they state none.
        boxes: around its objects.
    """

    path: Path
    name: str
    id: int
    size: tuple[int, int] | None
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class Annotations:
    """What a data set's files say.

    Attributes:
        splits: split -> photographs.
        classes: those of the boxes.
        sources: what was read -> its digest.
        faults: kind -> names of what is wrong in the annotations themselves, beside the boxes.
        papers: name -> content of files that go with the photographs, such as licences.
    """

    splits: Mapping[str, Sequence[Annotated]]
    classes: Classes
    sources: Mapping[str, str]
    faults: LeftOut
    papers: Mapping[str, bytes]


def store(
    dir: str,
    name: str,
    read: Callable[[], Annotations],
    on_bad: str,
    progress: Progress,
    sources: Mapping[str, str] | None = None,
) -> tuple[Path, list[str]]:
    """Store photographs with boxes, unless that is done.

    Args:
        dir: where prepared data sets are.
        name: of the new data set.
        read: reads the annotations; called only if the data set is not prepared.
        on_bad: raise, or skip what is wrong.
        progress: called while files are looked at and written.
        sources: what ``read`` would read -> its digest, to compare with a data set that is
            prepared; None where that is not known.

    Returns:
        Its directory, and a sentence on each kind of fault.

    Raises:
        UserError: something is wrong and ``on_bad`` is not skip, the data set was prepared of other
            annotations, or it cannot be written.
    """
    if on_bad not in ("raise", "skip"):
        raise UserError(f"data.prepare.on_bad={on_bad} is unknown; choose raise or skip.")
    existing = prepared_directory(name, Path(dir))
    if existing is not None and sources is not None:
        _require_same_sources(existing, name, sources)

    def tree() -> Tree:
        annotations = read()
        left_out: LeftOut = {kind: list(names) for kind, names in annotations.faults.items()}
        looked_at = {
            split: _looked_at(photographs, split, left_out, progress)
            for split, photographs in annotations.splits.items()
        }
        _require_sound(left_out, on_bad)
        papers = {CLASSES: annotations.classes.to_bytes(), **annotations.papers}
        papers[SOURCES] = (json.dumps(dict(annotations.sources)) + "\n").encode()
        splits = {}
        for split, found in looked_at.items():
            if not found:
                raise UserError(f"No photograph of {split} can be used.")
            ordered = [found[i] for i in _order(len(found))]
            papers[BOXES.format(split)] = _table(ordered).to_bytes()
            splits[split] = [one.photograph for one in ordered]
        return Tree(splits, (), papers, left_out)

    path = prepare_photographs(name, Path(dir), tree, 3, progress=progress)
    return path, sentences(shard_writer.noted_left_out(path))


def _require_same_sources(directory: Path, name: str, sources: Mapping[str, str]) -> None:
    try:
        known = json.loads((directory / SOURCES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = None
    if known != dict(sources):
        raise UserError(
            f"{name} was prepared in {directory} of other annotations: move that away to prepare "
            "it anew, or call the new data set by another data.name."
        )


def sentences(left_out: LeftOut) -> list[str]:
    """Return a sentence on each kind of fault, with its number and the first names."""
    return [
        f"{len(names):,} {kind}: {', '.join(names[:SHOWN])}{' ...' * (len(names) > SHOWN)}"
        for kind, names in left_out.items()
        if names
    ]


def _require_sound(faults: LeftOut, on_bad: str) -> None:
    """Raise a UserError on the faults, unless they are to be skipped."""
    wrong = {kind: names for kind, names in faults.items() if kind != CUT and names}
    if not wrong or on_bad == "skip":
        return
    lines = [f"{kind}: {name}" for kind, names in wrong.items() for name in names]
    counts = ", ".join(f"{len(names):,} {kind}" for kind, names in wrong.items())
    more = [f"and {len(lines) - NAMED:,} more"] if len(lines) > NAMED else []
    raise UserError(
        "\n".join(
            [
                f"The annotations are wrong ({counts}). Mend them, or leave that out with "
                "data.prepare.on_bad=skip:",
                *lines[:NAMED],
                *more,
            ]
        )
    )


@dataclass(frozen=True)
class _Found:
    """A photograph that is stored, and its boxes in its upright pixels."""

    photograph: Photograph
    id: int
    size: tuple[int, int]
    boxes: tuple[Box, ...]


def _looked_at(
    photographs: Sequence[Annotated], split: str, faults: LeftOut, progress: Progress
) -> list[_Found]:
    """Return the photographs that can be used, with the boxes that can; note what is wrong."""
    found = []
    with ThreadPoolExecutor(core_count()) as pool:
        heads = pool.map(partial(_head, split=split), photographs)
        for done, (one, (head, wrong)) in enumerate(zip(photographs, heads, strict=True), 1):
            progress(f"look at {split}", done, len(photographs))
            if head is None:
                kind, _, what = wrong.partition(": ")
                faults.setdefault(kind, []).append(what)
                continue
            boxes = [_turned(box, head) for box in one.boxes]
            kept = _sound(boxes, one.name, head.upright, faults)
            photograph = Photograph(one.path, head.bytes, one.name, 0)
            found.append(_Found(photograph, one.id, head.upright, kept))
    return found


class _Head(NamedTuple):
    """Of a file: its length, its size as stored and upright, and how its boxes are turned."""

    bytes: int
    stored: tuple[int, int]
    upright: tuple[int, int]
    turn: tuple[bool, bool, bool] | None


def _head(one: Annotated, split: str) -> tuple[_Head | None, str]:
    """Return what a file's header says, or a kind of fault and the photograph's name.

    Boxes are meant in the upright photograph. Where the size that the annotations state is that of
    the pixels as they are stored, which an EXIF entry says to turn by a quarter, boxes are, too.
    """
    name = f"{one.name} of {split}"
    try:
        data = one.path.read_bytes()
        stored = jpeg.size_of(data, name)
        upright = jpeg.size_of(data, name, exif=True)
    except FileNotFoundError:
        return None, f"photographs without a file: {name} ({one.path})"
    except (OSError, jpeg.UnreadableError) as error:
        return None, f"photographs that cannot be read: {error}"
    turn = None
    if one.size is not None and tuple(one.size) != upright:
        if tuple(one.size) != stored:
            return None, (
                f"photographs of another size than stated: {name} is {upright[1]}x{upright[0]}, "
                f"and {one.size[1]}x{one.size[0]} in the annotations"
            )
        turn = jpeg.TURNS[jpeg.orientation(data)]
    return _Head(len(data), stored, upright, turn), ""


def _turned(box: Box, head: _Head) -> Box:
    """Return a box of pixels as stored in the upright photograph."""
    if head.turn is None:
        return box
    upside_down, mirrored, exchanged = head.turn
    (height, width), (x1, y1, x2, y2) = head.stored, box.corners
    if upside_down:
        y1, y2 = height - y2, height - y1
    if mirrored:
        x1, x2 = width - x2, width - x1
    if exchanged:
        x1, y1, x2, y2 = y1, x1, y2, x2
    return box._replace(corners=(x1, y1, x2, y2))


def _sound(
    boxes: Sequence[Box], photograph: str, size: tuple[int, int], faults: LeftOut
) -> tuple[Box, ...]:
    """Return the boxes that can be used; note what is wrong with the others."""
    kept = []
    for box in boxes:
        kind = _fault(box, size)
        if kind is not None:
            faults.setdefault(kind, []).append(f"{box.name} in {photograph}")
            continue
        x1, y1, x2, y2 = box.corners
        height, width = size
        out = max(-x1, -y1, x2 - width, y2 - height)
        if out > OVERHANG:
            faults.setdefault(CUT, []).append(f"{box.name} in {photograph}")
            cut = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
            box = box._replace(corners=cut)
        kept.append(box)
    return tuple(kept)


def _fault(box: Box, size: tuple[int, int]) -> str | None:
    """Return the kind of what is wrong with a box; None if nothing is."""
    x1, y1, x2, y2 = box.corners
    if not all(map(math.isfinite, box.corners)):
        return "boxes that are no numbers"
    if box.label is None:
        return "boxes of an unknown class"
    if x2 < x1 or y2 < y1:
        return "boxes whose corners are in the wrong order"
    if x2 == x1 or y2 == y1:
        return "boxes of no area"
    if x2 <= 0 or y2 <= 0 or x1 >= size[1] or y1 >= size[0]:
        return "boxes outside of their photograph"
    if box.area is not None and not (math.isfinite(box.area) and box.area >= 0):
        return "objects whose area is no number"
    return None


def _table(found: Sequence[_Found]) -> Boxes:
    """Return the boxes of photographs in the order of their records."""
    boxes = [box for one in found for box in one.boxes]
    corners = np.array([box.corners for box in boxes], np.float64).reshape(-1, 4)
    sides = corners[:, 2:] - corners[:, :2]
    areas = [
        side if box.area is None else box.area
        for box, side in zip(boxes, sides.prod(axis=1), strict=True)
    ]
    return Boxes(
        ids=np.array([one.id for one in found], np.int64),
        names=np.array([one.photograph.name for one in found]),
        sizes=np.array([one.size for one in found], np.int32).reshape(-1, 2),
        ends=np.cumsum([len(one.boxes) for one in found], dtype=np.int64),
        boxes=corners,
        labels=np.array([box.label for box in boxes], np.int32),
        crowd=np.array([box.crowd for box in boxes], bool),
        difficult=np.array([box.difficult for box in boxes], bool),
        areas=np.array(areas, np.float64),
    )


def held_out(photographs: Sequence[Annotated], fraction: float) -> dict[str, list[Annotated]]:
    """Divide photographs at random into a training and a test split, always in the same way."""
    if not 0 < fraction < 1:
        raise UserError(f"data.prepare.fraction={fraction}: give a share between 0 and 1.")
    count = max(1, round(fraction * len(photographs)))
    if count >= len(photographs):
        raise UserError(f"There are {len(photographs)} photographs: too few to divide.")
    tested = set(_order(len(photographs))[:count])
    return {
        "train": [one for i, one in enumerate(photographs) if i not in tested],
        "test": [one for i, one in enumerate(photographs) if i in tested],
    }


def _order(count: int) -> list[int]:
    """Return a fixed random order, so that any beginning of a split is a random sample of it."""
    drawn: list[int] = (
        np.random.Generator(np.random.Philox(key=[0, count])).permutation(count).tolist()
    )
    return drawn
