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


def decode(data: bytes, channels: int, name: str, rows: int | None = None) -> Pixels:
    """Return a photograph's pixels.

    Args:
        data: the file's content.
        channels: 3, or 1 for grey.
        name: of the file, for messages.
        rows: how many are needed, from the top; where that saves time, those below are left out.

    Raises:
        UserError: it cannot be read.
    """
    height, _ = size_of(data, name)
    try:
        _, _, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours == "YCbCr" and channels == 3:
            return _decode_plain(data, "RGB", height, rows)
        if colours == "Gray":
            return np.repeat(_decode_plain(data, "GRAY", height, rows), channels, axis=2)
    except ValueError:
        pass  # cut short, of another kind, or damaged: Pillow says what it is
    try:
        with Image.open(io.BytesIO(data)) as opened:
            pixels = np.asarray(opened.convert("RGB" if channels == 3 else "L"))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise UserError(f"{name} cannot be decoded: {error}") from error
    return pixels.reshape(*pixels.shape[:2], channels)


def _decode_plain(data: bytes, colours: str, height: int, rows: int | None) -> Pixels:
    """Decode with libjpeg-turbo; only down to a row where the file is baseline.

    Most of the time goes into the entropy coding, which runs from the top: a file whose header says
    fewer rows is decoded down to them. One row of blocks more keeps what the interpolation of
    colour looks at.
    """
    # A file without its end is cut short, which decoding a part of it would not notice.
    if rows is not None and data.find(END, max(0, len(data) - 1024)) >= 0:
        enough = -(-rows // BLOCK) * BLOCK + BLOCK
        place = _height_place(data) if enough < height else None
        if place is not None:
            short = data[:place] + enough.to_bytes(2, "big") + data[place + 2 :]
            # Not strict: the rows below are still there, and libjpeg warns of them.
            return simplejpeg.decode_jpeg(short, colorspace=colours, strict=False)[:rows]
    return simplejpeg.decode_jpeg(data, colorspace=colours)


END = b"\xff\xd9"
BLOCK = 32  # rows: no sampling factor makes a row of blocks higher


def _height_place(data: bytes) -> int | None:
    """Return where a baseline file says its height; None where it is of another kind.

    ITU-T T.81, annex B: segments of a marker and a length; SOF0 has precision, height and width.
    """
    place = 2
    while place + 9 < len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xC0:
            return place + 5
        if marker == 0xFF:  # padding
            place += 1
            continue
        if (0xC1 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xDA:
            return None  # progressive, arithmetic and the like
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None
