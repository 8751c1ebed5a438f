"""The one place where a picture's bytes become pixels: training, evaluation, predict and see alike.

Plain JPEG files go through libjpeg-turbo (simplejpeg), whose pixels are Pillow's; whatever else a
file turns out to be goes through Pillow itself:

- transparent pictures are put on white;
- 16-bit grey is scaled to 8 bits (65535 becomes 255), and 16-bit colour keeps its upper 8 bits;
- pictures of 32-bit integers or floats are refused, as nothing states what is white in them;
- of an animation the first picture is taken;
- palette, CMYK and grey pictures become RGB, or colours grey, as Pillow converts them.

A picture is turned as its EXIF entry says only if that is asked for: the published results of
ImageNet were made without. A TIFF file's orientation is part of its format, and always holds.
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

MOST_PIXELS = 1 << 26  # of one photograph; what claims more is refused before it is decoded

# EXIF orientation -> whether the stored rows are reversed, the columns, and then both exchanged.
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
# Without one of these no JPEG or PNG file has an orientation, and need not be parsed for it.
SIGNS = {
    b"\xff\xd8": (b"Exif\0\0", b"tiff:Orientation"),
    b"\x89PNG": (b"eXIf", b"exif", b"XML:com.adobe.xmp"),
}


class UnreadableError(UserError):
    """A file is no picture, is damaged, or claims too many pixels."""


def size_of(data: bytes, name: str, *, exif: bool = False) -> tuple[int, int]:
    """Return a photograph's (height, width), decoding nothing.

    Args:
        data: the file's content.
        name: of the file, for messages.
        exif: whether it is turned as its EXIF entry says.

    Raises:
        UnreadableError: it is none, or it is too large.
    """
    height, width = _stored_size(data, name)
    turned = exif and TURNS.get(orientation(data), (False, False, False))[2]
    return (width, height) if turned else (height, width)


def _stored_size(data: bytes, name: str) -> tuple[int, int]:
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        try:
            with _opened(data) as picture:
                width, height = picture.size
        except Image.DecompressionBombError as error:
            raise UnreadableError(f"{name} is too large: {error}") from error
        except Exception as error:  # Pillow raises all sorts on damaged files
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
    """Return how a picture is to be turned, a key of TURNS; UPRIGHT if its file does not say."""
    for magic, signs in SIGNS.items():
        if data.startswith(magic) and not any(sign in data for sign in signs):
            return UPRIGHT
    try:
        with _opened(data) as picture:
            if picture.format == "TIFF":  # Pillow turns it while it decodes
                return UPRIGHT
            found = picture.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
    except Exception:  # a damaged entry says nothing; a damaged picture is told of elsewhere
        return UPRIGHT
    return found if found in TURNS else UPRIGHT


def decode(
    data: bytes, channels: int, name: str, box: Box | None = None, *, exif: bool = False
) -> Pixels:
    """Return a photograph's pixels.

    Args:
        data: the file's content.
        channels: 3, or 1 for grey.
        name: of the file, for messages.
        box: the part that is needed, of the turned photograph; the whole by default.
        exif: whether it is turned as its EXIF entry says.

    Raises:
        UnreadableError: it cannot be read.
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
    """Return the pixels of a box as they lie in the file."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours == "YCbCr" and channels == 3:
            return _decode_plain(data, "RGB", (height, width), box)
        if colours == "Gray":
            return np.repeat(_decode_plain(data, "GRAY", (height, width), box), channels, axis=2)
    except ValueError:
        pass  # cut short, of another kind, or damaged: Pillow says what it is
    try:
        with _opened(data) as picture:
            pixels = _in_mode(picture, "RGB" if channels == 3 else "L", name)
    except UnreadableError:
        raise
    except Exception as error:  # Pillow raises all sorts on damaged files
        raise UnreadableError(f"{name} cannot be decoded: {_reason(data, error)}") from error
    pixels = pixels.reshape(*pixels.shape[:2], channels)
    return pixels[box.top : box.bottom, box.left : box.right]


def _in_mode(picture: Image.Image, mode: str, name: str) -> np.ndarray:
    """Return a picture's pixels in a mode of 8 bits, on white where it is transparent."""
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
    """Open a picture without Pillow's warnings: what is wrong is either an error or harmless."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        with Image.open(io.BytesIO(data)) as picture:
            yield picture


def _reason(data: bytes, error: Exception) -> str:
    if not data:
        return "it is empty"
    if isinstance(error, UnidentifiedImageError):  # its text names an object in memory
        return "it is of no known format, or its beginning is damaged"
    return str(error) or type(error).__name__


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
    header = jpeg_restart.read_header(data) if whole else None
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
    # Not strict: the rows below are still there, and libjpeg warns of them.
    return simplejpeg.decode_jpeg(short, colorspace=colours, strict=False)[top:bottom, left:right]


END = b"\xff\xd9"
BLOCK = 32  # rows: no sampling factor makes a row of blocks higher
