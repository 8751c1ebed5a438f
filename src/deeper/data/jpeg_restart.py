"""JPEG files laid out so that a part of one is decoded from a part of its bytes.

Most of a JPEG's decoding time goes into its entropy coding, which runs through the whole file: to
decode the middle, all before it has to be. Restart markers (ITU-T T.81, section F.1.1.5.1) cut the
coding into segments that stand alone. `relay` writes such markers, as many segments a row of
blocks as reach about `SEGMENT` pixels each, and notes the segments' lengths in an APP11 segment.
`splice` then makes, of the segments that a box touches, a small file of its own. Nothing is
requantised: the file stays a JPEG that every decoder reads, and its pixels stay the same.
"""

import shutil
import subprocess
from typing import NamedTuple

import numpy as np

from deeper.data.crops import Box
from deeper.errors import UserError

PROGRAM = "jpegtran"
SEGMENT = 32  # pixels: shorter ones waste less beside a box and cost more bytes in the file
MARK = b"deeper restart 1\0"  # how our APP11 segment begins; then: uint16 lengths, big endian
MOST_SEGMENTS = 32_000  # whose lengths fit into one APP11 segment
END = b"\xff\xd9"
REACH = 2  # pixels beyond a box that interpolating the colours at its edge looks at


class Header(NamedTuple):
    """What stands before a baseline file's coded pixels.

    Attributes:
        kept: marker segments that decoding needs, each (first byte, byte after the last).
        frame: place of the frame's height, which its width follows.
        height: in pixels.
        width: in pixels.
        unit: (height, width) of a coded unit in pixels.
        interval: units between restart markers; 0 without.
        lengths: (first byte, byte after the last) of our own note of segments' lengths, or None.
        coded: first byte of the coded pixels.
    """

    kept: list[tuple[int, int]]
    frame: int
    height: int
    width: int
    unit: tuple[int, int]
    interval: int
    lengths: tuple[int, int] | None
    coded: int


class Part(NamedTuple):
    """A file of some of a photograph's pixels.

    Attributes:
        data: the file.
        top: row of the photograph that its first row is.
        left: column of the photograph that its first column is.
    """

    data: bytes
    top: int
    left: int


def read_header(data: bytes) -> Header | None:
    """Read up to the coded pixels of a baseline file; None if it is of another kind.

    ITU-T T.81, annex B: segments of a marker and a length; SOF0 has precision, height and width.
    """
    place, frame, interval, lengths = 2, 0, 0, None
    kept = [(0, 2)]
    height = width = 0
    unit = (8, 8)
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # padding
            place += 1
            continue
        end = place + 2 + (data[place + 2] << 8 | data[place + 3])
        if marker == 0xEB and data.startswith(MARK, place + 4):
            lengths = place + 4 + len(MARK), end
        elif marker == 0xC0:
            frame = place + 5
            height, width = (
                data[frame] << 8 | data[frame + 1],
                data[frame + 2] << 8 | data[frame + 3],
            )
            factors = data[place + 11 : end : 3]
            if len(factors) != data[place + 9] or len(factors) not in (1, 3):
                return None
            if len(factors) > 1:  # a component alone is coded block by block
                unit = 8 * max(f & 15 for f in factors), 8 * max(f >> 4 for f in factors)
        elif 0xC1 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return None  # progressive, arithmetic and the like
        elif marker == 0xDD:
            interval = data[place + 4] << 8 | data[place + 5]
        # Of the application's segments JFIF's and Adobe's tell how colours are coded.
        if marker in (0xE0, 0xEE) or not 0xE0 <= marker <= 0xFE:
            kept.append((place, end))
        if marker == 0xDA:
            if not frame or data[place + 4] != len(factors):
                return None  # the components come one after the other
            return Header(kept, frame, height, width, unit, interval, lengths, end)
        place = end
    return None


