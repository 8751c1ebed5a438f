"""Which photographs of a prepared set cannot be read, so that a run can do without them.

All are decoded once, ahead of the first run, and what was found is noted beside the data. So the
examples of a run are known before it begins: a batch stays a function of the seed and its number,
whoever computes it, and the number of examples evaluated tells that some were left out.
"""

import contextlib
import json
import os
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from deeper.data import array_records, jpeg
from deeper.data.dataset import Split
from deeper.data.encoded_images import Photographs
from deeper.data.prepare.atomic_directory import Progress
from deeper.platform_support import core_count

CHUNK = 64  # photographs decoded at a time


def readable(split: Split, progress: Progress) -> tuple[Split, tuple[str, ...]]:
    """Return a split without what cannot be read, and the file names of that.

    Args:
        split: photographs; arrays are readable.
        progress: told how many were decoded, if that is not known from an earlier call.
    """
    images = split.images
    if not isinstance(images, Photographs):
        return split, ()
    bad = _of_split(images.directory, images.split, progress)
    whole = np.array([int(number) not in bad for number in images.numbers], bool)
    if whole.all():
        return split, ()
    return split.select(whole), tuple(bad[int(number)] for number in images.numbers[~whole])


def _of_split(directory: Path, split: str, progress: Progress) -> dict[int, str]:
    """Return record -> file name, as noted, or after decoding all."""
    note = directory / f"unreadable-{split}.json"
    files = [[path.name, path.stat().st_size] for path in sorted(directory.glob("*.array_record*"))]
    try:
        noted = json.loads(note.read_text(encoding="utf-8"))
        if noted["files"] == files:
            return {int(number): name for number, name in noted["unreadable"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    found = _decode_all(directory, split, progress)
    # Where the directory cannot be written to, each run looks anew.
    with contextlib.suppress(OSError):
        part = note.with_name(f".{note.name}-{os.getpid()}")
        part.write_text(
            json.dumps({"files": files, "unreadable": found}, indent=1), encoding="utf-8"
        )
        part.replace(note)
    return found


def _decode_all(directory: Path, split: str, progress: Progress) -> dict[int, str]:
    count = sum(array_records.split_lengths(directory)[split])
    own = threading.local()  # array_record's reader is one thread's

    def look(begin: int) -> dict[int, str]:
        if not hasattr(own, "records"):
            own.records = array_records.open_records(directory, split)
        chosen = range(begin, min(begin + CHUNK, count))
        bad = {}
        for number, record in zip(chosen, own.records.__getitems__(list(chosen)), strict=True):
            name = f"record {number}"
            try:
                fields = array_records.fields(record)
                data, told = fields["image"], fields.get("file_name", b"")
                if not isinstance(data, bytes) or not isinstance(told, bytes):
                    raise ValueError(f"{name} holds no photograph")
                name = told.decode() or name
                jpeg.decode(data, 3, name)
            except (jpeg.UnreadableError, ValueError, KeyError):
                bad[number] = name
        return bad

    found: dict[int, str] = {}
    workers = core_count()
    with ThreadPoolExecutor(workers) as pool:
        pending: deque[tuple[int, Future[dict[int, str]]]] = deque()
        for begin in range(0, count, CHUNK):
            pending.append((begin, pool.submit(look, begin)))
            while len(pending) > 2 * workers or (begin + CHUNK >= count and pending):
                done, job = pending.popleft()
                found |= job.result()
                progress(f"decode {split}", min(done + CHUNK, count), count)
    return dict(sorted(found.items()))
