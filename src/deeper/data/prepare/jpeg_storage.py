"""How photographs are stored: unchanged, with restart markers (lossless), or reduced in size."""

import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from deeper.data import jpeg, jpeg_restart
from deeper.errors import UserError

UNTOUCHED, RESTART = "untouched", "restart"
NOTE = "storage.json"  # file in the prepared directory
QUALITY = 95


@dataclass(frozen=True)
class Storage:
    """How photographs are stored.

    Attributes:
        layout: untouched, or restart (see `jpeg_restart`).
        shorter_side: larger photographs are reduced to this shorter side in pixels (Pillow,
            bicubic, antialiased) and encoded at JPEG quality 95; None keeps their size.
    """

    layout: str = UNTOUCHED
    shorter_side: int | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if self.layout not in (UNTOUCHED, RESTART):
            raise UserError(f"layout={self.layout} is unknown; choose untouched or restart.")
        if self.shorter_side is not None and self.shorter_side < 1:
            raise UserError(f"shorter_side={self.shorter_side}: give at least 1 pixel.")
        if self.layout == RESTART:
            jpeg_restart.require_program()

    def of(self, data: bytes, channels: int, name: str) -> bytes:
        """Return the content to store for a photograph.

        Args:
            data: content of the original file.
            channels: 3, or 1 if all photographs are grey.
            name: name of the file, for messages.

        Raises:
            UserError: the file is not an image.
        """
        height, width = jpeg.size_of(data, name)
        if self.shorter_side is not None and min(height, width) > self.shorter_side:
            turn = jpeg.orientation(data)
            data = _smaller(jpeg.decode(data, channels, name), self.shorter_side, turn)
        if self.layout == RESTART:
            marked = jpeg_restart.with_restart_markers(data)
            # The transcoder may change the pixels of a damaged file, which is stored unchanged.
            if marked is not None and _same_pixels(marked, data, channels, name):
                return marked
        return data


UNCHANGED = Storage()


def _smaller(pixels: jpeg.Pixels, shorter_side: int, orientation: int) -> bytes:
    """Reduce an image to a shorter side and encode it as JPEG with its EXIF orientation."""
    height, width = pixels.shape[:2]
    scale = shorter_side / min(height, width)
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    size = max(round(width * scale), shorter_side), max(round(height * scale), shorter_side)
    stream = io.BytesIO()
    entry = Image.Exif()
    if orientation != jpeg.UPRIGHT:  # pixels are stored as they are: readers apply it on request
        entry[ExifTags.Base.Orientation] = orientation
    picture.resize(size, Image.Resampling.BICUBIC).save(
        stream, "JPEG", quality=QUALITY, exif=entry.tobytes() if len(entry) else b""
    )
    return stream.getvalue()


def _same_pixels(first: bytes, second: bytes, channels: int, name: str) -> bool:
    try:
        pixels, expected = (jpeg.decode(data, channels, name) for data in (first, second))
    except UserError:
        return False
    return np.array_equal(pixels, expected)


def write_storage(directory: Path, storage: Storage) -> None:
    """Record in a prepared directory how its photographs are stored."""
    (directory / NOTE).write_text(json.dumps(asdict(storage)) + "\n", encoding="utf-8")


def layout_of(directory: Path) -> str:
    """Return the layout of the photographs in a prepared directory: untouched or restart."""
    return str(_recorded(directory)["layout"])


def require_storage(directory: Path, name: str, storage: Storage) -> None:
    """Raise a UserError if a prepared directory stores its photographs in another way."""
    recorded = _recorded(directory)
    differing = [
        f"{key}={recorded[key]}" for key, value in asdict(storage).items() if recorded[key] != value
    ]
    if differing:
        raise UserError(
            f"{name} is prepared already in {directory}, with {', '.join(differing)}: move that "
            "away, or prepare into another place with data.dir=DIRECTORY."
        )


def _recorded(directory: Path) -> dict[str, Any]:
    note = directory / NOTE
    recorded: dict[str, Any] = (
        json.loads(note.read_text(encoding="utf-8")) if note.is_file() else asdict(UNCHANGED)
    )
    return recorded
