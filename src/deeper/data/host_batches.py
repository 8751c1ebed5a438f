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
from jaxtyping import Int32, UInt8

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
        numbers: batch number -> the examples in it, -1 for padding.
        first: number of the first batch.
        stop: number beyond the last; None goes on for ever.
        seed: of photographs' random crops; None shows their middle.
        workers: who works on them.
        rows: of each batch, those that this host computes; the others' are left out.

    Yields:
        image uint8 (B, H, W, C), label int32 (B,), mask bool (B,).
    """
    if stop is not None and first >= stop:
        return
    source, whole = split.images, len(numbers(first))
    own = range(whole)[rows]
    size = len(own)
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
                piece, place = examples[a : a + PIECE], batch * whole + own[a]
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
            ended = pending.popleft()
            for piece in ended.pieces:
                piece.result()
            images = ended.images
            if processes is not None:
                images = images.copy()  # its memory is used again
                processes.give_back(ended.slot)
            yield {"image": images, "label": ended.label, "mask": ended.mask}
