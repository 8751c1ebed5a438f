"""Rates at which the data and the devices of a run could each work without the other."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from deeper.train.state import State


@dataclass(frozen=True)
class Rates:
    """Images per second, measured at the start of a run with streamed data.

    Attributes:
        data: rate of the data, while the devices are idle.
        compute: rate of the devices, on batches that are already on them.
    """

    data: float
    compute: float

    @property
    def bound_by(self) -> str:
        """The slower of the two: data or compute."""
        return "data" if self.data < self.compute else "compute"


def timed(
    call: Callable[..., tuple[State, Any]], state: State, source: Any, inputs: Any, count: Any
) -> tuple[State, Any, float]:
    """Call the compiled loop while the devices do nothing else.

    Returns:
        State and metrics, as returned by the call, and its duration in seconds.
    """
    jax.block_until_ready((state, inputs))
    start = time.monotonic()
    state, metrics = jax.block_until_ready(call(state, source, inputs, count))
    return state, metrics, time.monotonic() - start
