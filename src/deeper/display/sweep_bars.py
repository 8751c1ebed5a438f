"""Progress bars of a sweep's runs."""

from rich.console import Console
from rich.progress import TaskID

from deeper.display.run_display import bar, note_of
from deeper.sweep.events import Began, Event, RunBegan, RunEnded, RunProgress


class SweepBars:
    """Shows the events of a sweep: bars on a terminal, and one line per run that has ended."""

    def __init__(self, console: Console):
        self._console, self._bar = console, bar(console)
        self._tasks: dict[str, list[TaskID]] = {}
        self._all: TaskID | None = None

    def __call__(self, event: Event) -> None:
        match event:
            case Began():
                self._console.print(f"{event.jobs} at a time")
                if self._console.is_terminal:
                    self._bar.start()
                    self._all = self._bar.add_task(
                        "all runs", total=event.total, completed=event.finished
                    )
            case RunBegan():
                task = self._bar.add_task(event.name, total=1, note="starting")
                self._tasks.setdefault(event.name, []).append(task)
            case RunProgress():
                self._bar.update(
                    self._tasks[event.name][0],
                    completed=event.step,
                    total=event.steps,
                    note=note_of(event.phase, event.loss, event.images_per_second),
                )
            case RunEnded():
                self._bar.remove_task(self._tasks[event.name].pop(0))
                self._console.print(str(event), style="red" if event.failed else None)
                if self._all is not None:
                    note = f"about {event.seconds_left / 60:.1f} min left"
                    self._bar.update(self._all, completed=event.ended, note=note)

    def __enter__(self) -> "SweepBars":
        """Return the display."""
        return self

    def __exit__(self, *error: object) -> None:
        """Remove the bars from the terminal."""
        self._bar.stop()
