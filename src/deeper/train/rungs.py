"""Where a run may be cut, as a trial of a search."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Rungs:
    """Shares of a run at which it may be cut, by its metric on the validation split.

    A run is cut after the checkpoint of that step: its schedule is that of the whole run, and it
    can be gone on with.

    Attributes:
        shares: numerators, below ``whole``.
        whole: denominator.
        cut: told the numerator, and how bad the metric is (less is better); whether to stop there.
    """

    shares: tuple[int, ...]
    whole: int
    cut: Callable[[int, float], bool]

    def at(self, steps: int) -> dict[int, int]:
        """Return step -> numerator, for a run of so many steps."""
        found = {-(-steps * share // self.whole): share for share in self.shares}
        return {step: share for step, share in found.items() if step < steps}
