"""Progress of a run: a bar on a terminal, lines in a log, messages to a sweep's launcher."""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, ClassVar, Protocol

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.progress import Progress as RichProgress
from rich.progress import Task, TaskID, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from deeper.display.banner import banner, transfer_lines
from deeper.display.terminal import open_console
from deeper.run.train import Start
from deeper.sweep.slurm_task import PIPE_VARIABLE
from deeper.train.observers import Progress

# Widths of the parts of a line.
NAME, SHORTEST_NAME, BAR, TIME, SHORTEST = 32, 16, 24, 7, 6
NOTE = 26  # loss 12.3456  1,234,567 ex/s


class Watcher(Protocol):
    """Shows the progress of a run."""

    def __call__(self, progress: Progress) -> None: ...

    def close(self) -> None:
        """Remove the display from the terminal."""


class _TaskLines(RichProgress):
    """Renders one line per task within the terminal's width: name, bar, count, note and time left.

    The terminal may become narrower at any time. A longer line would wrap, and its second half
    would remain on the screen at each refresh.
    """

    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        """Return the lines."""
        shown = [task for task in tasks if task.visible]
        table = Table.grid(padding=(0, 1), pad_edge=False)
        if not shown:  # rich asks once before there is a console
            return table
        [time_left] = self.columns
        assert not isinstance(time_left, str)
        counts = [f"{task.completed:.0f}/{task.total or 0:.0f}" for task in shown]
        digits = max(2 * len(f"{task.total or 0:.0f}") + 1 for task in shown)
        longest = max(cell_len(task.description) for task in shown)
        name, length, note = _widths(self.console.width - digits - TIME - 4, longest)
        for width in (name, length, digits, note, TIME):
            if width:
                table.add_column(width=width, no_wrap=True, overflow="ellipsis")
        for task, count in zip(shown, counts, strict=True):
            done = ProgressBar(total=task.total, completed=task.completed, width=length)
            words = Text(task.fields.get("note", ""))
            cells: tuple[RenderableType, ...] = (
                Text(task.description),
                done,
                Text(f"{count:>{digits}}"),
                words,
            )
            widths = (name, length, digits, note)
            kept = [cell for cell, width in zip(cells, widths, strict=True) if width]
            table.add_row(*kept, time_left(task))
        return table


def _widths(room: int, longest: int) -> tuple[int, int, int]:
    """Divide the width of a line between name, bar and note.

    If there is not enough space, the bar is shortened first, then the note, then the name.
    """
    name = max(1, min(longest, NAME, max(SHORTEST_NAME, room - NOTE)))
    note = min(NOTE, room - name)
    length = min(BAR, room - name - note)
    return name, length if length >= SHORTEST else 0, note if note >= SHORTEST else 0


def bar(console: Console) -> RichProgress:
    """Return a live display of tasks; each task may have a ``note``."""
    return _TaskLines(
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        console=console,
        transient=True,
        disable=not (
            console.is_terminal or console.is_jupyter
        ),  # otherwise it leaves empty lines in a log
    )


