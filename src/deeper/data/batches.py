"""Batches gathered on the host and computed ahead, for data that do not fit on the device."""

import os
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from jaxtyping import Int32

from deeper.data.photographs import Photographs
from deeper.data.sources import Split

AHEAD = 8


def stream(
    split: Split,
    numbers: Callable[[int], Int32[np.ndarray, " batch"]],
    first: int,
    *,
    stop: int | None,
    seed: int | None = None,
) -> Generator[dict[str, np.ndarray]]:
    """Yield batches in order, each a pure function of its number.

    Args:
        split: the examples.
        numbers: batch number -> the examples in it, -1 for padding.
        first: number of the first batch.
        stop: number beyond the last; None goes on for ever.
        seed: of photographs' random crops; None shows their middle.

    Yields:
        image uint8 (B, H, W, C), label int32 (B,), mask bool (B,).
    """

    def gather(batch: int) -> dict[str, np.ndarray]:
        chosen = numbers(batch)
        rows = np.maximum(chosen, 0)
        if isinstance(split.images, Photographs) and seed is not None:
            images = split.images.cropped(rows, seed, batch * len(rows))
        else:
            images = split.images[rows]
        return {"image": images, "label": split.labels[rows], "mask": chosen >= 0}

    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="batches") as pool:
        pending: deque[Future[dict[str, np.ndarray]]] = deque()
        batch = first
        try:
            while stop is None or batch < stop or pending:
                while len(pending) < AHEAD and (stop is None or batch < stop):
                    pending.append(pool.submit(gather, batch))
                    batch += 1
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
