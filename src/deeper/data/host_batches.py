"""Batches gathered on the host and computed ahead, for data that do not fit on the device.

A batch is worked on in pieces, by as many workers as the machine has cores, several batches ahead.
Which pixels are in it does not depend on any of that.
"""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32

from deeper.data.dataset import Split
from deeper.data.decode_pool import Processes
from deeper.data.encoded_images import Photographs
from deeper.platform_support import core_count

PIECE = 16  # examples: a batch of 256 keeps 16 workers busy, and the first one comes soon
MOST_AHEAD = 32  # batches
AHEAD_BYTES = 128 << 20


@dataclass(frozen=True)
class Workers:
    """Who decodes photographs.

    Attributes:
        count: how many at a time; None is one a core.
        processes: processes with shared memory in place of threads, for training batches.
    """

    count: int | None = None
    processes: bool = False


@dataclass
class _Pending:
    """A batch that is being worked on."""

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
        numbers: batch number -> the examples in it, -1 for padding.
        first: number of the first batch.
        stop: number beyond the last; None goes on for ever.
        seed: of photographs' random crops; None shows their middle.
        workers: who works on them.
        rows: of each batch, those that this host computes; the others' are left out.

    Yields:
        The split's columns, (B, ...) each, and ``mask`` bool (B,). Images are uint8 (B, H, W, C).
    """
    if stop is not None and first >= stop:
        return
    whole = len(numbers(first))
    own = range(whole)[rows]
    size = len(own)
    shapes = {name: (size, *column.shape[1:]) for name, column in split.columns.items()}
    count = workers.count or core_count()
    total = sum(
        int(np.prod(shapes[name])) * np.dtype(column.dtype).itemsize
        for name, column in split.columns.items()
    )
    ahead = min(max(AHEAD_BYTES // max(1, total), 2), MOST_AHEAD)
    ahead = max(ahead, -(-2 * count * PIECE // size))
    photographs = [name for name, one in split.columns.items() if isinstance(one, Photographs)]

    def fill(parts: dict[str, np.ndarray], examples: np.ndarray, place: int) -> None:
        for name, part in parts.items():
            column = split.columns[name]
            if isinstance(column, Photographs):
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
                piece, place = examples[a : a + PIECE], batch * whole + own[a]
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
            ended = pending.popleft()
            for piece in ended.pieces:
                piece.result()
            columns = ended.columns
            if processes is not None:  # its memory is used again
                columns[photographs[0]] = columns[photographs[0]].copy()
                processes.give_back(ended.slot)
            yield columns | {"mask": ended.mask}
