"""Feeds of the compiled step: batches gathered on the device, or sent from the host.

Both feeds have the same interface: ``source`` is the data that stay on the devices, ``steps``
returns what is sent for a number of steps, and ``take`` makes the batch of one step from the two.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int32

from deeper.train import data_parallel

HostBatch = Any  # a pytree of NumPy arrays (B, ...)


OWN = "own"  # key of the main stream, the batch itself; the other keys name further streams


class Resident:
    """A feed for examples that are on every device; only their numbers are sent, -1 for padding.

    Args:
        source: columns of all examples, from `on_device`; several feeds may share one.
        numbers: step -> numbers of the examples in the batch of that step: (B,) under `OWN`, and
            (B, examples per row) for each further stream. A pure function.
    """

    batches_per_second: float | None = None  # not measured: the data are on the device

    def __init__(self, source: Any, numbers: Callable[[int], dict[str, Int32[np.ndarray, "..."]]]):
        self.source = source
        self._numbers = numbers

    def steps(self, first: int, count: int, capacity: int) -> Any:
        """Return numbers for ``count`` steps from ``first`` on, padded to ``capacity`` steps."""
        rows = [self._numbers(first + i) for i in range(count)]
        padding = jax.tree.map(lambda leaf: np.full_like(leaf, -1), rows[0])
        rows += [padding] * (capacity - count)
        return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)

    @staticmethod
    def take(source: Any, numbers: dict[str, jax.Array]) -> dict[str, Any]:
        """Gather one batch on the device; ``mask`` is False for padding."""

        def gather(which: jax.Array) -> dict[str, jax.Array]:
            return {
                name: jnp.take(column, which, axis=0, mode="clip")
                for name, column in source.items()
            }

        streams = {name: gather(which) for name, which in numbers.items() if name != OWN}
        return gather(numbers[OWN]) | streams | {"mask": numbers[OWN] >= 0}

    def close(self) -> None:
        """Do nothing: this feed has no background work."""


def on_device(columns: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Copy all examples to every device, as the source of `Resident` feeds."""
    return data_parallel.replicate(dict(columns), mesh)


class Streamed:
    """A feed of batches from the host, which are sent to the devices one call ahead.

    While the devices work on the batches of one call, those of the next are stacked and sent, so
    that the batches of up to three calls are in memory.

    Args:
        batches: first step -> an iterator of batches from that step on; it may have ``close``.
        mesh: the devices.
        form: see `data_parallel.parallelise`; pmap distributes the batches itself when called.
    """

    source: Any = ()
    batches_per_second: float | None = None  # of the data alone, before the first call

    def __init__(
        self, batches: Callable[[int], Iterator[HostBatch]], mesh: Mesh, form: data_parallel.Form
    ):
        self._open, self._mesh, self._form = batches, mesh, form
        self._iterator: Iterator[HostBatch] | None = None
        self._next = -1  # step of the first gathered batch
        self._gathered: Future[_Gathered] | None = None
        self._closing = threading.Event()
        self._thread: ThreadPoolExecutor | None = None  # started by the first call of `steps`

    def steps(self, first: int, count: int, capacity: int) -> Any:
        """Return batches for ``count`` steps from ``first`` on, in arrays of ``capacity`` steps."""
        if self._gathered is None or self._next != first:
            self.close()
            self._iterator = iter(self._open(first))
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="feed")
            self._gathered = self._thread.submit(self._gather, [], capacity)
        assert self._thread is not None
        gathered = self._gathered.result()
        assert len(gathered.host) >= count, f"the data end before step {first + count}"
        self._next = first + count
        self._gathered = self._thread.submit(self._gather, gathered.host[count:], capacity)
        return gathered.sent

    def _gather(self, kept: list[HostBatch], capacity: int) -> "_Gathered":
        """Stack batches, beginning with those ``kept`` from the last call, and send them."""
        host: list[HostBatch] = []
        stacked: HostBatch = None
        while len(host) < capacity and not self._closing.is_set():
            batch = kept.pop(0) if kept else next(self._iterator, None)  # type: ignore[arg-type]
            if batch is None:
                break
            if stacked is None:
                stacked = jax.tree.map(lambda v: _aligned((capacity, *v.shape), v.dtype), batch)
            place = len(host)
            host.append(jax.tree.map(lambda rows, place=place: rows[place], stacked))
            jax.tree.map(np.copyto, host[place], batch)
            if len(host) == 1:
                began = time.monotonic()
        if self.batches_per_second is None and len(host) > 1:
            self.batches_per_second = (len(host) - 1) / (time.monotonic() - began)
        if self._form == "shard_map":
            return _Gathered(host, data_parallel.split_rows(stacked, self._mesh))
        return _Gathered(host, stacked)

    @staticmethod
    def take(source: Any, batch: Any) -> Any:
        """Return the batch, which was sent as it is."""
        del source
        return batch

    def close(self) -> None:
        """Stop the background thread and the iterator; a later call of `steps` starts new ones."""
        self._closing.set()
        if self._thread is not None:
            self._thread.shutdown()  # waits for the batches in preparation
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()
        self._closing.clear()
        self._iterator = self._gathered = self._thread = None


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Allocate an array at an alignment that lets JAX use it on a CPU without copying it."""
    size = int(np.prod(shape)) * dtype.itemsize
    room = np.empty(size + ALIGNMENT, np.uint8)
    begin = -room.ctypes.data % ALIGNMENT
    return room[begin : begin + size].view(dtype).reshape(shape)


ALIGNMENT = 64  # bytes


@dataclass(frozen=True)
class _Gathered:
    """Stacked batches.

    Attributes:
        host: each batch, as views of the stacked host arrays.
        sent: the argument of the compiled step.
    """

    host: list[HostBatch]
    sent: Any


Feed = Resident | Streamed
