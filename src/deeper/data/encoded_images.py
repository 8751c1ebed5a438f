"""Photographs of any size that stay encoded and are decoded and cropped when they are indexed.

A random crop is a function of the seed and of the example's place in the training stream, so the
content of a batch does not depend on which worker decodes it, nor on the order.
"""

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

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
    """How photographs are cropped and resized for a net.

    Attributes:
        image_shape: (height, width, channels) of the net's input.
        crop: random crop in training, one of `crops.DRAWS`; or middle, as at evaluation.
        shorter_side: length in pixels that the shorter side is resized to before the central crop
            of evaluation.
        antialias: widen the filter when shrinking; see `crops.cut_into`.
        exif: turn photographs as their EXIF orientation says.
        interpolation: filter of the resizing, a name in `crops.FILTERS`.
    """

    image_shape: tuple[int, int, int]
    crop: str
    shorter_side: int
    antialias: bool | Literal["fast"]
    exif: bool = False
    interpolation: str = field(default="bilinear", repr=False)

    @property
    def identity(self) -> str:
        """What of it determines pixels; as before there was a choice of the filter, without one."""
        return str(self) + (self.interpolation if self.interpolation != "bilinear" else "")


def show_into(
    image: UInt8[np.ndarray, "height width channels"],
    data: bytes,
    name: str,
    view: View,
    draw: OfSize | None = None,
) -> None:
    """Decode, crop and resize an encoded photograph into an array.

    Args:
        image: output array, of the view's shape.
        data: content of the image file.
        name: name of the file, for messages.
        view: how the photograph is cropped and resized.
        draw: (height, width) -> crop; by default the central crop, as at evaluation.

    Raises:
        jpeg.UnreadableError: the file cannot be read.
    """
    out, size = image.shape[:2], jpeg.size_of(data, name, exif=view.exif)
    crop = crops.middle(size, out, view.shorter_side) if draw is None else draw(size)
    box = crop.box(size, out, crops.REACH[view.interpolation])
    pixels = jpeg.decode(data, image.shape[2], name, box, exif=view.exif)
    crops.cut_into(image, pixels, crop, box, view.antialias, view.interpolation)


class Photographs:
    """The photographs of a split, which stand in for an array (n, height, width, channels).

    Indexing decodes the central crop of each photograph, as at evaluation. `select` decodes
    nothing.

    Args:
        directory: the prepared TFDS directory.
        split: name of the split.
        numbers: numbers of the records, in the order of the examples.
        view: how photographs are cropped and resized.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, directory: Path, split: str, numbers: Numbers, view: View):
        self.directory, self.split, self.numbers, self.view = directory, split, numbers, view
        self._draw = None if view.crop == MIDDLE else crops.draw_of(view.crop)
        self._per_thread = threading.local()  # array_record's reader may be used by one thread only

    def __len__(self) -> int:
        """Return the number of photographs."""
        return len(self.numbers)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of the array that this stands in for."""
        return (len(self), *self.view.image_shape)

    @property
    def identity(self) -> str:
        """A digest of what determines the pixels: content, split, view and choice of records."""
        source = [content_of(self.directory, _ignore_progress), self.split, self.view.identity]
        digest = hashlib.sha256(json.dumps(source).encode())
        digest.update(np.ascontiguousarray(self.numbers).tobytes())
        return digest.hexdigest()

    def select(self, which: Any) -> "Photographs":
        """Return a subset without decoding; ``which`` is an index of a NumPy array (n,)."""
        return Photographs(self.directory, self.split, self.numbers[which], self.view)

    def shown(self, view: View) -> "Photographs":
        """Return the same photographs with another view; the open files are shared."""
        other = Photographs(self.directory, self.split, self.numbers, view)
        other._per_thread = self._per_thread
        return other

    def __getitem__(self, which: Any) -> Images:
        """Decode the central crop of each photograph, as at evaluation."""
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
            images: output array.
            rows: numbers of the photographs within this split.
            seed: seed of the run, for random crops; None takes the central crop of each.
            first: place of the first photograph in the training stream, counted from 0.

        Raises:
            UserError: a record is damaged, or a photograph cannot be read.
        """
        view, draw = self.view, None if seed is None else self._draw
        numbers, out = self.numbers[rows], view.image_shape[:2]
        if not hasattr(self._per_thread, "records"):
            self._per_thread.records = array_records.open_records(self.directory, self.split)
        for i, number in enumerate(numbers):
            try:  # one by one: array_record starts threads for every read of several records
                fields = array_records.fields(self._per_thread.records[int(number)])
                data = fields["image"]
            except (ValueError, KeyError) as error:
                raise UserError(
                    f"Record {number} of {self.split} in {self.directory} is damaged: prepare "
                    "the data set again."
                ) from error
            file_name = fields.get("file_name", b"")
            assert isinstance(data, bytes) and isinstance(file_name, bytes)
            name = f"{file_name.decode() or 'a photograph'} (record {number} of {self.split})"
            crop = None if draw is None else _random_crop(draw, seed or 0, first + i, out)
            try:
                show_into(images[i], data, name, view, crop)
            except jpeg.UnreadableError as error:
                raise UserError(
                    f"{error}. With data.on_bad=skip such files are left out."
                ) from error

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without the open files, which another process opens again."""
        return Photographs, (self.directory, self.split, self.numbers, self.view)


def _ignore_progress(what: str, done: int, total: int) -> None:
    pass


def _random_crop(draw: crops.Draw, seed: int, place: int, out: tuple[int, int]) -> OfSize:
    """Return (height, width) -> random crop for a place of the training stream."""
    rng = np.random.Generator(np.random.Philox(key=[CROPS + seed, place]))
    return lambda size: draw(rng, size, out)


CROPS = 1 << 40  # added to seeds of crops, so that they differ from the keys of epochs


@dataclass(frozen=True)
class OpenedPhotographs:
    """A prepared set of photographs.

    Attributes:
        splits: name -> photographs and labels int32 (n,).
        class_names: in the order of the labels.
        fingerprint: SHA-256 of all photographs' files and labels, whatever the set is called.
        unused: split -> why it is not read.
    """

    splits: dict[str, tuple[Photographs, Int[np.ndarray, " n"]]]
    class_names: tuple[str, ...]
    fingerprint: str
    unused: dict[str, str]


def holds_photographs(directory: Path) -> bool:
    """Return whether the images of a prepared directory differ in size."""
    try:
        return None in array_records.image_shape(directory)
    except (OSError, ValueError, KeyError, TypeError):
        return False  # damaged: opening the directory raises the error


def open_photographs(directory: Path, view: View, progress: Progress) -> OpenedPhotographs:
    """Open a prepared directory of photographs.

    Grey and colour photographs are both converted to the channels of the view (`jpeg.decode`).

    Args:
        directory: the prepared TFDS directory.
        view: how photographs are cropped and resized.
        progress: called while labels and content are read, if no earlier call has stored them.
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
    return OpenedPhotographs(splits, class_names, digest.hexdigest(), unused)
