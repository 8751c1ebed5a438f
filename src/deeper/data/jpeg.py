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

from deeper.data import restart
from deeper.data.crops import Box
from deeper.errors import UserError

Pixels = UInt8[np.ndarray, "height width channels"]

MOST_PIXELS = 1 << 26  # of one photograph; what claims more is refused before it is decoded


class UnreadableError(UserError):
    """A file is no picture, is damaged, or claims too many pixels."""


def size_of(data: bytes, name: str) -> tuple[int, int]:
    """Return a photograph's (height, width), decoding nothing.

    Raises:
        UnreadableError: it is none, or it is too large.
    """
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        try:
            with Image.open(io.BytesIO(data)) as opened:
                width, height = opened.size
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
            raise UnreadableError(f"{name} is no picture that can be read: {error}") from error
        except Image.DecompressionBombError as error:
            raise UnreadableError(f"{name} is too large: {error}") from error
    if height * width > MOST_PIXELS:
        raise UnreadableError(
            f"{name} has {width}x{height} pixels; at most {MOST_PIXELS:,} are decoded, since a "
            "small file can claim any number."
        )
    return height, width


def decode(data: bytes, channels: int, name: str, box: Box | None = None) -> Pixels:
    """Return a photograph's pixels.

    Args:
        data: the file's content.
        channels: 3, or 1 for grey.
        name: of the file, for messages.
        box: the part that is needed; the whole by default.

    Raises:
        UnreadableError: it cannot be read.
    """
    height, width = size_of(data, name)
    box = box or Box(0, 0, height, width)
    try:
        _, _, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours == "YCbCr" and channels == 3:
            return _decode_plain(data, "RGB", (height, width), box)
        if colours == "Gray":
            return np.repeat(_decode_plain(data, "GRAY", (height, width), box), channels, axis=2)
    except ValueError:
        pass  # cut short, of another kind, or damaged: Pillow says what it is
    try:
        with Image.open(io.BytesIO(data)) as opened:
            pixels = np.asarray(opened.convert("RGB" if channels == 3 else "L"))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise UnreadableError(f"{name} cannot be decoded: {error}") from error
    pixels = pixels.reshape(*pixels.shape[:2], channels)
    return pixels[box.top : box.bottom, box.left : box.right]


def _decode_plain(data: bytes, colours: str, size: tuple[int, int], box: Box) -> Pixels:
    """Decode with libjpeg-turbo what a box needs, as far as the file's layout lets it.

    Most of the time goes into the entropy coding. Of a file with restart markers and a note of
    their places only the segments that the box touches are decoded. Of any other the coding runs
    from the top: a baseline file whose header says fewer rows is decoded down to them. One row of
    blocks more keeps what the interpolation of colour looks at.
    """
    top, left, bottom, right = box
    # A file without its end is cut short, which decoding a part of it would not notice.
    whole = data.find(END, max(0, len(data) - 1024)) >= 0
    header = restart.read_header(data) if whole else None
    if header is None or (header.height, header.width) != size:
        return simplejpeg.decode_jpeg(data, colorspace=colours)[top:bottom, left:right]
    part = restart.splice(data, header, box)
    if part is not None:
        pixels = simplejpeg.decode_jpeg(part.data, colorspace=colours)
        return pixels[top - part.top : bottom - part.top, left - part.left : right - part.left]
    enough = -(-bottom // BLOCK) * BLOCK + BLOCK
    if enough >= header.height:
        return simplejpeg.decode_jpeg(data, colorspace=colours)[top:bottom, left:right]
    place = header.frame
    short = data[:place] + enough.to_bytes(2, "big") + data[place + 2 :]
    # Not strict: the rows below are still there, and libjpeg warns of them.
    return simplejpeg.decode_jpeg(short, colorspace=colours, strict=False)[top:bottom, left:right]


END = b"\xff\xd9"
BLOCK = 32  # rows: no sampling factor makes a row of blocks higher
