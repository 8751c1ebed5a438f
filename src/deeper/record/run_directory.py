"""A run directory, locked by the process that writes it; `schema` describes its files.

All files except metrics.jsonl are written under a temporary name and then renamed, so that a crash
leaves the old or the new file. metrics.jsonl grows line by line, and an incomplete last line is
ignored.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from deeper.errors import UserError
from deeper.record.atomic_files import disk_errors, read_json, to_json, write_whole
from deeper.record.lock import Lock, take_lock
from deeper.record.schema import CONFIG, ENVIRONMENT, RESULT, ROWS, read_config, read_rows
from deeper.record.wandb_id import run_id

_DIFFERENCES_SHOWN = 5
_ABSENT = object()


class RunDirectory:
    """The directory of one run, locked by one process at a time.

    Use `open`, as a context manager.
    """

    def __init__(self, path: Path, lock: Lock):
        self.path = path
        self._lock: Lock | None = lock
        self._rows: int | None = None
        self._config: bytes | None = None  # to be written by `take_config`

    @classmethod
    def open(cls, path: Path | str, config: Mapping[str, Any], config_hash: str) -> "RunDirectory":
        """Create a run directory, or reopen it; then call `take_config`.

        Args:
            path: the directory.
            config: the resolved config, as plain values.
            config_hash: hash of the values that may change the run's numbers.

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
        """Close the directory."""
        self.close()

    def close(self) -> None:
        """Close the files and release the lock."""
        self._close_rows()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @property
    def finished(self) -> bool:
        """Whether there is a readable result."""
        return read_json(self.path / RESULT) is not None

    def result(self) -> dict[str, Any]:
        """Return the result.

        Raises:
            UserError: there is no result.
        """
        result = read_json(self.path / RESULT)
        if result is None:
            raise UserError(f"{self.path} has no result: its run is not finished.")
        return result

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write the result, the last file of a run."""
        self.fsync()
        self.write(RESULT, to_json(result, indent=2))

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        """Write the environment; those of earlier starts are kept under ``earlier``, without
        diffs.
        """
        before = read_json(self.path / ENVIRONMENT) or {}
        earlier = before.pop("earlier", [])
        before.pop("git_diff", None)
        legs = [*earlier, before] if before else earlier
        self.write(ENVIRONMENT, to_json({**environment, "earlier": legs}, indent=2))

    def log(self, row: Mapping[str, Any]) -> None:
        """Append a row to ``metrics.jsonl``; it survives a crash of this process.

        Args:
            row: logged values, with ``step``.

        Raises:
            UserError: the disk refuses, or another process has taken over the directory; earlier
                rows are unchanged.
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
                    os.ftruncate(self._rows, end)  # remove the incomplete line
                raise

    def fsync(self) -> None:
        """Flush the rows to disk, so that they survive a crash of the machine; call it before a
        checkpoint.
        """
        self._check()
        if self._rows is not None:
            with disk_errors(self.path):
                os.fsync(self._rows)

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows without an incomplete last line."""
        return [row for _, row in read_rows(self.path)]

    def truncate_after(self, step: int) -> float:
        """Remove the rows after a step, from which the run continues.

        Args:
            step: step of the checkpoint that the run continues from; 0 without a checkpoint.

        Returns:
            Seconds from the start of the run to its last remaining row.
        """
        self._close_rows()
        file = self.path / ROWS
        if not file.exists():
            return 0.0
        remaining = [(line, row) for line, row in read_rows(self.path) if row["step"] <= step]
        content = b"".join(line for line, _ in remaining)
        if file.read_bytes() != content:
            self.write(ROWS, content)
        return float(remaining[-1][1].get("time") or 0.0) if remaining else 0.0

    def write(self, name: str, content: bytes) -> None:
        """Write a file of the run atomically; see `write_whole`."""
        self._check()
        write_whole(self.path / name, content)

    def _check(self) -> None:
        """Check that this process still holds the lock."""
        if self._lock is not None:
            self._lock.check()

    def _take_config(self, config: Mapping[str, Any], config_hash: str) -> None:
        """Write the config, or compare it with the existing one."""
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
        # Configs of the same hash differ only in values that change no number, such as data.dir.
        if old is None:
            self.write(CONFIG, text.encode())
        elif old != new and not self.finished:
            self._config = text.encode()

    def take_config(self) -> None:
        """Replace an existing config of the same hash by the one that the directory was opened
        with.

        Call it after checking that the data are the same, so that the run can continue.
        """
        if self._config is not None:
            self.write(CONFIG, self._config)
            self._config = None

    def _open_rows(self) -> None:
        file = self.path / ROWS
        if file.exists():
            self.truncate_after(2**63)  # remove an incomplete last line
        else:
            self.write(ROWS, b"")
        self._rows = os.open(file, os.O_WRONLY | os.O_APPEND)

    def _close_rows(self) -> None:
        if self._rows is not None:
            os.close(self._rows)
            self._rows = None


class ReadOnlyRunDirectory(RunDirectory):
    """The run directory as other processes of a run see it; only the first process writes."""

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


def _differences(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted keys in which two configs differ, with a description."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in [*new, *(name for name in old if name not in new)]:
            inner = f"{key}.{name}" if key else str(name)
            yield from _differences(old.get(name, _ABSENT), new.get(name, _ABSENT), inner)
    elif old != new:
        yield key, f"{key} was {_shown(old)} and is now {_shown(new)}"


def _shown(value: Any) -> str:
    text = "absent" if value is _ABSENT else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
