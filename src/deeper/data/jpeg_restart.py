"""JPEG files with restart markers, of which a part can be decoded from a part of the bytes.

Most of the time of decoding a JPEG file is spent on entropy decoding, which has to read everything
before the part that is wanted. Restart markers (ITU-T T.81, section F.1.1.5.1) divide the coded
data into independent segments. `with_restart_markers` adds them, with segments of about `SEGMENT`
pixels along each row of blocks, and stores the lengths of the segments in an APP11 segment.
`splice` then builds a small file from the segments that a box touches. Nothing is quantised again:
every decoder can read the file, and its pixels do not change.
"""

import shutil
import subprocess
from typing import NamedTuple

import numpy as np

from deeper.data.crops import Box
from deeper.errors import UserError

PROGRAM = "jpegtran"
SEGMENT = 32  # pixels: shorter segments waste less around a box, but make the file larger
MARK = b"deeper restart 1\0"  # begins our APP11 segment; uint16 lengths, big endian, follow
MOST_SEGMENTS = 32_000  # number of lengths that fit into one APP11 segment
END = b"\xff\xd9"
REACH = 2  # pixels around a box that chroma upsampling reads


class Header(NamedTuple):
    """The header of a baseline file. Ranges of bytes are (first byte, byte after the last).

    Attributes:
        kept: marker segments that decoding needs, as ranges of bytes.
        frame: offset of the image height, which the width follows.
        height: height of the image in pixels.
        width: width of the image in pixels.
        unit: (height, width) of a minimum coded unit in pixels.
        interval: units between restart markers; 0 without restart markers.
        lengths: range of bytes of our list of segment lengths, or None.
        coded: offset of the entropy-coded data.
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
    """A JPEG file that holds a part of a photograph.

    Attributes:
        data: content of the file.
        top: row of the photograph at which the part begins.
        left: column of the photograph at which the part begins.
    """

    data: bytes
    top: int
    left: int


def read_header(data: bytes) -> Header | None:
    """Parse the header of a baseline file (ITU-T T.81, annex B); None if it is not baseline."""
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
            if len(factors) > 1:  # a single component is coded block by block
                unit = 8 * max(f & 15 for f in factors), 8 * max(f >> 4 for f in factors)
        elif 0xC1 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return None  # progressive, arithmetic or another process
        elif marker == 0xDD:
            interval = data[place + 4] << 8 | data[place + 5]
        # Of the APPn segments, only those of JFIF and Adobe affect decoding: the colour space.
        if marker in (0xE0, 0xEE) or not 0xE0 <= marker <= 0xFE:
            kept.append((place, end))
        if marker == 0xDA:
            if not frame or data[place + 4] != len(factors):
                return None  # the scan does not hold all components
            return Header(kept, frame, height, width, unit, interval, lengths, end)
        place = end
    return None


def splice(data: bytes, header: Header, box: Box) -> Part | None:
    """Build a file from the segments that a box touches.

    Args:
        data: content of the complete file.
        header: its header.
        box: the pixels that are needed.

    Returns:
        The part, or None if the file has no restart markers that `with_restart_markers` has listed.
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
        return None  # truncated: decoding the complete file raises the error
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
    has_end = last == rows and stop == columns
    if has_end:
        parts.append(END)
    body = bytearray().join(parts)
    # Every segment but the last of a file ends in a restart marker, numbered modulo 8.
    ends = len(head) + np.cumsum(chosen.ravel(), dtype=np.int64) - 1
    pixels = np.frombuffer(body, np.uint8)
    marked = ends[:-1]
    pixels[marked] = 0xD0 | (np.arange(len(marked), dtype=np.uint8) & 7)
    if not has_end:
        pixels[-1] = END[1]
    return Part(bytes(body), first * row, start * column)


def with_restart_markers(data: bytes) -> bytes | None:
    """Return a JPEG file with restart markers; None if they cannot be added.

    Only files of one and of three components can have them; progressive files become baseline.
    """
    plain = _transcoded(data, [])
    header = None if plain is None else read_header(plain)
    if plain is None or header is None or data.find(b"\xff\xd8") != 0:
        return None
    units = -(-header.width // header.unit[1])
    rows = -(-header.height // header.unit[0])
    target = SEGMENT / header.unit[1]
    divisors = [n for n in range(1, units + 1) if units % n == 0]
    fitting = [n for n in divisors if rows * units // n <= MOST_SEGMENTS]
    interval = min(fitting, key=lambda n: abs(np.log(n / target)), default=0)
    if not interval or header.height >= 1 << 16:
        return None
    marked = _transcoded(data, ["-restart", f"{interval}B"])
    header = None if marked is None else read_header(marked)
    if marked is None or header is None:
        return None
    coded = np.frombuffer(marked, np.uint8)[header.coded :]
    marks = np.flatnonzero((coded[:-1] == 0xFF) & ((coded[1:] & 0xF8) == 0xD0)) + 2
    end = marked.rfind(b"\xff\xd9") - header.coded
    lengths = np.diff(np.concatenate([[0], marks, [end]]))
    if len(lengths) != rows * units // interval or lengths.max() >= 1 << 16:
        return None
    note = MARK + lengths.astype(">u2").tobytes()
    return marked[:2] + b"\xff\xeb" + (len(note) + 2).to_bytes(2, "big") + note + marked[2:]


def require_program() -> None:
    """Raise a UserError unless jpegtran, which adds the markers, is installed."""
    if shutil.which(PROGRAM) is None:
        raise UserError(
            f"layout=restart needs the program {PROGRAM}, which is not installed: it is in the "
            "package libjpeg-turbo-progs (Debian, Ubuntu) or libjpeg-turbo-utils (Fedora)."
        )


def _transcoded(data: bytes, options: list[str]) -> bytes | None:
    """Run libjpeg-turbo's lossless transcoder on a file; None if it fails or warns."""
    command = [PROGRAM, "-copy", "all", "-optimize", *options]
    done = subprocess.run(command, input=data, capture_output=True)
    return done.stdout if done.returncode == 0 and not done.stderr else None
