"""Encoded photographs as pixels, as Pillow decodes them.

Plain JPEG files go through libjpeg-turbo (simplejpeg), whose pixels are Pillow's; whatever else a
file turns out to be goes through Pillow itself. A photograph is not turned by its EXIF entry: the
published results of ImageNet were not, either.
"""

import io

import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from deeper.errors import UserError

Pixels = UInt8[np.ndarray, "height width channels"]

MOST_PIXELS = 1 << 26  # of one photograph; what claims more is refused before it is decoded


def size_of(data: bytes, name: str) -> tuple[int, int]:
    """Return a photograph's (height, width), decoding nothing.

    Raises:
        UserError: it is none, or it is too large.
    """
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        try:
            with Image.open(io.BytesIO(data)) as opened:
                width, height = opened.size
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
            raise UserError(f"{name} is no picture that can be read: {error}") from error
        except Image.DecompressionBombError as error:
            raise UserError(f"{name} is too large: {error}") from error
    if height * width > MOST_PIXELS:
        raise UserError(
            f"{name} has {width}x{height} pixels; at most {MOST_PIXELS:,} are decoded, since a "
            "small file can claim any number."
        )
    return height, width


def decode(data: bytes, channels: int, name: str) -> Pixels:
    """Return a photograph's pixels.

    Args:
        data: the file's content.
        channels: 3, or 1 for grey.
        name: of the file, for messages.

    Raises:
        UserError: it cannot be read.
    """
    size_of(data, name)
    try:
        _, _, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours == "YCbCr" and channels == 3:
            return simplejpeg.decode_jpeg(data)
        if colours == "Gray":
            grey = simplejpeg.decode_jpeg(data, colorspace="GRAY")
            return np.repeat(grey, channels, axis=2)
    except ValueError:
        pass  # cut short, of another kind, or damaged: Pillow says what it is
    try:
        with Image.open(io.BytesIO(data)) as opened:
            pixels = np.asarray(opened.convert("RGB" if channels == 3 else "L"))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise UserError(f"{name} cannot be decoded: {error}") from error
    return pixels.reshape(*pixels.shape[:2], channels)
