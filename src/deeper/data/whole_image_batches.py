"""Batches of uncropped photographs, each with its own aspect ratio.

A compiled program takes one shape, and photographs have many. Each photograph is therefore padded
at the bottom and right: the longer side of its array is rounded up, and photographs whose arrays
have the same shape are batched together. The composition of the batches is a function of the sizes
alone. Every photograph is in exactly one batch; rows that pad the last batch of a shape are marked.
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

CHUNK = 64  # photographs per read
AHEAD = 2  # batches
Size = tuple[int, int]


@dataclass(frozen=True)
class Headers:
    """Sizes and file names of photographs, in the order of the split.

    Attributes:
        sizes: (height, width) of each, in pixels.
        names: file name of each; empty if the data set has no file names.
    """

    sizes: Int[np.ndarray, "n 2"]
    names: tuple[str, ...]


def headers_of(photographs: Photographs, progress: Callable[[str, int, int], None]) -> Headers:
    """Read the size and file name of each photograph, without decoding it.

    Args:
        photographs: the photographs of a split, all of which are read from disk.
        progress: called with (what, done, total).

    Raises:
        UserError: a record is damaged, or is no image.
    """
    directory, split, numbers = photographs.directory, photographs.split, photographs.numbers
    exif = photographs.view.exif

    def read(begin: int) -> list[tuple[Size, str]]:
        chunk = [int(number) for number in numbers[begin : begin + CHUNK]]
        headers = []
        records = array_records.open_records(directory, split)  # a reader is for one thread only
        for number, record in zip(chunk, records.__getitems__(chunk), strict=True):
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
            headers.append((size, name.decode()))
        return headers

    headers: list[tuple[Size, str]] = []
    with ThreadPoolExecutor(core_count()) as pool:
        for part in pool.map(read, range(0, len(numbers), CHUNK)):
            headers += part
            progress("sizes", len(headers), len(numbers))
    sizes = np.array([size for size, _ in headers], np.int32).reshape(-1, 2)
    return Headers(sizes, tuple(name for _, name in headers))


def resized(size: Size, shorter: int) -> Size:
    """Return the (height, width) of a photograph after resizing its shorter side to ``shorter``.

    The longer side is truncated to an integer, as in torchvision.
    """
    height, width = size
    if height <= width:
        return shorter, int(shorter * width / height)
    return int(shorter * height / width), shorter


@dataclass(frozen=True)
class Group:
    """Batches of photographs whose resized images are padded to the same shape.

    Attributes:
        shape: (height, width) of the padded arrays.
        numbers: numbers of the photographs in each batch, -1 for padding of the last batch.
    """

    shape: Size
    numbers: Int[np.ndarray, "batches rows"]


def groups(
    sizes: Int[np.ndarray, "n 2"], shorter: int, pixels: int, multiple: int, shapes: int | None
) -> list[Group]:
    """Group all photographs by the shape of their padded array.

    Args:
        sizes: (height, width) of each photograph.
        shorter: shorter side in pixels after resizing.
        pixels: largest number of pixels in a batch, unless ``multiple`` rows have more.
        multiple: the number of rows of a batch is a multiple of this, the number of devices.
        shapes: number of shapes between the aspect ratios 1:1 and 2:1, for either orientation;
            None gives each photograph an array of its own size.
    """
    step = 1 if shapes is None else max(1, shorter // shapes)
    by_shape: dict[Size, list[int]] = {}
    for number, (height, width) in enumerate(sizes.tolist()):
        size = resized((height, width), shorter)
        rows, columns = (shorter + -(-(side - shorter) // step) * step for side in size)
        by_shape.setdefault((rows, columns), []).append(number)
    batched = []
    for shape, numbers in sorted(by_shape.items()):
        most = max(1, pixels // (shape[0] * shape[1] * multiple))
        rows = multiple * min(most, -(-len(numbers) // multiple))
        batches = -(-len(numbers) // rows)
        padded = np.full(batches * rows, -1, np.int32)
        padded[: len(numbers)] = numbers
        batched.append(Group(shape, padded.reshape(batches, rows)))
    return batched


def decode_groups(
    photographs: Photographs,
    headers: Headers,
    which: Sequence[Group],
    shorter: int,
    workers: int | None = None,
) -> Generator[dict[str, np.ndarray]]:
    """Yield batches of uncropped photographs, decoded ahead of time.

    Args:
        photographs: the photographs of a split.
        headers: their headers, from `headers_of`.
        which: groups to yield, from `groups` with the same ``shorter``.
        shorter: shorter side in pixels, to which photographs are resized with `crops.cut_into`.
        workers: number of decoding threads; one per core by default.

    Yields:
        image uint8 (rows, height, width, channels), the photograph in the upper left and zeros
        elsewhere; size int32 (rows, 2), height and width of the photograph; number int32 (rows,),
        its number in the split. Padding rows have the number -1 and the size of the array.
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
