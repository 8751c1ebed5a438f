"""Common part of the workers of `data.py`: opens a pipeline and times its batches on request."""

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

SIZE, BATCH = 224, 128


def serve(version: str, opened: Callable[[], Iterator[Any]]) -> None:
    """Say how long the first batch took; then, for each number read, how long so many take.

    Args:
        version: of what is measured.
        opened: opens the pipeline; its batches are uint8, (BATCH, SIZE, SIZE, 3) or the channels
            first.
    """
    start = time.perf_counter()
    batches = opened()
    first = next(batches)
    seconds = time.perf_counter() - start
    shape = tuple(first.shape)
    assert shape in {(BATCH, SIZE, SIZE, 3), (BATCH, 3, SIZE, SIZE)}, shape
    assert str(first.dtype).endswith("uint8"), first.dtype
    print("ready", version, seconds, flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            next(batches)
        print(time.perf_counter() - start, flush=True)
