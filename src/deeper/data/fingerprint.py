"""A digest of the encoded photographs in a prepared directory.

Opening photographs decodes nothing, so their files have to be read once to compute the digest. It
is stored in the directory, and is valid until the name, size or time of a file changes.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from deeper.data import array_records
from deeper.data.array_cache import places
from deeper.data.prepare.atomic_directory import Progress
from deeper.errors import UserError
from deeper.platform_support import core_count

NOTE = "content.json"
READ_SIZE = 64  # photographs per read


def content_of(directory: Path, progress: Progress, splits: Sequence[str] | None = None) -> str:
    """Return a digest of the encoded photographs of a prepared directory, in hex digits.

    It does not depend on where they were prepared, on the number of files, or on splits that no run
    reads.

    It is stored in the directory, or in the user's cache directory if that is not writable.

    Args:
        directory: the prepared TFDS directory.
        progress: called with the number of photographs that have been read.
        splits: that are read; by default those that runs of classification read.

    Raises:
        UserError: a record is damaged.
    """
    files = sorted(directory.glob("*.array_record*"))
    splits = sorted(array_records.splits_read(directory)[0] if splits is None else splits)
    facts = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    notes = [directory / NOTE, places(directory.parent.name, directory)[1] / NOTE]
    for note in notes:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            known = json.loads(note.read_text())
            if known["files"] == facts and known["splits"] == splits:
                return str(known["sha256"])
    digest = _digest(directory, splits, progress)
    for note in notes:
        with contextlib.suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            aside = note.with_name(f".{NOTE}-{os.getpid()}")
            aside.write_text(json.dumps({"files": facts, "splits": splits, "sha256": digest}))
            aside.replace(note)
            break
    return digest


def _digest(directory: Path, splits: Sequence[str], progress: Progress) -> str:
    """Hash all photographs; the number of files and their compression do not matter."""
    total, threads = hashlib.sha256(), core_count()
    with ThreadPoolExecutor(threads) as pool:  # hashing releases the GIL
        lengths = array_records.split_lengths(directory)
        for split in splits:
            count = sum(lengths[split])
            step = max(READ_SIZE, -(-count // (8 * threads)))
            parts = [range(i, min(i + step, count)) for i in range(0, count, step)]
            total.update(f"{split} {count}\n".encode())
            done = 0
            for part, digests in zip(
                parts, pool.map(partial(_digests, directory, split), parts), strict=True
            ):
                total.update(digests)
                done += len(part)
                progress(f"read the content of {split}", done, count)
    return total.hexdigest()


def _digests(directory: Path, split: str, part: range) -> bytes:
    """Return the SHA-256 digests (32 bytes each) of a range of photographs, joined."""
    records, digests = array_records.open_records(directory, split), []
    for first in range(part.start, part.stop, READ_SIZE):
        chunk = range(first, min(first + READ_SIZE, part.stop))
        try:
            images = [array_records.fields(r)["image"] for r in records.__getitems__(chunk)]
        except (ValueError, KeyError, IndexError, RuntimeError) as error:
            raise UserError(
                f"One of the records {chunk.start} to {chunk.stop - 1} of {split} in {directory} "
                "is damaged: prepare the data set again."
            ) from error
        for image in images:
            assert isinstance(image, bytes)
            digests.append(hashlib.sha256(image).digest())
    return b"".join(digests)
