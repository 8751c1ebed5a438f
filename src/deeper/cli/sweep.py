"""A sweep on this machine: each arm in a process of its own, a few at a time.

Hydra's own launcher runs the arms one after the other in its own process, stops at the first that
fails and begins again from the start. This one skips what is finished, goes on where an arm was
cut, finishes the others when one fails, and says at the end which did.
"""

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

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import TaskID

from deeper.cli import build
from deeper.cli.main import DIVERGED, FAILED, FINISHED, INTERRUPTED
from deeper.cli.progress import PIPE_VARIABLE, bar, note_of
from deeper.cli.xla_flags import only_cpu

MOST_JOBS = 8


@dataclass
class Arm:
    """One run of the sweep.

    Attributes:
        overrides: what the command line of its process says.
        name: for the display.
        directory: its run directory.
    """

    overrides: list[str]
    name: str
    directory: Path

    def finished(self) -> str | None:
        """Return the status of its result, if there is one."""
        try:
            return json.loads((self.directory / "result.json").read_text())["status"]
        except (OSError, ValueError, KeyError):
            return None


@dataclass
class Running:
    """An arm's process."""

    arm: Arm
    process: subprocess.Popen
    pipe: TextIO
    cores: set[int]
    task: TaskID
    began: float = field(default_factory=time.monotonic)


def arm_of(config: DictConfig, overrides: list[str]) -> Arm:
    """Return the arm of a composed config, so that its name is known before it starts."""
    label = build.label_of(config, config.hydra)
    plain = build.plain_config(config, label)
    return Arm(overrides, f"{label} s{config.seed}", build.run_directory(plain))


def run(arms: list[Arm], jobs: int | None) -> int:
    """Run a sweep and return its exit status."""
    _tell_apart(arms)
    return Sweep(arms, jobs or default_jobs(), Console(width=100, highlight=False)).run()


def _tell_apart(arms: list[Arm]) -> None:
    """Add to the arms' names what differs between them and is not in their labels."""
    values: dict[str, set[str]] = {}
    for arm in arms:
        for key, _, value in (override.partition("=") for override in arm.overrides):
            values.setdefault(key, set()).add(value)
    told = ("model", "model.depth", "seed")
    differing = [key for key, some in values.items() if len(some) > 1 and key not in told]
    for arm in arms:
        own = dict(override.split("=", 1) for override in arm.overrides if "=" in override)
        arm.name = " ".join([arm.name, *(own[key] for key in differing if key in own)])


def default_jobs() -> int:
    """Return one job a core on a CPU: two with a core each train more than one with both."""
    return min(len(os.sched_getaffinity(0)), MOST_JOBS) if only_cpu() else 1


