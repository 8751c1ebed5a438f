"""Write fuzz.json: the results of decoding 10,000 damaged files.

Bytes of files of eight kinds are changed, cut off, doubled or inserted at random, with a seed. An
image or a UserError is a correct result; any other error ends the script. Half of the files are
decoded only down to some row; the script counts how often that gives an image although the complete
file is refused. The memory is that of the process.

    python experiments/photographs/fuzz.py
"""

import io
import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from rich.progress import track

from deeper.data import jpeg
from deeper.errors import UserError

FILES = 10_000


def kinds() -> dict[str, bytes]:
    """Return a valid file of each kind: name -> content."""
    rng = np.random.default_rng(0)

    def encoded(mode: str, form: str = "JPEG", **options: object) -> bytes:
        coarse = rng.integers(0, 256, (12, 16, 3)).astype(np.uint8)
        picture = Image.fromarray(coarse).resize((160, 120), Image.Resampling.BICUBIC)
        stream = io.BytesIO()
        picture.convert(mode).save(stream, form, **options)
        return stream.getvalue()

    return {
        "4:2:0": encoded("RGB", quality=92),
        "4:4:4": encoded("RGB", quality=95, subsampling=0),
        "progressive": encoded("RGB", quality=85, progressive=True),
        "restart markers": encoded("RGB", quality=90, restart_marker_rows=1),
        "grey": encoded("L", quality=90),
        "CMYK": encoded("CMYK", quality=90),
        "PNG": encoded("RGB", "PNG"),
        "WebP": encoded("RGB", "WEBP"),
    }


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Return a damaged copy of a file."""
    how = rng.integers(4)
    place = int(rng.integers(2, len(data)))
    if how == 0:
        out = bytearray(data)
        # Half of the damage is in the headers, where it matters most.
        last = len(data) if rng.integers(2) else min(700, len(data))
        for at in rng.integers(2, last, rng.integers(1, 12)):
            out[at] = rng.integers(256)
        return bytes(out)
    if how == 1:
        return data[:place]
    if how == 2:
        return data[:place] + data[place // 2 :]
    return data[:place] + rng.bytes(int(rng.integers(1, 64))) + data[place:]


def main() -> None:
    """Decode all damaged files, and write fuzz.json."""
    files, rng = list(kinds().items()), np.random.default_rng(1)
    process, seen, longest = psutil.Process(), Counter[str](), 0.0
    before = 0
    for number in track(range(FILES), "damaged files"):
        kind, data = files[number % len(files)]
        rows = int(rng.integers(1, 120)) if rng.integers(2) else None
        start = time.monotonic()
        broken = damaged(data, rng)
        try:
            pixels = jpeg.decode(broken, 3, kind, rows)
            assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
            seen["picture"] += 1
            if rows is not None:
                try:
                    jpeg.decode(broken, 3, kind)
                except UserError:
                    seen["picture_of_rows_alone"] += 1
        except UserError:
            seen["sentence"] += 1
        longest = max(longest, time.monotonic() - start)
        if number == FILES // 5:
            before = process.memory_info().rss
    result = {
        "files": FILES,
        **seen,
        "crashes": 0,
        "longest_seconds": round(longest, 2),
        "memory_growth_mb_over_last_four_fifths": round(
            (process.memory_info().rss - before) / 2**20, 1
        ),
    }
    (Path(__file__).parent / "fuzz.json").write_text(json.dumps(result, indent=1) + "\n")
    print(result)


if __name__ == "__main__":
    main()
