"""How batches reach the compiled step: gathered on the device, or sent from the host.

Both feeds answer the same three questions: what stays on the device (``source``), what goes there
for a number of steps (``steps``), and how one step's share of it becomes a batch (``take``).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int32, UInt8

from deeper.train import parallel
from deeper.train.step import Batch


@dataclass(frozen=True)
class Images:
    """A split's images and labels on the host.

    Attributes:
        images: uint8, possibly memory-mapped.
        labels: int32.
    """

    images: UInt8[np.ndarray, "n height width channels"]
    labels: Int32[np.ndarray, " n"]

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.labels)


class Resident:
    """The whole split lives on every device; only the examples' numbers are sent.

    Args:
        split: the examples.
        mesh: the devices.
        order: step -> the examples' numbers in that step's batch; a pure function.
    """

    def __init__(
        self, split: Images, mesh: Mesh, order: Callable[[int], Int32[np.ndarray, " batch"]]
    ):
        self.source = parallel.replicate(
            {"image": np.ascontiguousarray(split.images), "label": split.labels}, mesh
        )
        self._order = order

    def steps(self, first: int, count: int, capacity: int) -> Any:
        """Return the feed of ``count`` steps from ``first`` on, filled up to ``capacity``."""
        orders = [self._order(first + i) for i in range(count)]
        return np.stack(orders + [np.zeros_like(orders[0])] * (capacity - count))

    @staticmethod
    def take(source: Any, numbers: jax.Array) -> Batch:
        """Gather one batch on the device."""
        batch = jax.tree.map(lambda leaf: jnp.take(leaf, numbers, axis=0, mode="clip"), source)
        return batch | {"mask": jnp.ones(numbers.shape, bool)}

    def close(self) -> None:
        """Nothing runs in the background."""


class Streamed:
    """Batches come from the host, computed ahead.

    Args:
        batches: first step -> an iterator of batches from that step on; it may have ``close``.
    """

    source: Any = ()

    def __init__(self, batches: Callable[[int], Iterator[Batch]]):
        self._open = batches
        self._iterator: Iterator[Batch] | None = None
        self._next = -1

    def steps(self, first: int, count: int, capacity: int) -> Any:
        """Return the feed of ``count`` steps from ``first`` on, filled up to ``capacity``."""
        if self._iterator is None or self._next != first:
            self.close()
            self._iterator = iter(self._open(first))
        batches = [next(self._iterator) for _ in range(count)]
        self._next = first + count
        batches += [batches[0]] * (capacity - count)
        return jax.tree.map(lambda *leaves: np.stack(leaves), *batches)

    @staticmethod
    def take(source: Any, batch: Batch) -> Batch:
        """The feed is the batch."""
        del source
        return batch

    def close(self) -> None:
        """Stop what computes ahead."""
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()
        self._iterator = None


Feed = Resident | Streamed