@contextmanager
def progress_bar(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function of (what, done, total) that shows one line per kind of work."""
    with bar(console) as lines:
        tasks: dict[str, TaskID] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = lines.add_task(what, total=total)
            lines.update(tasks[what], completed=done, total=total)

        yield tell


def note_of(phase: str, loss: float | None, images_per_second: float | None) -> str:
    """Return the text beside a bar."""
    if phase != "training" or images_per_second is None:
        return phase
    shown = "" if loss is None else f"loss {loss:.4f}  "
    return f"{shown}{images_per_second:,.0f} ex/s"


class Bar:
    """A progress bar on a terminal."""

    def __init__(self, console: Console, label: str):
        self._bar = bar(console)
        self._task = self._bar.add_task(label, total=1, note="starting")
        self._work: dict[str, TaskID] = {}
        self._bar.start()

    def __call__(self, progress: Progress) -> None:
        """Move the bar."""
        self._bar.update(
            self._task,
            completed=progress.step,
            total=progress.steps,
            note=note_of(progress.phase, progress.loss, progress.images_per_second),
        )

    def prepares(self, what: str, done: int, total: int) -> None:
        """Show the progress of preparations."""
        if what not in self._work:
            self._work[what] = self._bar.add_task(what, total=total)
        self._bar.update(self._work[what], completed=done, visible=done < total)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.stop()


class Lines:
    """Occasional lines for a log."""

    def __init__(self, console: Console, seconds: float = 20.0):
        self._console, self._seconds, self._last = console, seconds, -float("inf")

    def __call__(self, progress: Progress) -> None:
        """Print a line if enough time has passed since the last one."""
        now = time.monotonic()
        if now - self._last >= self._seconds:
            self._last = now
            note = note_of(progress.phase, progress.loss, progress.images_per_second)
            self._console.print(f"step {progress.step} of {progress.steps}  {note}")

    def close(self) -> None:
        """Do nothing."""


class Pipe:
    """Messages to the launcher, one JSON object per line."""

    def __init__(self, descriptor: int):
        self._stream = os.fdopen(descriptor, "w", buffering=1, encoding="utf-8")
        self.broken = False

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; a broken pipe is recorded, not raised."""
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
    """Return the display that fits: a launcher's pipe, a bar on a terminal, or lines."""
    descriptor = os.environ.pop(PIPE_VARIABLE, None)
    if descriptor is not None:
        return Pipe(int(descriptor))
    return Bar(console, label) if console.is_terminal else Lines(console)


class RunDisplay:
    """Shows a run on a console, and to the launcher if there is one; see `run.train.Display`.

    Args:
        console: the console.
        label: label of the run.
    """

    def __init__(self, console: Console, label: str):
        self._console, self._watch = console, watcher(console, label)

    def __enter__(self) -> "RunDisplay":
        return self

    def __exit__(self, *error: object) -> None:
        self._watch.close()

    @property
    def broken(self) -> bool:
        """Whether the launcher of the run has ended."""
        return isinstance(self._watch, Pipe) and self._watch.broken

    def prepares(self, what: str, done: int, total: int) -> None:
        """Show the progress of work before the run."""
        if isinstance(self._watch, Bar):
            self._watch.prepares(what, done, total)

    def begins(self, start: Start) -> None:
        """Print the banner of the run."""
        self._console.print(banner(start))
        for line in transfer_lines(start):
            self._console.print(line, soft_wrap=True)

    def says(self, sentence: str) -> None:
        """Print a message."""
        self._console.print(sentence, soft_wrap=True)

    def progress(self, progress: Progress) -> None:
        """Show how far the run is."""
        self._watch(progress)


class NotebookLine:
    """A line in a notebook cell that is updated during the run."""

    def __init__(self, label: str, seconds: float = 0.5):
        from IPython.display import display

        self._label, self._seconds, self._last, self._text = label, seconds, -float("inf"), label
        self._handle = display({"text/plain": label}, raw=True, display_id=True)

    def __call__(self, progress: Progress) -> None:
        """Write the progress of the run."""
        note = note_of(progress.phase, progress.loss, progress.images_per_second)
        self._write(f"{self._label}  step {progress.step} of {progress.steps}  {note}")

    def prepares(self, what: str, done: int, total: int) -> None:
        """Write the progress of work before the run."""
        self._write(f"{self._label}  {what}: {done:,} of {total:,}")

    def _write(self, text: str) -> None:
        self._text, now = text, time.monotonic()
        if now - self._last >= self._seconds:
            self._last = now
            self._handle.update({"text/plain": text}, raw=True)

    def close(self) -> None:
        """Leave the last line."""
        self._handle.update({"text/plain": self._text}, raw=True)


class NotebookDisplay:
    """A display for Python: a line in a notebook, a bar on a terminal, nothing elsewhere; see
    `run.train.Display`.

    Each message is shown once per process, since a loop may train many runs.
    """

    _said: ClassVar[set[str]] = set()

    def __init__(self, label: str):
        self._console = open_console()
        self._watch: NotebookLine | Bar | None = None
        if self._console.is_jupyter:
            self._watch = NotebookLine(label)
        elif self._console.is_terminal:
            self._watch = Bar(self._console, label)

    def __enter__(self) -> "NotebookDisplay":
        return self

    def __exit__(self, *error: object) -> None:
        if self._watch is not None:
            self._watch.close()

    def prepares(self, what: str, done: int, total: int) -> None:
        """Show the progress of work before the run."""
        if self._watch is not None:
            self._watch.prepares(what, done, total)

    def begins(self, start: Start) -> None:
        """Do nothing."""

    def says(self, sentence: str) -> None:
        """Print a message."""
        if self._watch is None or sentence in self._said:
            return
        self._said.add(sentence)
        if isinstance(self._watch, Bar):
            self._console.print(sentence, soft_wrap=True)
        else:
            print(sentence)

    def progress(self, progress: Progress) -> None:
        """Show how far the run is."""
        if self._watch is not None:
            self._watch(progress)
