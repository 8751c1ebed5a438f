"""Sends the records of runs to W&B (`deeper sync`); it can be repeated at any time.

The run directory is authoritative: the W&B file of a run that was killed may lack its last rows.
Rows that W&B already has are not sent again; see `wandb_upload`.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from deeper.errors import UserError
from deeper.record.atomic_files import read_json
from deeper.record.lock import holder_of, take_lock
from deeper.record.schema import CONFIG, RESULT
from deeper.track.wandb_process import WANDB, Mirror, has_api_key
from deeper.track.wandb_switches import choose
from deeper.track.wandb_upload import uploaded

RUN_SECONDS = 600.0  # timeout for the upload of one run


def find_runs(root: Path) -> list[Path]:
    """Return the run directories under a directory, or the directory itself if it is a run
    directory.

    Args:
        root: directory of a run, of a study, or of all runs.

    Raises:
        UserError: there is no run.
    """
    patterns = (CONFIG, f"*/{CONFIG}", f"*/*/{CONFIG}")
    runs = sorted(file.parent for pattern in patterns for file in root.glob(pattern))
    if not runs:
        raise UserError(f"There is no run under {root}: name a run, a study's directory or runs.")
    return runs


def sync(
    paths: Iterable[Path], *, mode: str = "online", warn: Callable[[str], None] = print
) -> dict[Path, int]:
    """Send the rows that W&B does not have yet.

    Args:
        paths: run directories.
        mode: online, or offline to write an offline file of W&B with all rows.
        warn: called with a message for each failure, and for each run that is left out because it
            is being trained.

    Returns:
        Run directory -> number of rows sent; runs that failed are missing.

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
                sent[path] = 0  # the mirror of that process sends the rows
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
    """Send one run; return the number of rows sent, or None if its result or W&B failed."""
    if uploaded(path, mode):
        return 0
    result = read_json(path / RESULT)
    if result is None and (path / RESULT).exists():
        warn(f"{path / RESULT} cannot be read: nothing of its run was sent.")
        return None
    status = (result or {}).get("status", "interrupted")
    mirror = Mirror(WANDB, path, [mode], lambda text: warn(f"{path}: {text}"))
    return mirror.finish(status, RUN_SECONDS)
