"""``submission.json``: how a run of a sweep was given to a launcher, and how it ended.

It is in the run directory, where any terminal can read the state of the sweep later. Each job
imports this module beside the trainer, so it imports nothing heavy.
"""

import contextlib
import dataclasses
import datetime
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deeper.errors import UserError
from deeper.platform_support import lock_file, process_start
from deeper.record.atomic_files import disk_errors, read_json, to_json, write_whole
from deeper.record.schema import SUBMISSION


@dataclass(frozen=True)
class Process:
    """A process of a machine. Its start time distinguishes it from a later one with the same pid.

    Attributes:
        host: name of the machine.
        pid: its number there.
        began: its start, in clock ticks since the machine's.
    """

    host: str
    pid: int
    began: int

    @classmethod
    def of(cls, pid: int) -> "Process":
        """Return a process of this machine."""
        return cls(socket.gethostname(), pid, process_start(pid) or 0)

    @property
    def here(self) -> bool:
        """Whether it is on this machine."""
        return self.host == socket.gethostname()

    @property
    def alive(self) -> bool:
        """Whether it still runs; False also for a process on another machine."""
        return self.here and process_start(self.pid) == self.began


@dataclass(frozen=True)
class Submission:
    """A run as it was given to a launcher.

    Attributes:
        launcher: local or slurm.
        sweep: folder of the launch: its log, its lock, what submitit writes.
        index: place in the sweep, and the task of a job array.
        name: name of the arm, for display.
        overrides: what `deeper train` would be given.
        cwd: where relative paths of the config start.
        code: what runs; see `code_snapshot.Code`.
        settings: settings of the launcher.
        submitted: when.
        job: id of the batch job; None until it is known.
        process: process of the trainer, where the launcher is local and has started it.
        ended: exit status of the last leg, and a reason; None while it goes on or before it.
        cancelled: when that was asked for.
        changed: the code that ran, where it was another than the one submitted.
    """

    launcher: str
    sweep: str
    index: int
    name: str
    overrides: list[str]
    cwd: str
    code: dict[str, Any]
    settings: dict[str, Any]
    submitted: str = field(default_factory=lambda: now())
    job: str | None = None
    process: Process | None = None
    ended: dict[str, Any] | None = None
    cancelled: str | None = None
    changed: dict[str, Any] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of its processes: that of this one, with the frozen code."""
        environment = dict(os.environ)
        if self.code["root"] is not None:
            rest = [environment["PYTHONPATH"]] if environment.get("PYTHONPATH") else []
            environment["PYTHONPATH"] = os.pathsep.join([f"{self.code['root']}/src", *rest])
        return environment


def now() -> str:
    """Return the time as records have it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def age(time: str) -> float:
    """Return the seconds since a time from `now`."""
    return (
        datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(time)
    ).total_seconds()


def read_submission(directory: Path) -> Submission | None:
    """Return how a run directory was submitted; None if it was not, or not readably."""
    value = read_json(directory / SUBMISSION)
    if value is None:
        return None
    try:
        process = value.get("process")
        return Submission(**{**value, "process": process and Process(**process)})
    except TypeError:
        return None


def write_submission(directory: Path, submission: Submission) -> None:
    """Write it, whole or not at all."""
    value = to_json(dataclasses.asdict(submission), indent=1)
    write_whole(directory / SUBMISSION, value)


def update_submission(directory: Path, sweep: str, **changes: Any) -> None:
    """Change what a run directory says of a launch; nothing if another has taken it since."""
    with disk_errors(directory), (directory / f".{SUBMISSION}.lock").open("w") as lock:
        with contextlib.suppress(OSError):  # a file system without locks
            lock_file(lock.fileno(), wait=True)
        old = read_submission(directory)
        if old is not None and old.sweep == sweep:
            write_submission(directory, dataclasses.replace(old, **changes))


def note(directory: Path, sweep: str, **changes: Any) -> None:
    """Do as `update_submission`, but ignore disk errors: only `sweep status` depends on it."""
    with contextlib.suppress(UserError):
        update_submission(directory, sweep, **changes)
