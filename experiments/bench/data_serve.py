"""Common part of the workers of `data.py`: opens a pipeline and times its batches on request."""

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

SIZE, BATCH = 224, 128


def serve(version: str, opened: Callable[[], Iterator[Any]]) -> None:
    """Print the seconds of the first batch; then read numbers of batches and print the seconds of
    each.

    Args:
        version: version of the measured library.
        opened: opens the pipeline, whose batches are uint8 (BATCH, SIZE, SIZE, 3) or (BATCH, 3,
            SIZE, SIZE).
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
