"""Sends the record of a run to Weights & Biases, during the run or afterwards.

Row n of ``metrics.jsonl`` is step n of the W&B run. W&B stores each step once, and reports on
resuming how many steps it has. Sending a record again therefore adds the missing rows and repeats
none. This also holds after a requeue, and for a run that is both mirrored and synchronised. The x
axis of the charts is the training step.

``python -m deeper.track.wandb_upload DIRECTORY MODE [PROCESS]`` follows a run until its standard
input ends, and prints the number of rows sent, or the setting of W&B that turns it off. PROCESS is
the id of the process that is training.
"""

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from deeper.errors import UserError
from deeper.platform_support import lock_file
from deeper.record.atomic_files import read_json, to_json, write_whole
from deeper.record.schema import ENVIRONMENT, RESULT, ROWS, read_config, read_rows
from deeper.record.wandb_id import MARK
from deeper.track.following import deaf_to_batch_systems, wait_for_status
from deeper.track.wandb_artifacts import log_checkpoints, note_source
from deeper.track.wandb_media import media_of_row, result_media
from deeper.track.wandb_process import NOT_SENT, has_api_key
from deeper.track.wandb_run import command_of, start_run
from deeper.track.wandb_switches import choose, stored_choice

LONGEST_REASON = 1000  # characters of an error in an alert


def upload(
    path: Path, mode: str, ended: Callable[[], str | None], trainer: int | None = None
) -> str:
    """Send the rows of a run that W&B does not have; may raise any error of W&B.

    Args:
        path: the run directory.
        mode: online, offline, or auto; see `allowed_mode`.
        ended: waits a moment and returns the status of the run, followed by a line with the error
            of a run that failed, or None while it is running.
        trainer: id of the process that is training; None if training has ended.

    Returns:
        A line for `Mirror`: the number of rows sent, or the reason why none was.
    """
    import wandb

    try:
        mode = allowed_mode(wandb, mode)
    except UserError as notice:
        return f"{NOT_SENT}{notice}"
    (path / "wandb").mkdir(exist_ok=True)
    # W&B copies media files from the folder as it logs them.
    with (path / "wandb" / "lock").open("w") as lock, tempfile.TemporaryDirectory() as folder:
        with suppress(OSError):  # a file system without locks
            lock_file(lock.fileno(), wait=True)  # the mirror of an earlier process may be sending
        run = start_run(wandb, path, mode, trainer)
        config = read_config(path) or {}
        options = config.get("tracker") or {}
        note_source(run, path, mode)
        first = run.starting_step
        number, offset, end = 0, 0, None
        while end is None:
            end = ended()  # read the status before the rows, so that the last read misses no row
            for line, row in read_rows(path, offset):
                offset += len(line)
                if number >= first:
                    values = {key: value for key, value in row.items() if value is not None}
                    run.log(
                        values | media_of_row(wandb, path, row, folder), step=number, commit=True
                    )
                number += 1
        status, _, reason = end.partition("\n")
        digest = _digest(path)
        result = read_json(path / RESULT)
        if result is not None:
            plain = {k: v for k, v in result.items() if k != "metrics" and v is not None}
            run.summary.update(plain | dict(result.get("metrics") or {}))
            media = result_media(wandb, path, folder)
            if media:
                run.log(media, step=max(number, first), commit=True)
        wanted = bool(options.get("checkpoints"))
        # Those of a run that goes on are sent later: whoever stopped it may not wait for that.
        later = wanted and trainer is not None and status not in ("finished", "diverged")
        if wanted and not later:
            log_checkpoints(wandb, run, path, config)
        if trainer is not None and options.get("alerts", True):
            _alert(wandb, run, path, status, reason)
        run.finish(exit_code=0 if status == "finished" else 1)
        if not later:
            write_whole(path / MARK, to_json({**(read_json(path / MARK) or {}), mode: digest}))
    return f"rows sent: {max(0, number - first)}"


def allowed_mode(wandb: Any, mode: str) -> str:
    """Return online or offline, from ``tracker.mode``, W&B's own settings and its API key.

    Args:
        wandb: the module, which reads its settings files.
        mode: ``tracker.mode``.

    Raises:
        UserError: W&B is turned off; the message names the setting.
    """
    choice = choose(mode, stored_choice(wandb.setup().settings))
    if choice.mode == "disabled":
        raise UserError(choice.notice())
    if choice.mode == "auto":
        return "online" if has_api_key() else "offline"
    return choice.mode


def uploaded(path: Path, mode: str) -> bool:
    """Return whether the current record has already been sent to W&B, or written to its offline
    file.
    """
    return (read_json(path / MARK) or {}).get(mode) == _digest(path)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    for name in (ROWS, RESULT):
        if (path / name).is_file():
            digest.update((path / name).read_bytes())
    return digest.hexdigest()


def _alert(wandb: Any, run: Any, path: Path, status: str, reason: str) -> None:
    """Send an alert if a run diverged, failed or was killed."""
    if status == "diverged":
        reason = (read_json(path / RESULT) or {}).get("reason") or reason
    elif status == "killed":
        reason = "its process ended without a word, as by a kill or for want of memory"
    elif not reason:
        return
    said = "failed" if status == "killed" else status
    run.alert(
        title=f"{run.name} {said}",
        text=f"{reason[:LONGEST_REASON]} ({path.absolute()})",
        level=wandb.AlertLevel.ERROR,
    )


if __name__ == "__main__":
    deaf_to_batch_systems()
    # Images are stored here until they are uploaded; W&B's default is the home directory.
    os.environ.setdefault("WANDB_DATA_DIR", str(Path(sys.argv[1]).absolute() / "wandb" / "data"))
    directory, mode, *trainer = sys.argv[1:]
    # W&B records the command of its process.
    sys.argv = command_of(read_json(Path(directory) / ENVIRONMENT) or {})
    followed = int(trainer[0]) if trainer else None
    print(f"\n{upload(Path(directory), mode, wait_for_status, followed)}")
