"""``submission.json``: how a run of a sweep was given to a launcher, and how it ended.

It is in the run directory, so that the state of the sweep can be read from any terminal. Each job
imports this module in addition to the trainer, so it has no slow imports.
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
    """A process on a machine. Its start time distinguishes it from later processes with the same
    pid.

    Attributes:
        host: name of the machine.
        pid: process id.
        began: start time in clock ticks since boot.
    """

    host: str
    pid: int
    began: int

    @classmethod
    def of(cls, pid: int) -> "Process":
        """Return the description of a process of this machine."""
        return cls(socket.gethostname(), pid, process_start(pid) or 0)

    @property
    def here(self) -> bool:
        """Whether the process is on this machine."""
        return self.host == socket.gethostname()

    @property
    def alive(self) -> bool:
        """Whether the process is running; False for processes on other machines."""
        return self.here and process_start(self.pid) == self.began


@dataclass(frozen=True)
class Submission:
    """The submission of a run to a launcher.

    Attributes:
        launcher: local or slurm.
        sweep: folder of the launch, with its log, lock and submitit's files.
        index: index in the sweep, and task of a job array.
        name: name of the arm, for display.
        overrides: overrides of `deeper train`.
        cwd: working directory, to which relative paths of the config refer.
        code: the code to run, see `code_snapshot.Code`.
        settings: settings of the launcher.
        submitted: time of the submission.
        job: id of the batch job; None until it is known.
        process: process of the trainer, if a local launcher has started it.
        ended: exit status of the last start, with a reason; None before and during it.
        cancelled: time of a request to cancel, or None.
        changed: the code that ran, if it differed from the submitted code.
        search: directory and number of the trial of a search that it is; None for other runs.
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
    search: dict[str, Any] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of its processes: that of this process, with the frozen code."""
        environment = dict(os.environ)
        if self.code["root"] is not None:
            rest = [environment["PYTHONPATH"]] if environment.get("PYTHONPATH") else []
            environment["PYTHONPATH"] = os.pathsep.join([f"{self.code['root']}/src", *rest])
        return environment


def now() -> str:
    """Return the current time in the format of records."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def age(time: str) -> float:
    """Return the seconds since a time from `now`."""
    return (
        datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(time)
    ).total_seconds()


def read_submission(directory: Path) -> Submission | None:
    """Return the submission of a run directory; None if there is no readable one."""
    value = read_json(directory / SUBMISSION)
    if value is None:
        return None
    try:
        process = value.get("process")
        return Submission(**{**value, "process": process and Process(**process)})
    except TypeError:
        return None


def write_submission(directory: Path, submission: Submission) -> None:
    """Write the submission atomically."""
    value = to_json(dataclasses.asdict(submission), indent=1)
    write_whole(directory / SUBMISSION, value)


def update_submission(directory: Path, sweep: str, **changes: Any) -> None:
    """Change the submission of a run directory, unless another launch has replaced it."""
    with disk_errors(directory), (directory / f".{SUBMISSION}.lock").open("w") as lock:
        with contextlib.suppress(OSError):  # a file system without locks
            lock_file(lock.fileno(), wait=True)
        old = read_submission(directory)
        if old is not None and old.sweep == sweep:
            write_submission(directory, dataclasses.replace(old, **changes))


def note(directory: Path, sweep: str, **changes: Any) -> None:
    """Like `update_submission`, but ignores disk errors, since only `sweep status` depends on
    it.
    """
    with contextlib.suppress(UserError):
        update_submission(directory, sweep, **changes)
