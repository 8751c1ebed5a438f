"""Picture files as arrays: what people have, turned into what a net takes."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

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


def read_picture(
    path: Path, shape: tuple[int, int, int], crop: float
) -> UInt8[np.ndarray, "height width channels"]:
    """Read a picture as a person sees it, and cut out its middle at a net's size.

    It is turned as its EXIF entry says; grey, palette, CMYK and 16-bit pictures become what the net
    takes, transparent ones are put on white. The shorter side is resized to ``size / crop`` pixels
    (bilinear, antialiased), then the middle is cut out: 256 and 224 for ``crop`` 0.875, as
    torchvision evaluates.

    Args:
        path: of the file.
        shape: height, width, channels of the result.
        crop: share of the shorter side that is kept.

    Raises:
        UserError: the file cannot be read as a picture.
    """
    height, width, channels = shape
    try:
        with Image.open(path) as opened:
            turned = ImageOps.exif_transpose(opened)
            picture = _in_mode(turned, "L" if channels == 1 else "RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise UserError(f"{path} cannot be read as a picture: {error}") from error
    scale = max(height / picture.height, width / picture.width) / crop
    size = (max(width, round(picture.width * scale)), max(height, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.BILINEAR)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    array = np.asarray(picture.crop((left, top, left + width, top + height)))
    return array.reshape(height, width, channels)


def _in_mode(picture: Image.Image, mode: str) -> Image.Image:
    if picture.mode.startswith("I") or picture.mode == "F":  # 16 or 32 bits
        values = np.asarray(picture, np.float64)
        top = 65535.0 if values.max() > 255 else 255.0
        picture = Image.fromarray(np.uint8(np.clip(values / top * 255.0, 0, 255) + 0.5))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert(mode)
