"""How batches reach the compiled step: gathered on the device, or sent from the host.

Both feeds answer the same three questions: what stays on the device (``source``), what goes there
for a number of steps (``steps``), and how one step's share of it becomes a batch (``take``).
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


OWN = "own"  # in a feed of numbers: those of the batch itself, beside those of its streams


class Resident:
    """The examples live on every device; only their numbers are sent, -1 for padding.

    Args:
        source: columns of all examples, from `on_device`; several feeds may share one.
        numbers: step -> the examples' numbers in that step's batch: (B,) under `OWN`, and for each
            further stream of examples (B, how many). A pure function.
    """

    batches_per_second: float | None = None  # nothing is waited for

    def __init__(self, source: Any, numbers: Callable[[int], dict[str, Int32[np.ndarray, "..."]]]):
        self.source = source
        self._numbers = numbers

    def steps(self, first: int, count: int, capacity: int) -> Any:
        """Return the feed of ``count`` steps from ``first`` on, filled up to ``capacity``."""
        rows = [self._numbers(first + i) for i in range(count)]
        padding = jax.tree.map(lambda leaf: np.full_like(leaf, -1), rows[0])
        rows += [padding] * (capacity - count)
        return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)

    @staticmethod
    def take(source: Any, numbers: dict[str, jax.Array]) -> dict[str, Any]:
        """Gather one batch on the device."""

        def gathered(which: jax.Array) -> dict[str, jax.Array]:
            return {
                name: jnp.take(column, which, axis=0, mode="clip")
                for name, column in source.items()
            }

        streams = {name: gathered(which) for name, which in numbers.items() if name != OWN}
        return gathered(numbers[OWN]) | streams | {"mask": numbers[OWN] >= 0}

    def close(self) -> None:
        """Nothing runs in the background."""


def on_device(columns: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Put examples whole on every device, as the source that `Resident` feeds gather from."""
    return data_parallel.replicate(dict(columns), mesh)


class Streamed:
    """Batches come from the host, computed ahead, and go to the devices a call ahead.

    While the devices work on one call's batches, those of the next are laid side by side and sent,
    so that up to three calls' batches are in memory.

    Args:
        batches: first step -> an iterator of batches from that step on; it may have ``close``.
        mesh: the devices.
        form: see `data_parallel.parallelise`; pmap spreads the batches itself, when it is called.
    """

    source: Any = ()
    batches_per_second: float | None = None  # of the data alone, while the first call waits

    def __init__(
        self, batches: Callable[[int], Iterator[HostBatch]], mesh: Mesh, form: data_parallel.Form
    ):
        self._open, self._mesh, self._form = batches, mesh, form
        self._iterator: Iterator[HostBatch] | None = None
        self._next = -1  # step that the gathered batches begin with
        self._gathered: Future[_Gathered] | None = None
        self._closing = threading.Event()
        self._thread: ThreadPoolExecutor | None = None  # from the first step on

    def steps(self, first: int, count: int, capacity: int) -> Any:
        """Return the feed of ``count`` steps from ``first`` on, with room for ``capacity``."""
        if self._gathered is None or self._next != first:
            self.close()
            self._iterator = iter(self._open(first))
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="feed")
            self._gathered = self._thread.submit(self._gather, [], capacity)
        assert self._thread is not None
        found = self._gathered.result()
        assert len(found.host) >= count, f"the data end before step {first + count}"
        self._next = first + count
        self._gathered = self._thread.submit(self._gather, found.host[count:], capacity)
        return found.sent

    def _gather(self, kept: list[HostBatch], capacity: int) -> "_Gathered":
        """Lay batches side by side, some of them ``kept`` from before, and send them."""
        host: list[HostBatch] = []
        whole: HostBatch = None
        while len(host) < capacity and not self._closing.is_set():
            batch = kept.pop(0) if kept else next(self._iterator, None)  # type: ignore[arg-type]
            if batch is None:
                break
            if whole is None:
                whole = jax.tree.map(lambda v: _aligned((capacity, *v.shape), v.dtype), batch)
            place = len(host)
            host.append(jax.tree.map(lambda rows, place=place: rows[place], whole))
            jax.tree.map(np.copyto, host[place], batch)
            if len(host) == 1:
                began = time.monotonic()
        if self.batches_per_second is None and len(host) > 1:
            self.batches_per_second = (len(host) - 1) / (time.monotonic() - began)
        if self._form == "shard_map":
            return _Gathered(host, data_parallel.split_rows(whole, self._mesh))
        return _Gathered(host, whole)

    @staticmethod
    def take(source: Any, batch: Any) -> Any:
        """The feed is the batch."""
        del source
        return batch

    def close(self) -> None:
        """Stop what computes ahead, and its thread; a later call of `steps` begins it anew."""
        self._closing.set()
        if self._thread is not None:
            self._thread.shutdown()  # waits for what is under way
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()
        self._closing.clear()
        self._iterator = self._gathered = self._thread = None


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return new memory that begins where JAX takes it over on a CPU as it is, uncopied."""
    size = int(np.prod(shape)) * dtype.itemsize
    room = np.empty(size + ALIGNMENT, np.uint8)
    begin = -room.ctypes.data % ALIGNMENT
    return room[begin : begin + size].view(dtype).reshape(shape)


ALIGNMENT = 64  # bytes


@dataclass(frozen=True)
class _Gathered:
    """Batches side by side: one by one on the host, and as the compiled step takes them."""

    host: list[HostBatch]
    sent: Any


Feed = Resident | Streamed
