"""Whole photographs, each at its own aspect ratio, in batches of one shape.

Photographs of one shape go together, since a compiled program takes one. Which are in a batch
follows from the sizes alone, every photograph is in one batch, and what fills up the last batch of
a shape is marked.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int

from deeper.data import jpeg, records
from deeper.data.batches import Workers, stream
from deeper.data.photographs import MIDDLE, Photographs
from deeper.data.sources import Split
from deeper.errors import UserError

CHUNK = 64  # photographs read at a time
Size = tuple[int, int]


@dataclass(frozen=True)
class Headers:
    """What is known of photographs without decoding them, in their order.

    Attributes:
        sizes: (height, width) of each.
        names: of their files; empty where the data set does not tell.
    """

    sizes: Int[np.ndarray, "n 2"]
    names: tuple[str, ...]


def headers_of(photographs: Photographs, progress: Callable[[str, int, int], None]) -> Headers:
    """Read each photograph's size and file name.

    Args:
        photographs: all are read from the disk, and none is decoded.
        progress: told of (what, done, total).
    """
    directory, split, numbers = photographs.directory, photographs.split, photographs.numbers

    def look(begin: int) -> list[tuple[Size, str]]:
        chosen = [int(number) for number in numbers[begin : begin + CHUNK]]
        found = []
        opened = records.open_records(directory, split)  # the reader is one thread's
        for number, record in zip(chosen, opened.__getitems__(chosen), strict=True):
            try:
                fields = records.fields(record)
                data, name = fields["image"], fields.get("file_name", b"")
            except (ValueError, KeyError) as error:
                raise UserError(
                    f"Record {number} of {split} in {directory} is damaged: prepare the data set "
                    "again."
                ) from error
            assert isinstance(data, bytes) and isinstance(name, bytes)
            found.append((jpeg.size_of(data, f"record {number} of {split}"), name.decode()))
        return found

    told: list[tuple[Size, str]] = []
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for part in pool.map(look, range(0, len(numbers), CHUNK)):
            told += part
            progress("sizes", len(told), len(numbers))
    sizes = np.array([size for size, _ in told], np.int32).reshape(-1, 2)
    return Headers(sizes, tuple(name for _, name in told))


def resized(size: Size, shorter: int) -> Size:
    """Return (height, width) of a photograph whose shorter side is made ``shorter``.

    The longer side is cut down to whole pixels, as torchvision does.
    """
    height, width = size
    if height <= width:
        return shorter, int(shorter * width / height)
    return int(shorter * height / width), shorter


@dataclass(frozen=True)
class Group:
    """Photographs that have one shape when their shorter side is resized.

    Attributes:
        size: (height, width) then.
        numbers: which of the photographs, (batches, rows), -1 for what fills up the last batch.
    """

    size: Size
    numbers: Int[np.ndarray, "batches rows"]


def groups(sizes: Int[np.ndarray, "n 2"], shorter: int, pixels: int, multiple: int) -> list[Group]:
    """Return all photographs by shape.

    Args:
        sizes: (height, width) of each.
        shorter: their shorter side after resizing.
        pixels: in a batch, at most, if ``multiple`` rows do not have more.
        multiple: of which a batch has rows; the number of devices.
    """
    by_size: dict[Size, list[int]] = {}
    for number, (height, width) in enumerate(sizes.tolist()):
        by_size.setdefault(resized((height, width), shorter), []).append(number)
    found = []
    for size, numbers in sorted(by_size.items()):
        most = max(1, pixels // (size[0] * size[1] * multiple))
        rows = multiple * min(most, -(-len(numbers) // multiple))
        batches = -(-len(numbers) // rows)
        padded = np.full(batches * rows, -1, np.int32)
        padded[: len(numbers)] = numbers
        found.append(Group(size, padded.reshape(batches, rows)))
    return found


def whole(
    split: Split, which: Sequence[Group], shorter: int, workers: Workers
) -> Iterator[dict[str, np.ndarray]]:
    """Yield batches of whole photographs, decoded ahead.

    Args:
        split: photographs.
        which: from `groups`, of the same ``shorter``.
        shorter: the shorter side that they are resized to, as `crops.cut` does.
        workers: who decodes them.

    Yields:
        image uint8 (rows, height, width, channels), number int32 (rows,): place in the split, -1
        for padding.
    """
    images: Any = split.images
    channels = images.view.image_shape[2]
    for group in which:
        view = replace(
            images.view, image_shape=(*group.size, channels), crop=MIDDLE, shorter_side=shorter
        )
        shown = Photographs(images.directory, images.split, images.numbers, view)
        # What fills up is decoded as well, so it has to be of this shape.
        decoded = np.where(group.numbers < 0, group.numbers[0, 0], group.numbers)
        batches = stream(
            Split(shown, split.labels),
            decoded.__getitem__,
            0,
            stop=len(decoded),
            workers=Workers(workers.count),
        )
        for numbers, batch in zip(group.numbers, batches, strict=True):
            yield {"image": batch["image"], "number": numbers}
