"""Picture files as arrays: what people have, turned into what a net takes."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from deeper.data import jpeg
from deeper.data.photographs import View, show_into
from deeper.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def picture_files(path: Path) -> list[Path]:
    """Return a file, or the pictures in a directory and below it, by name.

    Raises:
        UserError: there is none.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"images={path}: there is no such file or directory.")
    found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise UserError(f"images={path}: no picture in it ({' '.join(SUFFIXES)}).")
    return found


def read_picture(path: Path, view: View) -> UInt8[np.ndarray, "height width channels"]:
    """Return the middle of a picture, as a photograph is evaluated.

    Args:
        path: of the file.
        view: how it is shown.

    Raises:
        jpeg.UnreadableError: the file cannot be read as a picture, or has too many pixels.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise jpeg.UnreadableError(f"{path} cannot be read: {error.strerror}.") from error
    image = np.empty(view.image_shape, np.uint8)
    show_into(image, data, str(path), view)
    return image


def is_turned(path: Path) -> bool:
    """Return whether a file has an EXIF entry by which it is to be turned."""
    return jpeg.orientation(path.read_bytes()) != jpeg.UPRIGHT
