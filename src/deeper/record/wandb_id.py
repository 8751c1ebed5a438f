"""The id of a run at Weights & Biases: a random number in the run directory.

It is drawn when the directory is created and stored there, so that requeued jobs, copies of the
directory and ``deeper sync`` continue the same W&B run. Another run directory of the same config
(under another ``runs``, after the first was removed, or of another user) is another W&B run.
"""

import re
import secrets
from pathlib import Path

from deeper.record.atomic_files import write_whole

ID = "wandb-id.txt"
MARK = "synced.json"  # records which rows W&B has; see `sync`
_AGENTS_ID = "wandb/id"  # older file for ids from agents of W&B sweeps
_WANDBS_FOLDER = re.compile(r"(?:offline-)?run-\d{8}_\d{6}-(.+)")


def run_id(path: Path) -> str:
    """Return the W&B id of a run directory, drawn at the first call.

    Raises:
        UserError: there is no id yet, and the disk refuses to store one.
    """
    known = _read(path / ID)
    if known is None:
        known = _earlier_id(path) or secrets.token_hex(8)
        write_id(path, known)
    return known


def write_id(path: Path, value: str) -> None:
    """Store the id of a run directory.

    Raises:
        UserError: the disk refuses.
    """
    write_whole(path / ID, f"{value}\n".encode())


def _earlier_id(path: Path) -> str | None:
    """Return the id of a run that was mirrored by an older version, which made ids of names; or
    None.

    W&B's folders in the run directory end with the id. If they were removed, the mark of `sync`
    shows that the run is at W&B, with an id made of the names of the directories.
    """
    agents = _read(path / _AGENTS_ID)
    if agents is not None:
        return agents
    folders = sorted((path / "wandb").glob("*run-*-*"))  # latest-run is a link to one of them
    ids = [match[1] for folder in folders if (match := _WANDBS_FOLDER.fullmatch(folder.name))]
    if ids:
        return ids[-1]
    if not (path / MARK).is_file():
        return None
    path = path.absolute()
    return re.sub(r"[^\w-]", "_", f"{path.parent.name}-{path.name}")[-128:]


def _read(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8").strip() or None
    except (OSError, ValueError):
        return None
