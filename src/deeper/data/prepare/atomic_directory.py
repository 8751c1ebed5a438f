"""Making a directory so that it appears whole or not at all, by one process at a time."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deeper.platform_support import lock_file

Progress = Callable[[str, int, int], None]  # what is done, how many so far, of how many

# What file systems without locks answer, as some of those that clusters share do.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def scratch_directory(parent: Path, name: str, progress: Progress) -> Iterator[Path]:
    """Give a working directory in ``parent``, and take it away at the end.

    A second process waits here until the first is done, and should then look whether anything is
    left to do. What a killed process has left behind is removed.

    Args:
        parent: made if it is missing; what is published from here has to be on its file system.
        name: of what is being made.
        progress: told that this process waits for another one.

    Raises:
        OSError: the directory cannot be made.
    """
    parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{name}-unfinished-"
    with alone(parent / f".{name}.lock", progress) as only_one:
        if only_one:
            for old in parent.glob(f"{prefix}*"):
                shutil.rmtree(old, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def publish(made: Path, target: Path) -> None:
    """Move a directory from the working directory to its place, after all of it is on the disk.

    Args:
        made: in the working directory, but not itself, whose permissions are the owner's alone.
        target: its place; what is there is replaced.
    """
    for path in (*made.rglob("*"), made):
        _flush(path)
    target.parent.mkdir(exist_ok=True)
    if target.exists():
        target.rename(made.parent / "replaced")
    made.rename(target)
    _flush(target.parent)


@contextmanager
def alone(path: Path, progress: Progress) -> Iterator[bool]:
    """Hold a lock, which ends with the process at the latest; yield False where there are none."""
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
            # Whoever held it before has removed the file, and a third may hold a new one.
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
    """Have the disk write what the system still holds of a file or directory."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
