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
from jaxtyping import Int32, UInt8

from deeper.data.dataset import Split
from deeper.data.decode_pool import Processes
from deeper.data.encoded_images import Photographs
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

    images: UInt8[np.ndarray, "batch height width channels"]
    slot: int | None
    pieces: list[Future[None]]
    label: Int32[np.ndarray, " batch"]
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
        image uint8 (B, H, W, C), label int32 (B,), mask bool (B,), False for padding.
    """
    if stop is not None and first >= stop:
        return
    source, batch_size = split.images, len(numbers(first))
    local_rows = range(batch_size)[rows]
    size = len(local_rows)
    shape = (size, *source.shape[1:])
    count = workers.count or core_count()
    ahead = min(max(AHEAD_BYTES // int(np.prod(shape)), 2), MOST_AHEAD)
    ahead = max(ahead, -(-2 * count * PIECE // size))

    def fill(images: np.ndarray, examples: np.ndarray, place: int) -> None:
        if isinstance(source, Photographs):
            source.decode_into(images, examples, seed, place)
        else:
            images[:] = source[examples]

    with ExitStack() as stack:
        processes = None
        if workers.processes and isinstance(source, Photographs):
            processes = stack.enter_context(Processes(source, count, ahead, shape, seed))
        pool = ThreadPoolExecutor(count, thread_name_prefix="batches")
        stack.callback(pool.shutdown, cancel_futures=True)

        def begin(batch: int) -> _Pending:
            chosen = numbers(batch)[rows]
            examples = np.maximum(chosen, 0)
            if processes is not None:
                slot, images = processes.take(size)
            else:
                slot, images = None, np.empty(shape, np.uint8)
            pieces = []
            for a in range(0, size, PIECE):
                piece, place = examples[a : a + PIECE], batch * batch_size + local_rows[a]
                if processes is not None:
                    pieces.append(processes.submit(slot, a, piece, place))
                else:
                    pieces.append(pool.submit(fill, images[a : a + PIECE], piece, place))
            return _Pending(images, slot, pieces, split.labels[examples], chosen >= 0)

        pending: deque[_Pending] = deque()
        batch = first
        while stop is None or batch < stop or pending:
            while len(pending) < ahead and (stop is None or batch < stop):
                pending.append(begin(batch))
                batch += 1
            ready = pending.popleft()
            for piece in ready.pieces:
                piece.result()
            images = ready.images
            if processes is not None:
                images = images.copy()  # the slot is used for a later batch
                processes.give_back(ready.slot)
            yield {"image": images, "label": ready.label, "mask": ready.mask}
