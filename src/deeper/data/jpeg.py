"""Decodes image files to arrays, for training, evaluation, `predict` and `see`.

Plain JPEG files are decoded by libjpeg-turbo (simplejpeg), which gives the same pixels as Pillow.
All other files are decoded by Pillow:

- transparent images are composed on white;
- 16-bit grey is scaled to 8 bits (65535 becomes 255), and 16-bit colour keeps its upper 8 bits;
- images of 32-bit integers or floats are refused, since their value of white is unknown;
- only the first frame of an animation is used;
- palette, CMYK and grey images become RGB, or colours grey, as Pillow converts them.

The EXIF orientation is applied only on request, since published results on ImageNet ignore it. The
orientation of a TIFF file is part of its format, and is always applied.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import ExifTags, Image, UnidentifiedImageError

from deeper.data import jpeg_restart
from deeper.data.crops import Box
from deeper.errors import UserError

Pixels = UInt8[np.ndarray, "height width channels"]

MOST_PIXELS = 1 << 26  # pixels of a photograph; larger ones are refused before decoding

# EXIF orientation -> whether to reverse the stored rows, to reverse the columns, and then to
# transpose.
UPRIGHT = 1
TURNS = {
    2: (False, True, False),
    3: (True, True, False),
    4: (True, False, False),
    5: (False, False, True),
    6: (True, False, True),
    7: (True, True, True),
    8: (False, True, True),
}
# A JPEG or PNG file without one of these byte strings has no orientation, and need not be parsed.
SIGNS = {
    b"\xff\xd8": (b"Exif\0\0", b"tiff:Orientation"),
    b"\x89PNG": (b"eXIf", b"exif", b"XML:com.adobe.xmp"),
}


class UnreadableError(UserError):
    """A file is not an image, is damaged, or has too many pixels."""


def size_of(data: bytes, name: str, *, exif: bool = False) -> tuple[int, int]:
    """Return the (height, width) of an image from its header, without decoding it.

    Args:
        data: content of the file.
        name: name of the file, for messages.
        exif: apply the EXIF orientation.

    Raises:
        UnreadableError: it is not an image, or has too many pixels.
    """
    height, width = _stored_size(data, name)
    transposed = exif and TURNS.get(orientation(data), (False, False, False))[2]
    return (width, height) if transposed else (height, width)


def _stored_size(data: bytes, name: str) -> tuple[int, int]:
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        try:
            with _opened(data) as picture:
                width, height = picture.size
        except Image.DecompressionBombError as error:
            raise UnreadableError(f"{name} is too large: {error}") from error
        except Exception as error:  # Pillow raises many types on damaged files
            raise UnreadableError(
                f"{name} is no picture that can be read: {_reason(data, error)}"
            ) from error
    if height * width > MOST_PIXELS:
        raise UnreadableError(
            f"{name} has {width}x{height} pixels; at most {MOST_PIXELS:,} are decoded, since a "
            "small file can claim any number."
        )
    return height, width


def orientation(data: bytes) -> int:
    """Return the EXIF orientation of an image, a key of `TURNS`; `UPRIGHT` if it has none."""
    for magic, signs in SIGNS.items():
        if data.startswith(magic) and not any(sign in data for sign in signs):
            return UPRIGHT
    try:
        with _opened(data) as picture:
            if picture.format == "TIFF":  # Pillow applies the orientation when it decodes
                return UPRIGHT
            entry = picture.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
    except Exception:  # a damaged entry is ignored; decoding a damaged image raises the error
        return UPRIGHT
    return entry if entry in TURNS else UPRIGHT


def decode(
    data: bytes, channels: int, name: str, box: Box | None = None, *, exif: bool = False
) -> Pixels:
    """Decode an image.

    Args:
        data: content of the file.
        channels: 3, or 1 for grey.
        name: name of the file, for messages.
        box: the part to return, in pixels of the oriented image; the whole image by default.
        exif: apply the EXIF orientation.

    Raises:
        UnreadableError: the file cannot be decoded.
    """
    height, width = _stored_size(data, name)
    turn = TURNS.get(orientation(data)) if exif else None
    if turn is None:
        return _decode_stored(data, channels, name, box or Box(0, 0, height, width))
    upside_down, mirrored, exchanged = turn
    if box is None:
        box = Box(0, 0, height, width)
    else:
        top, left, bottom, right = (box[i] for i in ((1, 0, 3, 2) if exchanged else (0, 1, 2, 3)))
        if upside_down:
            top, bottom = height - bottom, height - top
        if mirrored:
            left, right = width - right, width - left
        box = Box(top, left, bottom, right)
    pixels = _decode_stored(data, channels, name, box)
    pixels = pixels[:: -1 if upside_down else 1, :: -1 if mirrored else 1]
    return np.ascontiguousarray(pixels.swapaxes(0, 1) if exchanged else pixels)


def _decode_stored(data: bytes, channels: int, name: str, box: Box) -> Pixels:
    """Return the pixels of a box in the orientation in which they are stored."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours == "YCbCr" and channels == 3:
            return _decode_plain(data, "RGB", (height, width), box)
        if colours == "Gray":
            return np.repeat(_decode_plain(data, "GRAY", (height, width), box), channels, axis=2)
    except ValueError:
        pass  # truncated, of another format, or damaged: Pillow decodes it or names the error
    try:
        with _opened(data) as picture:
            pixels = _in_mode(picture, "RGB" if channels == 3 else "L", name)
    except UnreadableError:
        raise
    except Exception as error:  # Pillow raises many types on damaged files
        raise UnreadableError(f"{name} cannot be decoded: {_reason(data, error)}") from error
    pixels = pixels.reshape(*pixels.shape[:2], channels)
    return pixels[box.top : box.bottom, box.left : box.right]


