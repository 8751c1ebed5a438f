"""Runs a sweep on this machine: one process per run, several at a time.

Hydra's basic launcher runs a sweep in one process, stops at the first failure, and starts again
from the beginning. This launcher skips finished runs, continues interrupted ones, and completes the
other runs if one fails.
"""

import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TextIO

from deeper.errors import ExitCode, UserError
from deeper.platform_support import restrict_to_cores
from deeper.record.atomic_files import read_json, to_json, write_whole
from deeper.record.schema import RESULT, RUN_LOG, test_result
from deeper.sweep import resources
from deeper.sweep.events import Began, RunBegan, RunEnded, RunProgress, Tell
from deeper.sweep.resources import Share
from deeper.sweep.slurm_task import last_line, start_trainer
from deeper.sweep.submission import (
    Process,
    Submission,
    note,
    now,
    read_submission,
)

ASK_SECONDS = 2.0  # between questions for a further run
LOG, SWEEP, PROCESS = "launcher.log", "launcher.json", "process.json"
DETACHED = "detached"  # command of a detached launcher; the launch folder is its argument
START_SECONDS = 120.0


@dataclass(frozen=True)
class Work:
    """The work of a launcher; stored as ``launcher.json`` in the folder of a detached launch.

    Attributes:
        folder: folder of the launch.
        total: number of runs of the sweep.
        finished: number of runs that were finished before.
        failed: (name, reason) of runs that failed before they started.
        directories: directories of the runs to execute, in order.
        jobs: number of simultaneous runs; None for as many as fit.
        devices: GPUs per run; None for any number.
    """

    folder: str
    total: int
    finished: int
    failed: list[tuple[str, str]]
    directories: list[str]
    jobs: int | None
    devices: int | None


class Supply(Protocol):
    """Runs that are chosen while others run, see `deeper.search`."""

    def next(self) -> Path | None:
        """Return the directory of a further run that is claimed; None if there is none now."""

    def complete(self) -> bool:
        """Return whether there will be no further run."""

    def ended(self, directory: Path, failure: str | None) -> str | None:
        """Take a run whose process has ended, with the reason if it broke.

        Returns its outcome; None if there is none.
        """


@dataclass(frozen=True)
class Failure:
    """A failed run.

    Attributes:
        name: name of the run.
        reason: last line of its log, or why it could not be started.
        log: path of its log; None if it was not started.
    """

    name: str
    reason: str
    log: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """The outcome of a sweep.

    Attributes:
        total: number of runs.
        unfinished: number of runs that were stopped or not started.
        failed: the failed runs.
    """

    total: int
    unfinished: int
    failed: tuple[Failure, ...]

    @property
    def status(self) -> ExitCode:
        """Return the exit status of the command."""
        if self.unfinished:
            return ExitCode.INTERRUPTED
        return ExitCode.FAILED if self.failed else ExitCode.FINISHED


@dataclass
class Running:
    """The process of a run."""

    directory: Path
    submission: Submission
    process: subprocess.Popen
    pipe: TextIO
    share: Share
    began: float = field(default_factory=time.monotonic)


def detach(work: Work) -> int:
    """Start a detached launcher in its own session; return its process id once it is running.

    Raises:
        UserError: the process does not start.
    """
    folder = Path(work.folder)
    write_whole(folder / SWEEP, to_json(dataclasses.asdict(work)))
    first = read_submission(Path(work.directories[0]))
    assert first is not None
    with (folder / LOG).open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "deeper", DETACHED, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=first.environment,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_SECONDS
    while read_json(folder / PROCESS) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise UserError(f"The launcher did not start: {last_line(folder / LOG)}")
        time.sleep(0.05)
    return process.pid


def detached_work(folder: Path) -> Work:
    """Return the work of a detached launcher."""
    return Work(**json.loads((folder / SWEEP).read_text(encoding="utf-8")))


