"""Events of a sweep on this machine, for a display.

A launcher calls a function with each event; the command line draws progress bars.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Began:
    """The launcher has started.

    Attributes:
        total: number of runs of the sweep.
        finished: number of runs that were finished before.
        jobs: number of simultaneous runs.
    """

    total: int
    finished: int
    jobs: int


@dataclass(frozen=True)
class RunBegan:
    """The process of a run has been started."""

    name: str


@dataclass(frozen=True)
class RunProgress:
    """The progress of a run, with the fields of `deeper.train.observers.Progress`."""

    name: str
    phase: str
    step: int
    steps: int
    loss: float | None
    images_per_second: float | None


@dataclass(frozen=True)
class RunEnded:
    """A run has ended.

    Attributes:
        name: name of the run.
        outcome: the result on the test split or the failure, as text.
        failed: whether it neither finished nor was stopped on request.
        seconds: duration of its process.
        ended: number of runs that have ended so far, including failed ones.
        total: runs of the sweep.
        seconds_left: estimated duration of the remaining runs.
    """

    name: str
    outcome: str
    failed: bool
    seconds: float
    ended: int
    total: int
    seconds_left: float

    def __str__(self) -> str:
        """Return a log line."""
        place = f"[{self.ended:>3} of {self.total}]"
        return f"{place} {self.name:<16} {self.outcome}  ({self.seconds:.0f} s)"


Event = Began | RunBegan | RunProgress | RunEnded
Tell = Callable[[Event], None]


def quiet(event: Event) -> None:
    """Show nothing."""
