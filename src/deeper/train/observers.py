"""What the training loop tells while it trains, and to whom."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from deeper.train.evaluate import Predictions


class Record(Protocol):
    """Where the numbers of a run go; see `deeper.track`."""

    def log(self, row: dict[str, Any]) -> None:
        """Add a row."""

    def fsync(self) -> None:
        """Make the rows so far survive a crash."""


class Profiler(Protocol):
    """Profiles steps; see `deeper.run.step_profile`."""

    def start(self) -> None:
        """Start, before the first of the steps."""

    def stop(self, last: int, program: Callable[[], str | None]) -> None:
        """Stop after step ``last``; ``program`` returns the compiled program's text, if any."""


class Observer(Protocol):
    """Looks at a run at each evaluation on the validation split; see `deeper.run.observer`."""

    def evaluated(
        self, step: int, params: Any, predictions: Predictions, gradients: Callable[[], Any]
    ) -> None:
        """Look at the run, before the row of the evaluation is logged.

        Args:
            step: steps done.
            params: the parameters, on the devices.
            predictions: of every validation example.
            gradients: computes the gradients of the last batch with these parameters.
        """


@dataclass(frozen=True)
class Progress:
    """What the loop tells whoever watches it.

    Attributes:
        phase: compiling, training, validating, testing.
        step: steps done.
        steps: steps in all.
        loss: mean training loss since the row before, once there is one.
        images_per_second: in training, without compilation and evaluation.
    """

    phase: str
    step: int
    steps: int
    loss: float | None
    images_per_second: float | None