class Sweep:
    """Executes the runs of a sweep, reports their progress, and stops them at checkpoints on
    request.

    It installs no signal handler; the caller may call `stop` from one.

    Args:
        work: the runs.
        tell: called with each event.
        supply: gives further runs after those of the work.
    """

    def __init__(self, work: Work, tell: Tell, supply: Supply | None = None):
        self._folder = Path(work.folder)
        self._waiting = [Path(directory) for directory in work.directories]
        self._total, self._skipped = work.total, work.finished
        most = len(self._waiting) if supply is None else max(1, work.total - work.finished)
        self._free = resources.shares(work.jobs, work.devices, most)
        self._jobs = len(self._free)
        self._supply = supply
        self._asked = -ASK_SECONDS  # the time at which the supply had none
        self._tell = tell
        self._running: list[Running] = []
        self._done = 0
        self._failed = [Failure(name, reason) for name, reason in work.failed]
        self._interrupted = 0
        self._stopping = False
        self._began = time.monotonic()

    def run(self) -> Outcome:
        """Execute all runs; return the outcome."""
        if self._waiting or self._supply:
            process = dataclasses.asdict(Process.of(os.getpid()))
            write_whole(self._folder / PROCESS, to_json(process))
            self._tell(Began(self._total, self._skipped, self._jobs))
        try:
            while self._running or (self._remain() and not self._stopping):
                self._fill()
                while self._waiting and self._free and not self._stopping:
                    self._try(self._waiting.pop(0))
                self._listen()
                for ended in [r for r in self._running if r.process.poll() is not None]:
                    self._end(ended)
                    self._free.append(ended.share)
        finally:
            for left in self._running:  # an error in this process: end all runs
                left.process.terminate()
        unfinished = len(self._waiting) + self._interrupted
        if self._supply and self._stopping and not self._supply.complete():
            unfinished = max(1, self._total - self._skipped - self._done - len(self._failed))
        return Outcome(self._total, unfinished, tuple(self._failed))

    def stop(self, *, at_once: bool = False) -> None:
        """Ask all runs to stop at a checkpoint and start no others; or kill their processes."""
        self._stopping = True
        for running in self._running:
            running.process.send_signal(signal.SIGKILL if at_once else signal.SIGTERM)

    def _remain(self) -> bool:
        """Return whether runs wait, or may come."""
        return bool(self._waiting) or not (self._supply is None or self._supply.complete())

    def _fill(self) -> None:
        """Ask the supply for runs, as many as there are shares of the machine."""
        if self._supply is None or time.monotonic() - self._asked < ASK_SECONDS:
            return
        while len(self._waiting) < len(self._free) and not self._stopping:
            further = self._supply.next()
            if further is None:
                self._asked = time.monotonic()
                return
            self._waiting.append(further)

    def _try(self, directory: Path) -> None:
        """Start a run, unless it was cancelled or cannot be started."""
        submission = read_submission(directory)
        if submission is None or submission.sweep != str(self._folder) or submission.cancelled:
            self._interrupted += 1  # cancelled or moved away in the meantime
            return
        try:
            self._start(directory, submission, self._free[0])
        except OSError as error:
            reason = f"it could not be started: {error}"
            self._failed.append(Failure(submission.name, reason))
            note(directory, str(self._folder), ended={"code": None, "reason": reason})
        else:
            del self._free[0]

    def _start(self, directory: Path, submission: Submission, share: Share) -> None:
        read, write = os.pipe()
        process = start_trainer(
            str(directory), submission, share.environment, directory / RUN_LOG, write
        )
        if share.cores:
            restrict_to_cores(process.pid, share.cores)
        note(directory, str(self._folder), process=Process.of(process.pid))
        self._running.append(
            Running(directory, submission, process, os.fdopen(read, encoding="utf-8"), share)
        )
        self._tell(RunBegan(submission.name))

    def _listen(self) -> None:
        """Wait briefly for messages and report them."""
        pipes = {r.pipe: r for r in self._running if not r.pipe.closed}
        if not pipes:
            time.sleep(0.05)
            return
        ready, _, _ = select.select(list(pipes), [], [], 0.5)
        for pipe in ready:
            line = pipe.readline()
            if not line:
                pipe.close()
                continue
            try:
                progress = RunProgress(pipes[pipe].submission.name, **json.loads(line))
            except (ValueError, TypeError):
                continue  # incomplete: the run was killed while writing
            self._tell(progress)

    def _end(self, ended: Running) -> None:
        self._running.remove(ended)
        ended.pipe.close()
        directory, name = ended.directory, ended.submission.name
        code, reason = ended.process.returncode, None
        result = read_json(directory / RESULT)
        if self._stopping and code == -signal.SIGTERM:
            code = int(ExitCode.INTERRUPTED)
        if code != ExitCode.INTERRUPTED and (code != ExitCode.FINISHED or result is None):
            reason = "diverged" if code == ExitCode.DIVERGED else last_line(directory / RUN_LOG)
            reason = f"ended by signal {-code}" if code < 0 else reason
        supplied = None
        if self._supply is not None:
            supplied = self._supply.ended(directory, None if self._stopping else reason)
        if supplied is not None:
            self._done += 1
            self._asked = -ASK_SECONDS
            outcome, reason = supplied, None
        elif code == ExitCode.INTERRUPTED:
            self._interrupted += 1
            outcome = "stopped at a checkpoint"
        elif reason is not None:
            self._failed.append(Failure(name, reason, directory / RUN_LOG))
            outcome = f"failed: {reason}"
        else:
            self._done += 1
            outcome = test_result(result or {})
        note(directory, str(self._folder), ended={"code": code, "reason": reason, "time": now()})
        passed = time.monotonic() - self._began
        runs_left = len(self._waiting) + 0.5 * len(self._running)
        self._tell(
            RunEnded(
                name,
                outcome,
                failed=reason is not None,
                seconds=time.monotonic() - ended.began,
                ended=self._skipped + self._done + len(self._failed),
                total=self._total,
                seconds_left=passed / max(1, self._done) * runs_left,
            )
        )
