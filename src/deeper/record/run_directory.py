"""A run's directory: what is in it is the record of the run.

    config.yaml       the resolved config, with its hash
    data.json         content and class names of the data set, and how its images are shown
    wandb-id.txt      its id at Weights & Biases, made once at random
    environment.json  versions, machine, code
    metrics.jsonl     every logged number: one JSON object a line
    examples.npz      a few images with predictions, and the confusion matrix
    result.json       the last to be written: the run has come to its end

Every file but metrics.jsonl is written aside and then renamed, so that a crash leaves the old one
or the new one. metrics.jsonl grows line by line, and a line that a crash cut is no row. A number
that is not finite is stored as ``null``: strict JSON has no word for it.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from deeper.errors import UserError
from deeper.record.atomic_files import disk_errors, read_json, to_json, write_whole
from deeper.record.lock import Lock, take_lock
from deeper.record.wandb_id import run_id

CONFIG, ENVIRONMENT, EXAMPLES = "config.yaml", "environment.json", "examples.npz"
DATA, ROWS, RESULT = "data.json", "metrics.jsonl", "result.json"

_DIFFERENCES_SHOWN = 5
_ABSENT = object()


class RunDirectory:
    """One run's directory, held by one process at a time.

    Use `open`, as a context manager.
    """

    def __init__(self, path: Path, lock: Lock):
        self.path = path
        self._lock: Lock | None = lock
        self._rows: int | None = None
        self._config: bytes | None = None  # that is to take the place of the one that is there

    @classmethod
    def open(cls, path: Path | str, config: Mapping[str, Any], config_hash: str) -> "RunDirectory":
        """Make a run's directory or come back to it; there, `take_config` is the next step.

        Args:
            path: the directory.
            config: the resolved config, as plain values.
            config_hash: of what may change the run's numbers.

        Raises:
            UserError: it holds a run of another config, another process works on it, or the disk
                refuses.
        """
        path = Path(path)
        with disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        directory = cls(path, take_lock(path))
        try:
            directory._take_config(config, config_hash)
            run_id(path)
        except BaseException:
            directory.close()
            raise
        return directory

    def __enter__(self) -> "RunDirectory":
        """Return the directory."""
        return self

    def __exit__(self, *error: object) -> None:
        """Let other processes have it."""
        self.close()

    def close(self) -> None:
        """Close the files and release the lock."""
        self._close_rows()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @property
    def finished(self) -> bool:
        """Whether there is a result that can be read."""
        return read_json(self.path / RESULT) is not None

    def result(self) -> dict[str, Any]:
        """Return the result.

        Raises:
            UserError: there is none.
        """
        result = read_json(self.path / RESULT)
        if result is None:
            raise UserError(f"{self.path} has no result: its run is not finished.")
        return result

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write the result: the last thing in a run."""
        self.fsync()
        self.write(RESULT, to_json(result, indent=2))

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        """Write what the run runs on; the legs before it stay under ``earlier``, without diffs."""
        before = read_json(self.path / ENVIRONMENT) or {}
        earlier = before.pop("earlier", [])
        before.pop("git_diff", None)
        legs = [*earlier, before] if before else earlier
        self.write(ENVIRONMENT, to_json({**environment, "earlier": legs}, indent=2))

    def log(self, row: Mapping[str, Any]) -> None:
        """Add a row to the record; it survives the end of this process.

        Args:
            row: with its ``step``.

        Raises:
            UserError: the disk refuses, or another process has taken the directory over; the rows
                before are as they were.
        """
        self._check()
        line = to_json(row)
        with disk_errors(self.path):
            if self._rows is None:
                self._open_rows()
            assert self._rows is not None
            end = os.fstat(self._rows).st_size
            try:
                while line:
                    line = line[os.write(self._rows, line) :]
            except OSError:
                with suppress(OSError):
                    os.ftruncate(self._rows, end)  # no half line stays
                raise

    def fsync(self) -> None:
        """Make the rows so far survive a crash of the machine; for use before a checkpoint."""
        self._check()
        if self._rows is not None:
            with disk_errors(self.path):
                os.fsync(self._rows)

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows; what a crash cut is left out."""
        return [row for _, row in read_rows(self.path)]

    def truncate_after(self, step: int) -> float:
        """Remove the rows after a step: the run goes on from there and writes them again.

        Args:
            step: of the checkpoint that the run goes on from; 0 without one.

        Returns:
            Seconds into the run at its last row that stays.
        """
        self._close_rows()
        file = self.path / ROWS
        if not file.exists():
            return 0.0
        kept = [(line, row) for line, row in read_rows(self.path) if row["step"] <= step]
        content = b"".join(line for line, _ in kept)
        if file.read_bytes() != content:
            self.write(ROWS, content)
        return float(kept[-1][1].get("time") or 0.0) if kept else 0.0

    def write(self, name: str, content: bytes) -> None:
        """Write a file of the run so that it is there whole or not at all, also after a crash."""
        self._check()
        write_whole(self.path / name, content)

    def _check(self) -> None:
        """Make sure that the directory is still this process's."""
        if self._lock is not None:
            self._lock.check()

    def _take_config(self, config: Mapping[str, Any], config_hash: str) -> None:
        """Write the config, or compare it with the one that is there."""
        text = yaml.safe_dump({**config, "config_hash": config_hash}, sort_keys=False)
        new = yaml.safe_load(text)
        old = read_config(self.path)
        if old and old.get("config_hash") != config_hash:
            changes = [line for key, line in _differences(old, new) if key != "config_hash"]
            shown = "; ".join(changes[:_DIFFERENCES_SHOWN]) or "its hash is another"
            more = len(changes) - _DIFFERENCES_SHOWN
            raise UserError(
                f"{self.path} holds a run of another config: {shown}"
                f"{f'; and {more} more' if more > 0 else ''}. "
                "Move it away, or choose another place with runs=DIRECTORY."
            )
        # With the same hash only such things differ as where the data lies.
        if old is None:
            self.write(CONFIG, text.encode())
        elif old != new and not self.finished:
            self._config = text.encode()

    def take_config(self) -> None:
        """Write the config that the directory was opened with, where another of its hash is there.

        To be called once it is known that the run can go on with it: that its data are the same.
        """
        if self._config is not None:
            self.write(CONFIG, self._config)
            self._config = None

    def _open_rows(self) -> None:
        file = self.path / ROWS
        if file.exists():
            self.truncate_after(2**63)  # what a crash left of a line would spoil the next
        else:
            self.write(ROWS, b"")
        self._rows = os.open(file, os.O_WRONLY | os.O_APPEND)

    def _close_rows(self) -> None:
        if self._rows is not None:
            os.close(self._rows)
            self._rows = None


