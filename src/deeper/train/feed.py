"""How batches reach the compiled step: gathered on the device, or sent from the host.

Both feeds answer the same three questions: what stays on the device (``source``), what goes there
for a number of steps (``steps``), and how one step's share of it becomes a batch (``take``).
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int32, UInt8

from deeper.train import parallel
from deeper.train.step import Batch


class Resident:
    """The examples live on every device; only their numbers are sent, -1 for padding.

    Args:
        source: from `on_device`; several feeds may share one.
        numbers: step -> the examples' numbers in that step's batch; a pure function.
    """

    def __init__(self, source: Any, numbers: Callable[[int], Int32[np.ndarray, " batch"]]):
        self.source = source
        self._numbers = numbers

    def steps(self, first: int, count: int, capacity: int) -> Any:
        """Return the feed of ``count`` steps from ``first`` on, filled up to ``capacity``."""
        rows = [self._numbers(first + i) for i in range(count)]
        padding = jax.tree.map(lambda leaf: np.full_like(leaf, -1), rows[0])
        rows += [padding] * (capacity - count)
        return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)

    @staticmethod
    def take(source: Any, numbers: jax.Array) -> Batch:
        """Gather one batch on the device."""
        batch = jax.tree.map(lambda leaf: jnp.take(leaf, numbers, axis=0, mode="clip"), source)
        return batch | {"mask": numbers >= 0}

    def close(self) -> None:
        """Nothing runs in the background."""


class ResidentPair(Resident):
    """Labelled and unlabelled examples, both of one source.

    Args:
        source: from `on_device`.
        numbers: step -> numbers of ``labelled`` and ``unlabelled`` examples; a pure function.
    """

    def __init__(self, source: Any, numbers: Callable[[int], dict[str, np.ndarray]]):
        super().__init__(source, numbers)  # type: ignore[arg-type] # a tree in place of a leaf

    @staticmethod
    def take(source: Any, numbers: Any) -> Batch:
        """Gather one batch of labelled examples, and images without their labels beside it."""
        unlabelled = Resident.take({"image": source["image"]}, numbers["unlabelled"])["image"]
        return Resident.take(source, numbers["labelled"]) | {"unlabelled": unlabelled}


def on_device(
    images: UInt8[np.ndarray, "n height width channels"],
    labels: Int32[np.ndarray, " n"],
    mesh: Mesh,
) -> dict[str, jax.Array]:
    """Put examples whole on every device, as the source that `Resident` feeds gather from."""
    return parallel.replicate({"image": images, "label": labels}, mesh)


class Streamed:
    """Batches come from the host, computed ahead.

    Args:
        batches: first step -> an iterator of batches from that step on; it may have ``close``.
    """

    source: Any = ()

    def __init__(self, batches: Callable[[int], Iterator[Any]]):
        self._open = batches
        self._iterator: Iterator[Any] | None = None
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
