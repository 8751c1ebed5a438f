"""Progress of a run: a bar on a terminal, lines in a log, messages to a sweep's launcher."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from deeper.cli.sweeps.job import PIPE_VARIABLE
from deeper.train.loop import Progress


class Watcher(Protocol):
    """Shows how a run goes."""

    def __call__(self, progress: Progress) -> None: ...

    def close(self) -> None:
        """Leave the terminal as it was."""


def bar(console: Console) -> RichProgress:
    """Return the columns that a run and a sweep show, within 100 columns."""
    return RichProgress(
        TextColumn("{task.description:<16}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:>6.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[note]:<32}"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        console=console,
        transient=True,
        disable=not console.is_terminal,  # or it leaves empty lines in a log
    )


def note_of(phase: str, loss: float | None, images_per_second: float | None) -> str:
    """Return the words beside a bar."""
    if phase != "training" or images_per_second is None:
        return phase
    shown = "" if loss is None else f"loss {loss:.4f}  "
    return f"{shown}{images_per_second:,.0f} img/s"


class Bar:
    """A bar on a terminal."""

    def __init__(self, console: Console, label: str):
        self._bar = bar(console)
        self._task = self._bar.add_task(label, total=1, note="starting")
        self._bar.start()

    def __call__(self, progress: Progress) -> None:
        """Move the bar."""
        self._bar.update(
            self._task,
            completed=progress.step,
            total=progress.steps,
            note=note_of(progress.phase, progress.loss, progress.images_per_second),
        )

    def close(self) -> None:
        """Remove the bar."""
        self._bar.stop()


class Lines:
    """A line now and then, for logs."""

    def __init__(self, console: Console, seconds: float = 20.0):
        self._console, self._seconds, self._last = console, seconds, -float("inf")

    def __call__(self, progress: Progress) -> None:
        """Print a line if the last one is long enough ago."""
        now = time.monotonic()
        if now - self._last >= self._seconds:
            self._last = now
            note = note_of(progress.phase, progress.loss, progress.images_per_second)
            self._console.print(f"step {progress.step} of {progress.steps}  {note}")

    def close(self) -> None:
        """Nothing to remove."""


class Pipe:
    """Messages to the launcher, a JSON object a line."""

    def __init__(self, descriptor: int):
        self._stream = os.fdopen(descriptor, "w", buffering=1)
        self.broken = False

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; a launcher that is gone is noted, not fatal."""
        try:
            self._stream.write(json.dumps(message) + "\n")
        except OSError:
            self.broken = True

    def __call__(self, progress: Progress) -> None:
        """Send progress."""
        self.send(asdict(progress))

    def close(self) -> None:
        """Close the pipe."""
        try:
            self._stream.close()
        except OSError:
            self.broken = True


def watcher(console: Console, label: str) -> Watcher:
    """Return what fits: a launcher's pipe, a terminal's bar, or lines."""
    descriptor = os.environ.pop(PIPE_VARIABLE, None)
    if descriptor is not None:
        return Pipe(int(descriptor))
    make: Callable[[], Watcher] = (
        (lambda: Bar(console, label)) if console.is_terminal else (lambda: Lines(console))
    )
    return make()
