"""What happens while a sweep runs on this machine, for whoever wants to show it.

A launcher calls a function with each event as it happens; the command line draws bars of them.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Began:
    """The launcher begins.

    Attributes:
        total: runs of the sweep.
        finished: how many were finished before.
        jobs: runs at a time.
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
    """How far a run is; the fields are those of `deeper.train.loop.Progress`."""

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
        name: of the run.
        outcome: in words: the test error, or what went wrong.
        failed: whether it neither finished nor was stopped on request.
        seconds: that its process took.
        ended: how many runs of the sweep have ended by now, failed ones among them.
        total: runs of the sweep.
        seconds_left: an estimate for the rest of the sweep.
    """

    name: str
    outcome: str
    failed: bool
    seconds: float
    ended: int
    total: int
    seconds_left: float

    def __str__(self) -> str:
        """Return a line for a log."""
        place = f"[{self.ended:>3} of {self.total}]"
        return f"{place} {self.name:<16} {self.outcome}  ({self.seconds:.0f} s)"


Event = Began | RunBegan | RunProgress | RunEnded
Tell = Callable[[Event], None]


def quiet(event: Event) -> None:
    """Show nothing."""