class Sweep:
    """Runs arms, shows how they go, and stops them cleanly.

    Args:
        arms: in the order in which they start.
        jobs: how many at a time.
        console: where to show it.
    """

    def __init__(self, arms: list[Arm], jobs: int, console: Console):

        self._waiting = [arm for arm in arms if arm.finished() is None]
        self._skipped = [arm for arm in arms if arm.finished() is not None]
        self._total = len(arms)
        self._jobs = max(1, min(jobs, len(self._waiting)))
        self._console = console
        self._running: list[Running] = []
        self._done: list[Arm] = []
        self._failed: list[tuple[Arm, str]] = []
        self._interrupted: list[Arm] = []
        self._stopping = False
        self._bar = bar(console)
        self._began = time.monotonic()

    def run(self) -> int:
        """Run all the arms that are not finished; return the exit status."""
        console = self._console
        console.print(
            f"{self._total} runs: {len(self._skipped)} finished before, {len(self._waiting)} to "
            f"do, {self._jobs} at a time"
        )
        for arm in self._skipped:
            if arm.finished() != "finished":
                self._failed.append((arm, f"{arm.finished()} before"))
        free = _shares(self._jobs)
        previous = {n: signal.signal(n, self._stop) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            if console.is_terminal:
                self._bar.start()
                self._overall = self._bar.add_task(
                    "all runs", total=self._total, completed=len(self._skipped), note=""
                )
            while self._running or (self._waiting and not self._stopping):
                while self._waiting and free and not self._stopping:
                    self._start(self._waiting.pop(0), free.pop())
                self._listen()
                for ended in [r for r in self._running if r.process.poll() is not None]:
                    self._end(ended)
                    free.append(ended.cores)
        finally:
            self._bar.stop()
            for number, handler in previous.items():
                signal.signal(number, handler)
            for left in self._running:  # an error of this process: leave no arm behind
                left.process.terminate()
        return self._close()

    def _start(self, arm: Arm, cores: set[int]) -> None:

        arm.directory.mkdir(parents=True, exist_ok=True)
        read, write = os.pipe()
        environment = os.environ | {PIPE_VARIABLE: str(write), "PYTHONUNBUFFERED": "1"}
        with (arm.directory / "log.txt").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "deeper", "train", *arm.overrides],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=(write,),
                # Ctrl-C reaches this process alone, which passes it on once.
                start_new_session=True,
            )
        os.close(write)
        if cores:
            os.sched_setaffinity(process.pid, cores)
        task = self._bar.add_task(arm.name, total=1, note="starting")
        self._running.append(Running(arm, process, os.fdopen(read), cores, task))

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
            message = json.loads(line)
            note = note_of(message["phase"], message["loss"], message["images_per_second"])
            self._bar.update(
                pipes[pipe].task,
                completed=message["step"],
                total=message["steps"],
                note=note,
            )

    def _end(self, ended: Running) -> None:
        self._running.remove(ended)
        ended.pipe.close()
        self._bar.remove_task(ended.task)
        arm, code = ended.arm, ended.process.returncode
        if code == FINISHED and arm.finished() is None:
            code = FAILED
            self._failed.append((arm, "it left no result here; was a config changed meanwhile?"))
            outcome = "[red]no result[/red]"
        elif code == FINISHED:
            self._done.append(arm)
            outcome = _outcome(arm)
        elif code == INTERRUPTED or (self._stopping and code == -signal.SIGTERM):
            self._interrupted.append(arm)
            outcome = "stopped at a checkpoint"
        else:
            reason = "diverged" if code == DIVERGED else _last_line(arm)
            if code < 0:
                reason = f"ended by signal {-code}"
            self._failed.append((arm, reason))
            outcome = f"[red]failed[/red]: {reason}"
        number = len(self._skipped) + len(self._done) + len(self._failed)
        seconds = time.monotonic() - ended.began
        self._console.print(
            f"[{number:>3} of {self._total}] {arm.name:<16} {outcome}  ({seconds:.0f} s)",
            markup=True,
        )
        if self._console.is_terminal:
            left = (
                (time.monotonic() - self._began)
                / max(1, len(self._done))
                * (len(self._waiting) + 0.5 * len(self._running))
            )
            self._bar.update(
                self._overall, completed=number, note=f"about {left / 60:.1f} min left"
            )

    def _stop(self, number: int, frame: Any) -> None:
        """Pass the first signal on, so that arms checkpoint; the second ends them."""
        again, self._stopping = self._stopping, True
        if not again:
            self._console.print("Stopping after checkpoints; once more stops at once.")
        for running in self._running:
            running.process.send_signal(signal.SIGKILL if again else signal.SIGTERM)

    def _close(self) -> int:
        unfinished = len(self._waiting) + len(self._interrupted)
        if self._stopping and unfinished:
            self._console.print(
                f"Stopped with {self._total - unfinished} of {self._total} runs done; the same "
                "command goes on from here."
            )
            return INTERRUPTED
        if self._failed:
            self._console.print(f"{len(self._failed)} of {self._total} runs failed:")
            for arm, reason in self._failed:
                self._console.print(f"  {arm.name}: {reason}\n    {arm.directory / 'log.txt'}")
            return FAILED
        return FINISHED


def _shares(jobs: int) -> list[set[int]]:
    """Divide this process's cores among the jobs; no restriction where they do not suffice."""
    cores = sorted(os.sched_getaffinity(0))
    if jobs == 1 or jobs > len(cores):
        return [set() for _ in range(jobs)]
    return [set(cores[i::jobs]) for i in range(jobs)]


def _outcome(arm: Arm) -> str:
    result = json.loads((arm.directory / "result.json").read_text())
    return f"test error {result['metrics']['test/error']:6.2f} %"


def _last_line(arm: Arm) -> str:
    """Return the last line of an arm's log that says something."""
    lines = (arm.directory / "log.txt").read_text(errors="replace").splitlines()
    return next((line.strip()[:160] for line in reversed(lines) if line.strip()), "no message")