def _in_mode(picture: Image.Image, mode: str, name: str) -> np.ndarray:
    """Convert an image to a mode of 8 bits, composed on white if it is transparent."""
    form = picture.format
    picture.load()
    if picture.mode.startswith("I;16") or (picture.mode == "I" and form in ("PNG", "PPM")):
        values = np.asarray(picture).astype(np.int64)
        pixels = (np.clip(values, 0, 65535) / 257 + 0.5).astype(np.uint8)
        clear = picture.info.get("transparency")
        if isinstance(clear, int):
            pixels[values == clear] = 255
        picture = Image.fromarray(pixels)
    elif picture.mode in ("I", "F"):
        raise UnreadableError(
            f"{name} has 32-bit pixels, and nothing states which of their values is white: "
            "convert it to 8 or 16 bits."
        )
    elif picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return np.asarray(picture.convert(mode))


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """Open an image without Pillow's warnings, which concern harmless faults; others are errors."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        with Image.open(io.BytesIO(data)) as picture:
            yield picture


def _reason(data: bytes, error: Exception) -> str:
    if not data:
        return "it is empty"
    if isinstance(error, UnidentifiedImageError):  # its message names a Python object
        return "it is of no known format, or its beginning is damaged"
    return str(error) or type(error).__name__


def _decode_plain(data: bytes, colours: str, size: tuple[int, int], box: Box) -> Pixels:
    """Decode a box with libjpeg-turbo, reading as little of the file as its layout allows.

    Most of the time is spent on entropy decoding. If the file has restart markers and a list of
    their places (`jpeg_restart`), only the segments that the box touches are decoded. A baseline
    file is decoded from the top to the last row that is needed, by reducing the height in its
    header; one more row of blocks is included, since chroma upsampling reads it.
    """
    top, left, bottom, right = box
    # Decoding a part would not notice that a file is truncated: look for its end marker.
    complete = data.find(END, max(0, len(data) - 1024)) >= 0
    header = jpeg_restart.read_header(data) if complete else None
    if header is None or (header.height, header.width) != size:
        return simplejpeg.decode_jpeg(data, colorspace=colours)[top:bottom, left:right]
    part = jpeg_restart.splice(data, header, box)
    if part is not None:
        pixels = simplejpeg.decode_jpeg(part.data, colorspace=colours)
        return pixels[top - part.top : bottom - part.top, left - part.left : right - part.left]
    enough = -(-bottom // BLOCK) * BLOCK + BLOCK
    if enough >= header.height:
        return simplejpeg.decode_jpeg(data, colorspace=colours)[top:bottom, left:right]
    place = header.frame
    short = data[:place] + enough.to_bytes(2, "big") + data[place + 2 :]
    # Not strict: libjpeg warns of the data of the rows below, which are still in the file.
    return simplejpeg.decode_jpeg(short, colorspace=colours, strict=False)[top:bottom, left:right]


END = b"\xff\xd9"
BLOCK = 32  # rows: the height of a row of blocks with the largest sampling factor
