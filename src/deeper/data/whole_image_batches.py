"""Whole photographs, each at its own aspect ratio, in batches of few shapes.

A compiled program takes one shape, and a hundred photographs have nearly as many. So each lies in
an array whose longer side is rounded up, and photographs of one such shape go together. Which are
in a batch follows from the sizes alone, every photograph is in one batch, and what fills up the
last batch of a shape is marked.
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int

from deeper.data import array_records, jpeg
from deeper.data.encoded_images import MIDDLE, Photographs
from deeper.errors import UserError
from deeper.platform_support import core_count

CHUNK = 64  # photographs read at a time
AHEAD = 2  # batches
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
    exif = photographs.view.exif

    def look(begin: int) -> list[tuple[Size, str]]:
        chosen = [int(number) for number in numbers[begin : begin + CHUNK]]
        found = []
        opened = array_records.open_records(directory, split)  # the reader is one thread's
        for number, record in zip(chosen, opened.__getitems__(chosen), strict=True):
            try:
                fields = array_records.fields(record)
                data, name = fields["image"], fields.get("file_name", b"")
            except (ValueError, KeyError) as error:
                raise UserError(
                    f"Record {number} of {split} in {directory} is damaged: prepare the data set "
                    "again."
                ) from error
            assert isinstance(data, bytes) and isinstance(name, bytes)
            size = jpeg.size_of(data, f"record {number} of {split}", exif=exif)
            found.append((size, name.decode()))
        return found

    told: list[tuple[Size, str]] = []
    with ThreadPoolExecutor(core_count()) as pool:
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
    """Photographs that lie in arrays of one shape when their shorter side is resized.

    Attributes:
        shape: (height, width) of the arrays.
        numbers: which of the photographs, (batches, rows), -1 for what fills up the last batch.
    """

    shape: Size
    numbers: Int[np.ndarray, "batches rows"]


def groups(
    sizes: Int[np.ndarray, "n 2"], shorter: int, pixels: int, multiple: int, shapes: int | None
) -> list[Group]:
    """Return all photographs by the shape of their array.

    Args:
        sizes: (height, width) of each.
        shorter: their shorter side after resizing.
        pixels: in a batch, at most, if ``multiple`` rows do not have more.
        multiple: of which a batch has rows; the number of devices.
        shapes: how many there are from one aspect ratio to the next, 1:1 to 2:1, in either
            direction; None gives each photograph its own size.
    """
    step = 1 if shapes is None else max(1, shorter // shapes)
    by_shape: dict[Size, list[int]] = {}
    for number, (height, width) in enumerate(sizes.tolist()):
        size = resized((height, width), shorter)
        rows, columns = (shorter + -(-(side - shorter) // step) * step for side in size)
        by_shape.setdefault((rows, columns), []).append(number)
    found = []
    for shape, numbers in sorted(by_shape.items()):
        most = max(1, pixels // (shape[0] * shape[1] * multiple))
        rows = multiple * min(most, -(-len(numbers) // multiple))
        batches = -(-len(numbers) // rows)
        padded = np.full(batches * rows, -1, np.int32)
        padded[: len(numbers)] = numbers
        found.append(Group(shape, padded.reshape(batches, rows)))
    return found


def whole(
    photographs: Photographs,
    headers: Headers,
    which: Sequence[Group],
    shorter: int,
    workers: int | None = None,
) -> Generator[dict[str, np.ndarray]]:
    """Yield batches of whole photographs, each in the upper left of its array, decoded ahead.

    Args:
        photographs: of a split.
        headers: theirs.
        which: from `groups`, of the same ``shorter``.
        shorter: the shorter side that they are resized to, as `crops.cut` does.
        workers: that decode at a time; one a core by default.

    Yields:
        image uint8 (rows, height, width, channels), zero around the photograph; size int32
        (rows, 2), its height and width; number int32 (rows,), its place in the split, -1 for what
        fills up, which is as large as the array.
    """
    channels = photographs.view.image_shape[2]

    def fill(image: np.ndarray, number: int) -> None:
        view = replace(photographs.view, image_shape=image.shape, crop=MIDDLE, shorter_side=shorter)
        photographs.shown(view).decode_into(image[None], np.array([number]))

    with ThreadPoolExecutor(workers or core_count()) as pool:

        def begin(group: Group, numbers: np.ndarray) -> tuple[dict[str, np.ndarray], list[Any]]:
            images = np.zeros((len(numbers), *group.shape, channels), np.uint8)
            sizes = np.tile(np.array(group.shape, np.int32), (len(numbers), 1))
            jobs = []
            for row, number in enumerate(numbers.tolist()):
                if number >= 0:
                    height, width = headers.sizes[number].tolist()
                    sizes[row] = resized((height, width), shorter)
                    part = images[row, : sizes[row, 0], : sizes[row, 1]]
                    jobs.append(pool.submit(fill, part, number))
            return {"image": images, "size": sizes, "number": numbers}, jobs

        try:
            pending: deque[tuple[dict[str, np.ndarray], list[Any]]] = deque()
            for group in which:
                for numbers in group.numbers:
                    pending.append(begin(group, numbers))
                    if len(pending) > AHEAD:
                        yield _done(*pending.popleft())
            while pending:
                yield _done(*pending.popleft())
        finally:
            pool.shutdown(cancel_futures=True)


def _done(batch: dict[str, np.ndarray], jobs: list[Any]) -> dict[str, np.ndarray]:
    for job in jobs:
        job.result()
    return batch
