"""Creates directories atomically, and by one process at a time."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deeper.platform_support import lock_file

Progress = Callable[[str, int, int], None]  # (what is done, number done, total)

# Errors of file systems without locks, as some shared ones of clusters are.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def scratch_directory(parent: Path, name: str, progress: Progress) -> Iterator[Path]:
    """Provide a working directory in ``parent`` and remove it at the end.

    Only one process at a time is inside; others wait here, and should then check whether any work
    is left. Directories that killed processes have left behind are removed.

    Args:
        parent: parent directory, which is created if it is missing. It has to be on the file
            system of the directory that is published later.
        name: name of what is being made.
        progress: called if this process has to wait for another one.

    Raises:
        OSError: the directory cannot be created.
    """
    parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{name}-unfinished-"
    with exclusive(parent / f".{name}.lock", progress) as locked:
        if locked:
            for old in parent.glob(f"{prefix}*"):
                shutil.rmtree(old, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def publish(made: Path, target: Path) -> None:
    """Flush a directory to disk and move it to its final place.

    Args:
        made: a directory inside the working directory. (The working directory itself is readable
            by its owner only.)
        target: final place; a directory that is already there is replaced.
    """
    for path in (*made.rglob("*"), made):
        _flush(path)
    target.parent.mkdir(exist_ok=True)
    if target.exists():
        target.rename(made.parent / "replaced")
    made.rename(target)
    _flush(target.parent)


@contextmanager
def exclusive(path: Path, progress: Progress) -> Iterator[bool]:
    """Hold an exclusive lock on a file; yield False if the file system has no locks.

    Args:
        path: lock file, which is removed at the end.
        progress: called if this process has to wait for another one.
    """
    while True:
        with path.open("a", encoding="utf-8") as file:
            try:
                try:
                    lock_file(file.fileno(), wait=False)
                except BlockingIOError:
                    progress("wait for another process", 0, 1)
                    lock_file(file.fileno(), wait=True)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                yield False
                path.unlink(missing_ok=True)
                return
            # The previous holder has removed the file, and another process may have a new one.
            try:
                current = os.path.samestat(path.stat(), os.fstat(file.fileno()))
            except FileNotFoundError:
                current = False
            if not current:
                continue
            try:
                yield True
            finally:
                path.unlink(missing_ok=True)
            return


def _flush(path: Path) -> None:
    """Flush a file or directory to disk (fsync)."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
