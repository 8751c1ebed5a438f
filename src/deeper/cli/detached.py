"""``python -m deeper detached FOLDER``: the launcher of a detached sweep."""

from pathlib import Path

from deeper.cli.local_sweep import run_here
from deeper.display.terminal import open_console
from deeper.record.lock import take_lock
from deeper.sweep.local import detached_work


def run(folder: Path) -> int:
    """Run the sweep of a launch folder; return the exit status."""
    work = detached_work(folder)
    lock = take_lock(Path(work.folder))
    try:
        return run_here(work, open_console())
    finally:
        lock.release()
