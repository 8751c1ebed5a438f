"""Finds photographs that cannot be read, so that a run can leave them out.

Unreadable photographs are found once, before training, by decoding all of them; the result is
stored with the data. The examples of a run are thus known from the start, and a batch remains a
function of the seed and its number.
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

CHUNK = 64  # photographs per task


def without_unreadable(split: Split, progress: Progress) -> tuple[Split, tuple[str, ...]]:
    """Return the readable part of a split, and the file names of the photographs left out.

    Args:
        split: photographs; a split of arrays is returned as it is.
        progress: called while photographs are decoded, if no earlier call has stored the result.
    """
    images = split.images
    if not isinstance(images, Photographs):
        return split, ()
    bad = _of_split(images.directory, images.split, progress)
    good = np.array([int(number) not in bad for number in images.numbers], bool)
    if good.all():
        return split, ()
    return split.select(good), tuple(bad[int(number)] for number in images.numbers[~good])


def _of_split(directory: Path, split: str, progress: Progress) -> dict[int, str]:
    """Return record number -> file name of unreadable photographs, as stored or after decoding."""
    note = directory / f"unreadable-{split}.json"
    files = [[path.name, path.stat().st_size] for path in sorted(directory.glob("*.array_record*"))]
    try:
        noted = json.loads(note.read_text(encoding="utf-8"))
        if noted["files"] == files:
            return {int(number): name for number, name in noted["unreadable"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    bad = _decode_all(directory, split, progress)
    # If the directory is not writable, each run decodes all photographs again.
    with contextlib.suppress(OSError):
        part = note.with_name(f".{note.name}-{os.getpid()}")
        part.write_text(json.dumps({"files": files, "unreadable": bad}, indent=1), encoding="utf-8")
        part.replace(note)
    return bad


def _decode_all(directory: Path, split: str, progress: Progress) -> dict[int, str]:
    count = sum(array_records.split_lengths(directory)[split])
    per_thread = threading.local()  # array_record's reader may be used by one thread only

    def check(begin: int) -> dict[int, str]:
        if not hasattr(per_thread, "records"):
            per_thread.records = array_records.open_records(directory, split)
        chunk = range(begin, min(begin + CHUNK, count))
        bad = {}
        records = per_thread.records.__getitems__(list(chunk))
        for number, record in zip(chunk, records, strict=True):
            name = f"record {number}"
            try:
                fields = array_records.fields(record)
                data, file_name = fields["image"], fields.get("file_name", b"")
                if not isinstance(data, bytes) or not isinstance(file_name, bytes):
                    raise ValueError(f"{name} holds no photograph")
                name = file_name.decode() or name
                jpeg.decode(data, 3, name)
            except (jpeg.UnreadableError, ValueError, KeyError):
                bad[number] = name
        return bad

    unreadable: dict[int, str] = {}
    workers = core_count()
    with ThreadPoolExecutor(workers) as pool:
        pending: deque[tuple[int, Future[dict[int, str]]]] = deque()
        for begin in range(0, count, CHUNK):
            pending.append((begin, pool.submit(check, begin)))
            while len(pending) > 2 * workers or (begin + CHUNK >= count and pending):
                done, job = pending.popleft()
                unreadable |= job.result()
                progress(f"decode {split}", min(done + CHUNK, count), count)
    return dict(sorted(unreadable.items()))
