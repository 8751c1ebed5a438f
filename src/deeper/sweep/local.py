"""A sweep on this machine: each arm in a process of its own, a few at a time.

Hydra's own launcher runs the arms one after the other in its own process, stops at the first that
fails and begins again from the start. This one skips what is finished, goes on where an arm was
cut, finishes the others when one fails, and says at the end which did.

``python -m deeper.sweep.local FOLDER`` is the launcher of a sweep that was detached from its
terminal.
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
from typing import Any, TextIO

from rich.console import Console
from rich.progress import TaskID

from deeper.cli.live_display import bar, note_of
from deeper.cli.standard_streams import lasting
from deeper.cli.stop_signals import asking_to_stop
from deeper.cli.terminal import open_console
from deeper.errors import ExitCode, UserError
from deeper.platform_support import restrict_to_cores
from deeper.record.atomic_files import read_json, to_json, write_whole
from deeper.record.lock import take_lock
from deeper.record.run_directory import RESULT
from deeper.sweep import resources
from deeper.sweep.resources import Share
from deeper.sweep.slurm_task import last_line, start_trainer
from deeper.sweep.submission import (
    Process,
    Submission,
    note,
    now,
    read_submission,
)

LOG, SWEEP, PROCESS = "launcher.log", "launcher.json", "process.json"
START_SECONDS = 120.0


@dataclass(frozen=True)
class Work:
    """What a launch has to do, as ``launcher.json`` in its folder says for a detached one.

    Attributes:
        folder: of the launch.
        total: arms of the sweep.
        finished: how many were before.
        failed: names and reasons of those that failed before they started.
        directories: of those to run, in order.
        jobs: at a time; None for as many as fit.
        devices: GPUs that an arm takes; None for any number.
    """

    folder: str
    total: int
    finished: int
    failed: list[tuple[str, str]]
    directories: list[str]
    jobs: int | None
    devices: int | None


@dataclass
class Running:
    """An arm's process."""

    directory: Path
    submission: Submission
    process: subprocess.Popen
    pipe: TextIO
    share: Share
    task: TaskID
    began: float = field(default_factory=time.monotonic)


def run(work: Work) -> int:
    """Run a sweep and return its exit status."""
    return Sweep(work, open_console()).run()


def detach(work: Work) -> int:
    """Leave a sweep to a process in a session of its own; return its number once it has it.

    Raises:
        UserError: that process does not start.
    """
    folder = Path(work.folder)
    write_whole(folder / SWEEP, to_json(dataclasses.asdict(work)))
    first = read_submission(Path(work.directories[0]))
    assert first is not None
    with (folder / LOG).open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "deeper.sweep.local", str(folder)],
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


