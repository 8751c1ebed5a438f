"""What a run with streamed data could do if it had to wait for one side alone."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from deeper.train.state import State


@dataclass(frozen=True)
class Rates:
    """Images a second, at a run's beginning.

    Attributes:
        data: of the data alone, while nothing was computed.
        compute: of the devices, on a call's batches that were there already.
    """

    data: float
    compute: float

    @property
    def bound_by(self) -> str:
        """Return which side the run waits for: data or compute."""
        return "data" if self.data < self.compute else "compute"


def timed(
    call: Callable[..., tuple[State, Any]], state: State, source: Any, inputs: Any, count: Any
) -> tuple[State, Any, float]:
    """Make a call of the compiled loop with nothing else on the devices.

    Returns:
        State and metrics, as the call does, and its seconds.
    """
    jax.block_until_ready((state, inputs))
    start = time.monotonic()
    state, metrics = jax.block_until_ready(call(state, source, inputs, count))
    return state, metrics, time.monotonic() - start
