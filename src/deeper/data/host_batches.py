"""Batches that are gathered on the host ahead of time, for data that do not fit on the device.

Several batches are prepared at once. Each is divided into pieces that workers (one per core by
default) gather or decode. The content of a batch does not depend on the number of workers.
"""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32

from deeper.data.dataset import EncodedImages, Split
from deeper.data.decode_pool import Processes
from deeper.platform_support import core_count

PIECE = 16  # examples per task: a batch of 256 occupies 16 workers, and the first is ready soon
MOST_AHEAD = 32  # batches
AHEAD_BYTES = 128 << 20


@dataclass(frozen=True)
class Workers:
    """The workers that decode photographs.

    Attributes:
        count: number of workers; None is one per core.
        processes: use processes with shared memory instead of threads.
    """

    count: int | None = None
    processes: bool = False


@dataclass
class _Pending:
    """A batch in preparation; ``slot`` is its place in the memory of the decoding processes."""

    columns: dict[str, np.ndarray]
    slot: int | None
    pieces: list[Future[None]]
    mask: np.ndarray


def stream(
    split: Split,
    numbers: Callable[[int], Int32[np.ndarray, " batch"]],
    first: int,
    *,
    stop: int | None,
    seed: int | None = None,
    workers: Workers = Workers(),
    rows: slice = slice(None),
) -> Generator[dict[str, np.ndarray]]:
    """Yield batches in order, each a pure function of its number.

    Args:
        split: the examples.
        numbers: batch number -> numbers of the examples in it, -1 for padding.
        first: number of the first batch.
        stop: number after the last batch; None never stops.
        seed: seed of the random crops of photographs; None takes the central crop.
        workers: the workers that gather and decode.
        rows: the rows of each batch that this process computes; other rows are left out.

    Yields:
        The split's columns, (B, ...) each, and ``mask`` bool (B,). Images are uint8 (B, H, W, C).
    """
    if stop is not None and first >= stop:
        return
    batch_size = len(numbers(first))
    local_rows = range(batch_size)[rows]
    size = len(local_rows)
    shapes = {name: (size, *column.shape[1:]) for name, column in split.columns.items()}
    count = workers.count or core_count()
    total = sum(
        int(np.prod(shapes[name])) * np.dtype(column.dtype).itemsize
        for name, column in split.columns.items()
    )
    ahead = min(max(AHEAD_BYTES // max(1, total), 2), MOST_AHEAD)
    ahead = max(ahead, -(-2 * count * PIECE // size))
    photographs = [name for name, one in split.columns.items() if isinstance(one, EncodedImages)]

    def fill(parts: dict[str, np.ndarray], examples: np.ndarray, place: int) -> None:
        for name, part in parts.items():
            column = split.columns[name]
            if isinstance(column, EncodedImages):
                column.decode_into(part, examples, seed, place)
            else:
                part[:] = column[examples]

    with ExitStack() as stack:
        processes = None
        if workers.processes and photographs:
            source = split.columns[photographs[0]]
            shape = shapes[photographs[0]]
            processes = stack.enter_context(Processes(source, count, ahead, shape, seed))
        pool = ThreadPoolExecutor(count, thread_name_prefix="batches")
        stack.callback(pool.shutdown, cancel_futures=True)

        def begin(batch: int) -> _Pending:
            chosen = numbers(batch)[rows]
            examples = np.maximum(chosen, 0)
            slot = None
            columns = {
                name: np.empty(shape, split.columns[name].dtype)
                for name, shape in shapes.items()
                if processes is None or name != photographs[0]
            }
            by_threads = dict(columns)
            if processes is not None:
                slot, columns[photographs[0]] = processes.take(size)
            pieces = []
            for a in range(0, size, PIECE):
                piece, place = examples[a : a + PIECE], batch * batch_size + local_rows[a]
                parts = {name: column[a : a + PIECE] for name, column in by_threads.items()}
                pieces.append(pool.submit(fill, parts, piece, place))
                if processes is not None:
                    pieces.append(processes.submit(slot, a, piece, place))
            return _Pending(columns, slot, pieces, chosen >= 0)

        pending: deque[_Pending] = deque()
        batch = first
        while stop is None or batch < stop or pending:
            while len(pending) < ahead and (stop is None or batch < stop):
                pending.append(begin(batch))
                batch += 1
            ready = pending.popleft()
            for piece in ready.pieces:
                piece.result()
            columns = ready.columns
            if processes is not None:  # the slot is used for a later batch
                columns[photographs[0]] = columns[photographs[0]].copy()
                processes.give_back(ready.slot)
            yield columns | {"mask": ready.mask}
