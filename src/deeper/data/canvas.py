"""How a detector is shown photographs: each is fitted into one array."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int32, Int64, UInt8

from deeper.data import array_records, crops, jpeg
from deeper.errors import UserError

Images = UInt8[np.ndarray, "n height width channels"]


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