def splice(data: bytes, header: Header, box: Box) -> Part | None:
    """Return a file of the segments that a box touches; None if the file is not laid out so.

    Args:
        data: the whole file.
        header: its header.
        box: what is needed of it.
    """
    if header.lengths is None or not header.interval:
        return None
    row, column = header.unit[0], header.unit[1] * header.interval
    rows, columns = -(-header.height // row), -(-header.width // column)
    lengths = np.frombuffer(data[slice(*header.lengths)], ">u2")
    if len(lengths) != rows * columns:
        return None
    begins = np.empty(len(lengths) + 1, np.int64)
    begins[0] = header.coded
    np.cumsum(lengths, out=begins[1:])
    begins[1:] += header.coded
    if begins[-1] + 2 > len(data):
        return None  # cut short, which the decoder of the whole says
    top, left, bottom, right = box
    first, last = max(top - REACH, 0) // row, min(-(-(bottom + REACH) // row), rows)
    start, stop = max(left - REACH, 0) // column, min(-(-(right + REACH) // column), columns)
    width = min(stop * column, header.width) - start * column
    height = min(last * row, header.height) - first * row

    pieces = [data[a:b] for a, b in header.kept]
    head = b"".join(pieces)
    at = sum(min(b, header.frame) - a for a, b in header.kept if a < header.frame)
    size = bytes((height >> 8, height & 255, width >> 8, width & 255))
    chosen = lengths.reshape(rows, columns)[first:last, start:stop]
    froms = begins[:-1].reshape(rows, columns)[first:last, start].tolist()
    tos = begins[1:].reshape(rows, columns)[first:last, stop - 1].tolist()
    parts = [head[:at], size, head[at + 4 :], *[data[a:b] for a, b in zip(froms, tos)]]
    whole = last == rows and stop == columns
    if whole:
        parts.append(END)
    body = bytearray().join(parts)
    # Every segment but the file's last ends in a marker, whose number counts on, modulo 8.
    ends = len(head) + np.cumsum(chosen.ravel(), dtype=np.int64) - 1
    pixels = np.frombuffer(body, np.uint8)
    marked = ends[:-1]
    pixels[marked] = 0xD0 | (np.arange(len(marked), dtype=np.uint8) & 7)
    if not whole:
        pixels[-1] = END[1]
    return Part(bytes(body), first * row, start * column)


def relay(data: bytes) -> bytes | None:
    """Return a JPEG file laid out anew; None if it has to stay as it is.

    Only files of one and of three components are laid out anew; progressive ones become baseline.
    """
    plain = _transcoded(data, [])
    header = None if plain is None else read_header(plain)
    if plain is None or header is None or data.find(b"\xff\xd8") != 0:
        return None
    units = -(-header.width // header.unit[1])
    rows = -(-header.height // header.unit[0])
    wished = SEGMENT / header.unit[1]
    divisors = [n for n in range(1, units + 1) if units % n == 0]
    fitting = [n for n in divisors if rows * units // n <= MOST_SEGMENTS]
    interval = min(fitting, key=lambda n: abs(np.log(n / wished)), default=0)
    if not interval or header.height >= 1 << 16:
        return None
    laid = _transcoded(data, ["-restart", f"{interval}B"])
    header = None if laid is None else read_header(laid)
    if laid is None or header is None:
        return None
    coded = np.frombuffer(laid, np.uint8)[header.coded :]
    marks = np.flatnonzero((coded[:-1] == 0xFF) & ((coded[1:] & 0xF8) == 0xD0)) + 2
    end = laid.rfind(b"\xff\xd9") - header.coded
    lengths = np.diff(np.concatenate([[0], marks, [end]]))
    if len(lengths) != rows * units // interval or lengths.max() >= 1 << 16:
        return None
    note = MARK + lengths.astype(">u2").tobytes()
    return laid[:2] + b"\xff\xeb" + (len(note) + 2).to_bytes(2, "big") + note + laid[2:]


def require_program() -> None:
    """Raise a UserError unless the program that lays files out anew is installed."""
    if shutil.which(PROGRAM) is None:
        raise UserError(
            f"layout=restart needs the program {PROGRAM}, which is not installed: it is in the "
            "package libjpeg-turbo-progs (Debian, Ubuntu) or libjpeg-turbo-utils (Fedora)."
        )


def _transcoded(data: bytes, options: list[str]) -> bytes | None:
    """Return what libjpeg-turbo's lossless transcoder makes of a file; None if it refuses it."""
    command = [PROGRAM, "-copy", "all", "-optimize", *options]
    done = subprocess.run(command, input=data, capture_output=True)
    return done.stdout if done.returncode == 0 and not done.stderr else None