class Sweep:
    """Runs arms, shows how they go, and stops them cleanly.

    Args:
        work: the arms.
        console: where to show it.
    """

    def __init__(self, work: Work, console: Console):
        self._folder = Path(work.folder)
        self._waiting = [Path(directory) for directory in work.directories]
        self._total, self._skipped = work.total, work.finished
        self._free = resources.shares(work.jobs, work.devices, len(self._waiting))
        self._jobs = len(self._free)
        self._console = console
        self._running: list[Running] = []
        self._done = 0
        self._failed = [(name, reason, "") for name, reason in work.failed]
        self._interrupted = 0
        self._stopping = False
        self._bar = bar(console)
        self._began = time.monotonic()

    def run(self) -> int:
        """Run all the arms; return the exit status."""
        console = self._console
        previous = {n: signal.signal(n, self._stop) for n in asking_to_stop()}
        if self._waiting:
            console.print(f"{self._jobs} at a time")
            process = dataclasses.asdict(Process.of(os.getpid()))
            write_whole(self._folder / PROCESS, to_json(process))
        try:
            if console.is_terminal:
                self._bar.start()
                self._overall = self._bar.add_task(
                    "all runs", total=self._total, completed=self._skipped
                )
            while self._running or (self._waiting and not self._stopping):
                while self._waiting and self._free and not self._stopping:
                    self._try(self._waiting.pop(0))
                self._listen()
                for ended in [r for r in self._running if r.process.poll() is not None]:
                    self._end(ended)
                    self._free.append(ended.share)
        finally:
            self._bar.stop()
            for number, handler in previous.items():
                signal.signal(number, handler)
            for left in self._running:  # an error of this process: leave no arm behind
                left.process.terminate()
        return self._close()

    def _try(self, directory: Path) -> None:
        """Start an arm, if it is still to be run and can be."""
        submission = read_submission(directory)
        if submission is None or submission.sweep != str(self._folder) or submission.cancelled:
            self._interrupted += 1  # cancelled, or moved away, while it waited
            return
        try:
            self._start(directory, submission, self._free[0])
        except OSError as error:
            reason = f"it could not be started: {error}"
            self._failed.append((submission.name, reason, ""))
            note(directory, str(self._folder), ended={"code": None, "reason": reason})
        else:
            del self._free[0]

    def _start(self, directory: Path, submission: Submission, share: Share) -> None:
        read, write = os.pipe()
        process = start_trainer(
            str(directory), submission, share.environment, directory / "log.txt", write
        )
        if share.cores:
            restrict_to_cores(process.pid, share.cores)
        note(directory, str(self._folder), process=Process.of(process.pid))
        task = self._bar.add_task(submission.name, total=1, note="starting")
        self._running.append(
            Running(directory, submission, process, os.fdopen(read, encoding="utf-8"), share, task)
        )

    def _listen(self) -> None:
        """Wait a moment for messages and show them."""
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
                message = json.loads(line)
                words = note_of(message["phase"], message["loss"], message["images_per_second"])
            except (ValueError, TypeError, KeyError):
                continue  # cut: the arm was ended while it wrote
            self._bar.update(
                pipes[pipe].task,
                completed=message["step"],
                total=message["steps"],
                note=words,
            )

    def _end(self, ended: Running) -> None:
        self._running.remove(ended)
        ended.pipe.close()
        self._bar.remove_task(ended.task)
        directory, name = ended.directory, ended.submission.name
        code, reason = ended.process.returncode, None
        result = read_json(directory / RESULT)
        if code == ExitCode.FINISHED and result is not None:
            self._done += 1
            error = (result.get("metrics") or {}).get("test/error")
            outcome = "finished" if error is None else f"test error {error:6.2f} %"
        elif code == ExitCode.INTERRUPTED or (self._stopping and code == -signal.SIGTERM):
            self._interrupted += 1
            code, outcome = ExitCode.INTERRUPTED, "stopped at a checkpoint"
        else:
            reason = "diverged" if code == ExitCode.DIVERGED else last_line(directory / "log.txt")
            if code < 0:
                reason = f"ended by signal {-code}"
            self._failed.append((name, reason, str(directory / "log.txt")))
            outcome = f"failed: {reason}"
        note(directory, str(self._folder), ended={"code": code, "reason": reason, "time": now()})
        number = self._skipped + self._done + len(self._failed)
        seconds = time.monotonic() - ended.began
        self._console.print(
            f"[{number:>3} of {self._total}] {name:<16} {outcome}  ({seconds:.0f} s)",
            style=None if code in (ExitCode.FINISHED, ExitCode.INTERRUPTED) else "red",
        )
        if self._console.is_terminal:
            left = (
                (time.monotonic() - self._began)
                / max(1, self._done)
                * (len(self._waiting) + 0.5 * len(self._running))
            )
            self._bar.update(
                self._overall, completed=number, note=f"about {left / 60:.1f} min left"
            )

    def _stop(self, number: int, frame: Any) -> None:
        """Pass the first signal on, so that arms checkpoint; the second ends them.

        A second SIGHUP does not: a terminal that is closed sends two.
        """
        again, self._stopping = self._stopping, True
        if again and number == signal.SIGHUP:
            return
        if not again:
            self._console.print("Stopping after checkpoints; once more stops at once.")
        for running in self._running:
            running.process.send_signal(signal.SIGKILL if again else signal.SIGTERM)

    def _close(self) -> int:
        unfinished = len(self._waiting) + self._interrupted
        if unfinished:
            self._console.print(
                f"Stopped with {self._total - unfinished} of {self._total} runs done; the same "
                "command goes on from here."
            )
        if self._failed:
            self._console.print(f"{len(self._failed)} of {self._total} runs failed:")
            for name, reason, log in self._failed:
                where = f"\n    {log}" if log else ""
                self._console.print(f"  {name}: {reason}{where}", soft_wrap=True)
        if unfinished:
            return ExitCode.INTERRUPTED
        return ExitCode.FAILED if self._failed else ExitCode.FINISHED


if __name__ == "__main__":
    stored = json.loads((Path(sys.argv[1]) / SWEEP).read_text(encoding="utf-8"))
    with lasting(log=True):
        lock = take_lock(Path(stored["folder"]))
        try:
            sys.exit(run(Work(**stored)))
        finally:
            lock.release()
