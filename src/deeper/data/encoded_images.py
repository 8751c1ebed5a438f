"""Photographs of any size, decoded and cropped when they are asked for.

A crop is a function of the seed and of the example's place in the training stream, so a batch is
the same whoever computes it, and in whatever order.
"""

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from deeper.data import array_records, crops, jpeg
from deeper.data.fingerprint import content_of
from deeper.data.prepare.atomic_directory import Progress
from deeper.errors import UserError

Numbers = Int[np.ndarray, " n"]
OfSize = Callable[[tuple[int, int]], crops.Crop]  # (height, width) of a photograph -> its crop
MIDDLE = "middle"
Images = UInt8[np.ndarray, "n height width channels"]


@dataclass(frozen=True)
class View:
    """How photographs are shown to a net.

    Attributes:
        image_shape: (height, width, channels) that the net takes.
        crop: the random crop in training, one of `crops.DRAWS`; or middle, as at evaluation.
        shorter_side: in pixels, of which the middle is evaluated.
        antialias: in resizing; see `crops.cut_into`.
        exif: whether they are turned as their EXIF entry says.
    """

    image_shape: tuple[int, int, int]
    crop: str
    shorter_side: int
    antialias: bool
    exif: bool = False


def show_into(
    image: UInt8[np.ndarray, "height width channels"],
    data: bytes,
    name: str,
    view: View,
    draw: OfSize | None = None,
) -> None:
    """Write what a net sees of an encoded photograph to an image.

    Args:
        image: of the view's shape.
        data: the file's content.
        name: of the file, for messages.
        view: how it is shown.
        draw: the crop; by default the middle, as at evaluation.

    Raises:
        jpeg.UnreadableError: it cannot be read.
    """
    out, size = image.shape[:2], jpeg.size_of(data, name, exif=view.exif)
    crop = crops.middle(size, out, view.shorter_side) if draw is None else draw(size)
    box = crop.box(size, out)
    pixels = jpeg.decode(data, image.shape[2], name, box, exif=view.exif)
    crops.cut_into(image, pixels, crop, box, view.antialias)


class Photographs:
    """Photographs of a split, in place of an array (n, height, width, channels).

    Indexing decodes: the middle of each, as at evaluation. `select` decodes nothing.

    Args:
        directory: the prepared TFDS directory.
        split: its name there.
        numbers: which of its records, in which order.
        view: how they are shown.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, directory: Path, split: str, numbers: Numbers, view: View):
        self.directory, self.split, self.numbers, self.view = directory, split, numbers, view
        self._draw = None if view.crop == MIDDLE else crops.draw_of(view.crop)
        self._own = threading.local()  # array_record's reader is one thread's

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.numbers)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Return the shape of the array that this stands for."""
        return (len(self), *self.view.image_shape)

    @property
    def identity(self) -> str:
        """Return a text that tells these pixels from others'."""
        facts = [content_of(self.directory, _in_silence), self.split, str(self.view)]
        digest = hashlib.sha256(json.dumps(facts).encode())
        digest.update(np.ascontiguousarray(self.numbers).tobytes())
        return digest.hexdigest()

    def select(self, which: Any) -> "Photographs":
        """Return some of them; nothing is decoded."""
        return Photographs(self.directory, self.split, self.numbers[which], self.view)

    def shown(self, view: View) -> "Photographs":
        """Return the same photographs, shown in another way; their files stay open."""
        other = Photographs(self.directory, self.split, self.numbers, view)
        other._own = self._own
        return other

    def __getitem__(self, which: Any) -> Images:
        """Decode the middle of each, as it is evaluated."""
        if isinstance(which, (int, np.integer)):
            return self[np.array([which])][0]
        rows = np.arange(len(self))[which]
        images = np.empty((len(rows), *self.view.image_shape), np.uint8)
        self.decode_into(images, rows)
        return images

    def decode_into(
        self, images: Images, rows: Numbers, seed: int | None = None, first: int = 0
    ) -> None:
        """Decode photographs into an array.

        Args:
            images: the array.
            rows: which of these photographs.
            seed: the run's, of random crops; None shows the middle of each.
            first: place of the first in the training stream, counted from 0.
        """
        view, draw = self.view, None if seed is None else self._draw
        numbers, out = self.numbers[rows], view.image_shape[:2]
        if not hasattr(self._own, "records"):
            self._own.records = array_records.open_records(self.directory, self.split)
        for i, number in enumerate(numbers):
            try:  # one by one: for several, array_record starts threads each time
                found = array_records.fields(self._own.records[int(number)])
                data = found["image"]
            except (ValueError, KeyError) as error:
                raise UserError(
                    f"Record {number} of {self.split} in {self.directory} is damaged: prepare "
                    "the data set again."
                ) from error
            name = found.get("file_name", b"")
            assert isinstance(data, bytes) and isinstance(name, bytes)
            named = f"{name.decode() or 'a photograph'} (record {number} of {self.split})"
            chosen = None if draw is None else _drawn(draw, seed or 0, first + i, out)
            try:
                show_into(images[i], data, named, view, chosen)
            except jpeg.UnreadableError as error:
                raise UserError(
                    f"{error}. With data.on_bad=skip such files are left out."
                ) from error

    def __reduce__(self) -> tuple[Any, ...]:
        """Open the files anew in another process."""
        return Photographs, (self.directory, self.split, self.numbers, self.view)


def _in_silence(what: str, done: int, total: int) -> None:
    pass


def _drawn(draw: crops.Draw, seed: int, place: int, out: tuple[int, int]) -> OfSize:
    """Return the random crop at a place of the training stream, for a photograph of any size."""
    rng = np.random.Generator(np.random.Philox(key=[CROPS + seed, place]))
    return lambda size: draw(rng, size, out)


CROPS = 1 << 40  # seeds of crops are no seeds of epochs


@dataclass(frozen=True)
class Opened:
    """A prepared set of photographs.

    Attributes:
        splits: name -> photographs and labels.
        class_names: in the order of the labels.
        fingerprint: SHA-256 of all photographs' files and labels, whatever the set is called.
        unused: split -> why it is not read.
    """

    splits: dict[str, tuple[Photographs, Int[np.ndarray, " n"]]]
    class_names: tuple[str, ...]
    fingerprint: str
    unused: dict[str, str]


def holds_photographs(directory: Path) -> bool:
    """Return whether a prepared directory's images have no one size."""
    try:
        return None in array_records.image_shape(directory)
    except (OSError, ValueError, KeyError, TypeError):
        return False  # damaged, which opening it says


def open_photographs(directory: Path, view: View, progress: Progress) -> Opened:
    """Open a prepared directory of photographs.

    Grey and colour photographs alike are shown in the channels of the view, as `jpeg.decode` does.

    Args:
        directory: as TFDS or `prepare` made it.
        view: how they are shown.
        progress: told how far the reading of labels and of the content is, if they were not noted.
    """
    digest = hashlib.sha256()
    splits = {}
    read, unused = array_records.splits_read(directory)
    class_names = array_records.class_names(directory)
    for split in read:
        labels = array_records.labels_of(directory, split, progress)
        array_records.require_labels(labels, len(class_names), split, directory)
        splits[split] = Photographs(directory, split, np.arange(len(labels)), view), labels
        digest.update(split.encode() + labels.astype("<i4").tobytes())
    digest.update(content_of(directory, progress).encode())
    return Opened(splits, class_names, digest.hexdigest(), unused)
