"""Sending the records of runs to W&B, as often as one likes.

The record is the truth, also of a run that was killed, whose W&B file may lack its end. What W&B
has already is not sent again: see `wandb_upload`.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from deeper.errors import UserError
from deeper.record.atomic_files import read_json
from deeper.record.lock import holder_of, take_lock
from deeper.record.run_directory import CONFIG, RESULT
from deeper.track.wandb_process import Mirror, has_api_key
from deeper.track.wandb_switches import choose
from deeper.track.wandb_upload import uploaded

RUN_SECONDS = 600.0  # for the upload of one run


def find_runs(root: Path) -> list[Path]:
    """Return the run directories under a directory, or the directory itself if it is one.

    Args:
        root: a run's directory, a study's, or the one of all the runs.

    Raises:
        UserError: there is none.
    """
    patterns = (CONFIG, f"*/{CONFIG}", f"*/*/{CONFIG}")
    found = sorted(file.parent for pattern in patterns for file in root.glob(pattern))
    if not found:
        raise UserError(f"There is no run under {root}: name a run, a study's directory or runs.")
    return found


def sync(
    paths: Iterable[Path], *, mode: str = "online", warn: Callable[[str], None] = print
) -> dict[Path, int]:
    """Send what W&B does not have yet.

    Args:
        paths: run directories.
        mode: online, or offline to write a file of W&B's own, of all the rows.
        warn: told of a run that is going on, and so is left out, and of each failure.

    Returns:
        Rows sent, by run directory; one that failed is not in it.

    Raises:
        UserError: there is no API key, or W&B is turned off.
    """
    choice = choose(mode)
    if choice.mode == "disabled":
        raise UserError(choice.notice())
    if mode == "online" and not has_api_key():
        raise UserError(
            "There is no W&B API key: run `wandb login`, or set WANDB_API_KEY, and repeat."
        )
    sent: dict[Path, int] = {}
    for path in paths:
        try:
            lock = take_lock(path)
        except UserError as error:
            warn(f"left out: {error}")
            if holder_of(path) is not None:
                sent[path] = 0  # what it makes is sent later
            continue
        try:
            rows = _send(path, mode, warn)
        except OSError as error:
            warn(f"{path} cannot be read: {error}")
            continue
        finally:
            lock.release()
        if rows is not None:
            sent[path] = rows
    return sent


def _send(path: Path, mode: str, warn: Callable[[str], None]) -> int | None:
    """Return the number of rows sent of a run; None if it cannot be read, or W&B failed."""
    if uploaded(path, mode):
        return 0
    result = read_json(path / RESULT)
    if result is None and (path / RESULT).exists():
        warn(f"{path / RESULT} cannot be read: nothing of its run was sent.")
        return None
    status = (result or {}).get("status", "interrupted")
    return Mirror(path, mode, lambda text: warn(f"{path}: {text}")).finish(status, RUN_SECONDS)