class Beside(RunDirectory):
    """A run's directory for the other processes of a run, of which the first alone writes."""

    def __init__(self, path: Path):
        self.path = path
        self._lock = self._rows = self._config = None

    def log(self, row: Mapping[str, Any]) -> None:
        """Leave it to the first."""

    def fsync(self) -> None:
        """Leave it to the first."""

    def write(self, name: str, content: bytes) -> None:
        """Leave it to the first."""

    def truncate_after(self, step: int) -> float:
        """Leave it to the first; the seconds are of its rows."""
        return 0.0


# --- reading what a run, also a running or a killed one, has written ------------------------------


def read_rows(path: Path, offset: int = 0) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yield the whole rows in a run directory, each with its line.

    Args:
        path: the run directory.
        offset: where in the file to begin, in bytes.
    """
    try:
        with (path / ROWS).open("rb") as stream:
            stream.seek(offset)
            lines = stream.read().splitlines(keepends=True)
    except FileNotFoundError:
        return
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if line.endswith(b"\n") and isinstance(row, dict) and isinstance(row.get("step"), int):
            yield line, row


def read_config(path: Path) -> dict[str, Any] | None:
    """Return a run directory's config with its hash; None if it has none.

    Raises:
        UserError: it cannot be read.
    """
    try:
        value = yaml.safe_load((path / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(
            f"{path / CONFIG} cannot be read ({str(error).splitlines()[0]}). Move {path} away to "
            "run anew."
        ) from error
    return value if isinstance(value, dict) else None


def _differences(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted keys in which two configs differ, and how."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in [*new, *(name for name in old if name not in new)]:
            inner = f"{key}.{name}" if key else str(name)
            yield from _differences(old.get(name, _ABSENT), new.get(name, _ABSENT), inner)
    elif old != new:
        yield key, f"{key} was {_shown(old)} and is now {_shown(new)}"


def _shown(value: Any) -> str:
    text = "absent" if value is _ABSENT else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
