"""A run's directory: config, environment, rows, result. What is in it is the record of the run."""

import errno
import fcntl
import json
import math
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import yaml

from deeper.errors import UserError

CONFIG, ENVIRONMENT = "config.yaml", "environment.json"
ROWS, RESULT, LOCK = "metrics.jsonl", "result.json", "lock"


class RunDirectory:
    """One run's directory, held by one process at a time.

    Use `open`, as a context manager.
    """

    def __init__(self, path: Path, lock: TextIO):
        self.path = path
        self._lock = lock
        self._rows: TextIO | None = None

    @classmethod
    def open(cls, path: Path, config: Mapping[str, Any], config_hash: str) -> "RunDirectory":
        """Make a run's directory or come back to it.

        Args:
            path: the directory.
            config: the resolved config, as plain values.
            config_hash: of what may change the run's numbers.

        Raises:
            UserError: it holds a run of another config, another process works on it, or the disk
                refuses.
        """
        with _disk(path):
            path.mkdir(parents=True, exist_ok=True)
            directory = cls(path, _take_lock(path))
            try:
                directory._take_config(config, config_hash)
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
        if self._rows is not None:
            self._rows.close()
            self._rows = None
        self._lock.close()

    @property
    def finished(self) -> bool:
        """Whether there is a result."""
        return (self.path / RESULT).is_file()

    def result(self) -> dict[str, Any]:
        """Return the result."""
        return json.loads((self.path / RESULT).read_text())

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write the result: the last thing in a run."""
        self._write(RESULT, json.dumps(finite(result), indent=2) + "\n")

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        """Write what the run runs on; of a resumed run, its last leg."""
        self._write(ENVIRONMENT, json.dumps(finite(environment), indent=2) + "\n")

    def log(self, row: Mapping[str, Any]) -> None:
        """Add a row to the record. A number that is not finite is written as null."""
        with _disk(self.path):
            if self._rows is None:
                self._rows = (self.path / ROWS).open("a")
            self._rows.write(json.dumps(finite(row)) + "\n")
            self._rows.flush()

    def fsync(self) -> None:
        """Make the rows so far survive a crash of the machine."""
        if self._rows is not None:
            with _disk(self.path):
                os.fsync(self._rows.fileno())

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows; a last line that was cut off is left out."""
        try:
            lines = (self.path / ROWS).read_text().splitlines(keepends=True)
        except FileNotFoundError:
            return
        for line in lines:
            if line.endswith("\n"):
                yield json.loads(line)

    def truncate_after(self, step: int) -> float:
        """Remove the rows after a step: the run goes on from there and writes them again.

        Returns:
            Seconds into the run at its last row that stays.
        """
        if self._rows is not None:
            self._rows.close()
            self._rows = None
        if not (self.path / ROWS).exists():
            return 0.0
        kept = [row for row in self.rows() if row["step"] <= step]
        self._write(ROWS, "".join(json.dumps(row) + "\n" for row in kept))
        return float(kept[-1]["time"]) if kept else 0.0

    def _take_config(self, config: Mapping[str, Any], config_hash: str) -> None:
        path = self.path / CONFIG
        if path.is_file():
            old = yaml.safe_load(path.read_text()) or {}
            if old.get("config_hash") != config_hash:
                differing = sorted(_differences(old, {**config, "config_hash": config_hash}))
                raise UserError(
                    f"{self.path} holds a run of another config: {'; '.join(differing[:5])}. "
                    "Move it away, or choose another place with runs=DIRECTORY."
                )
            return
        text = yaml.safe_dump({**config, "config_hash": config_hash}, sort_keys=False)
        self._write(CONFIG, text)

    def _write(self, name: str, text: str) -> None:
        """Write a file so that it is there whole or not at all."""
        with _disk(self.path):
            scratch = self.path / f".{name}.unfinished"
            with scratch.open("w") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            scratch.replace(self.path / name)


def finite(value: Any) -> Any:
    """Return plain values that strict JSON has: what is not finite becomes None."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _differences(old: Any, new: Any, prefix: str = "") -> Iterator[str]:
    """Yield what differs between two configs."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from _differences(old.get(key), new.get(key), f"{prefix}{key}.")
    elif old != new:
        yield f"{prefix[:-1]} was {old} and is now {new}"


def _take_lock(path: Path) -> TextIO:
    """Hold the directory for this process; the system lets go of it when the process ends."""
    stream = (path / LOCK).open("a+")
    try:
        fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        stream.seek(0)
        holder = stream.read().strip() or "another process"
        stream.close()
        raise UserError(
            f"{path} is being worked on by {holder}. Wait for it, or stop it."
        ) from error
    stream.truncate(0)
    stream.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    stream.flush()
    return stream


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    """Say in a sentence what a disk refuses."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise UserError(
                f"The disk of {path} is full. What is there is good; make room and repeat the "
                "command to go on."
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.ENOTDIR):
            raise UserError(f"{path} cannot be written to: {error.strerror}.") from error
        raise
