"""Sending the records of runs to W&B, as often as one likes.

The record is the truth: also the rows of a run that was killed, whose offline file lost its tail.
What W&B has taken is noted in ``synced.json``; a later call sends only the rows after it.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

from deeper.errors import UserError
from deeper.track.mirror import Mirror, has_api_key
from deeper.track.run_directory import CONFIG, RESULT, ROWS

MARK = "synced.json"


def find_runs(root: Path) -> list[Path]:
    """Return the run directories under a directory, or the directory itself if it is one."""
    found = sorted(path.parent for path in [*root.glob(f"{CONFIG}"), *root.glob(f"*/{CONFIG}")])
    found += sorted(path.parent for path in root.glob(f"*/*/{CONFIG}"))
    if not found:
        raise UserError(f"There is no run under {root}: name a run, a study's directory or runs.")
    return found


def sync(
    paths: Iterable[Path], *, mode: str = "online", warn: Callable[[str], None] = print
) -> dict[Path, int]:
    """Send what W&B does not have yet.

    Args:
        paths: run directories.
        mode: online, or offline to write W&B's own offline files.
        warn: told of failures.

    Returns:
        Rows sent, by run directory.

    Raises:
        UserError: there is no API key.
    """
    if mode == "online" and not has_api_key():
        raise UserError(
            "There is no W&B API key: run `wandb login`, or set WANDB_API_KEY, and repeat."
        )
    return {path: _sync_one(path, mode, warn) for path in paths}


def _sync_one(path: Path, mode: str, warn: Callable[[str], None]) -> int:
    config = yaml.safe_load((path / CONFIG).read_text())
    rows = _rows(path)
    mark = _mark(path)
    fresh = [row for row in rows if row["step"] > mark["step"] or mark["rows"] == 0]
    result = json.loads((path / RESULT).read_text()) if (path / RESULT).is_file() else None
    if not fresh and (result is None or mark["finished"]):
        return 0
    settings = {**config["tracker"], "mode": mode}
    mirror = Mirror.start(path, config, settings, warn)
    if mirror is None:
        return 0
    for row in fresh:
        mirror.log(row)
    if result is not None:
        mirror.summary(result.get("metrics", {}), None)
    mirror.finish("finished")
    if mirror.failed:
        return 0
    noted = {
        "rows": len(rows),
        "step": rows[-1]["step"] if rows else 0,
        "finished": result is not None,
    }
    (path / MARK).write_text(json.dumps(noted) + "\n")
    return len(fresh)


def _rows(path: Path) -> list[dict[str, Any]]:
    file = path / ROWS
    lines = file.read_text().splitlines(keepends=True) if file.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _mark(path: Path) -> dict[str, Any]:
    try:
        return json.loads((path / MARK).read_text())
    except (OSError, ValueError):
        return {"rows": 0, "step": -1, "finished": False}
