"""How photographs are stored: byte for byte, laid out anew without loss, or made smaller."""

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
NOTE = "storage.json"  # file beside the records
QUALITY = 95


@dataclass(frozen=True)
class Storage:
    """How photographs are stored.

    Attributes:
        layout: untouched, or restart: see `jpeg_restart`.
        shorter_side: photographs whose shorter side is longer are made as small, in pixels,
            antialiased (Pillow, bicubic), and coded at quality 95; None keeps them.
    """

    layout: str = UNTOUCHED
    shorter_side: int | None = None

    def __post_init__(self) -> None:
        """Say what cannot be."""
        if self.layout not in (UNTOUCHED, RESTART):
            raise UserError(f"layout={self.layout} is unknown; choose untouched or restart.")
        if self.shorter_side is not None and self.shorter_side < 1:
            raise UserError(f"shorter_side={self.shorter_side}: give at least 1 pixel.")
        if self.layout == RESTART:
            jpeg_restart.require_program()

    def of(self, data: bytes, channels: int, name: str) -> bytes:
        """Return what is stored of a photograph.

        Args:
            data: the file's content.
            channels: 3, or 1 where all are grey.
            name: of the file, for messages.

        Raises:
            UserError: it is no picture.
        """
        height, width = jpeg.size_of(data, name)
        if self.shorter_side is not None and min(height, width) > self.shorter_side:
            turn = jpeg.orientation(data)
            data = _smaller(jpeg.decode(data, channels, name), self.shorter_side, turn)
        if self.layout == RESTART:
            laid = jpeg_restart.relay(data)
            # What the transcoder would change, as it may of a damaged file, stays as it is.
            if laid is not None and _same_pixels(laid, data, channels, name):
                return laid
        return data


AS_THEY_ARE = Storage()


def _smaller(pixels: jpeg.Pixels, shorter_side: int, orientation: int) -> bytes:
    height, width = pixels.shape[:2]
    scale = shorter_side / min(height, width)
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    size = max(round(width * scale), shorter_side), max(round(height * scale), shorter_side)
    stream = io.BytesIO()
    entry = Image.Exif()
    if orientation != jpeg.UPRIGHT:  # the pixels are not turned: who reads them decides on that
        entry[ExifTags.Base.Orientation] = orientation
    picture.resize(size, Image.Resampling.BICUBIC).save(
        stream, "JPEG", quality=QUALITY, exif=entry.tobytes() if len(entry) else b""
    )
    return stream.getvalue()


def _same_pixels(one: bytes, other: bytes, channels: int, name: str) -> bool:
    try:
        found, expected = (jpeg.decode(data, channels, name) for data in (one, other))
    except UserError:
        return False
    return np.array_equal(found, expected)


def write_storage(directory: Path, storage: Storage) -> None:
    """Note how a directory's photographs are stored."""
    (directory / NOTE).write_text(json.dumps(asdict(storage)) + "\n", encoding="utf-8")


def layout_of(directory: Path) -> str:
    """Return how a directory's photographs are laid out."""
    return str(_noted(directory)["layout"])


def require_storage(directory: Path, name: str, wished: Storage) -> None:
    """Refuse a directory that is there already and stores its photographs in another way."""
    there = _noted(directory)
    differing = [
        f"{key}={there[key]}" for key, value in asdict(wished).items() if there[key] != value
    ]
    if differing:
        raise UserError(
            f"{name} is prepared already in {directory}, with {', '.join(differing)}: move that "
            "away, or prepare into another place with data.dir=DIRECTORY."
        )


def _noted(directory: Path) -> dict[str, Any]:
    note = directory / NOTE
    found: dict[str, Any] = (
        json.loads(note.read_text(encoding="utf-8")) if note.is_file() else asdict(AS_THEY_ARE)
    )
    return found
