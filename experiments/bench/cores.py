"""Measures the images per second of the photograph pipeline by number of threads or processes.

    python experiments/bench/cores.py DIRECTORY

The directory is that of `deeper prepare data=photos layout=restart`.
"""

import os
import sys
import time
from functools import partial
from pathlib import Path

from deeper.data.dataset import open_dataset
from deeper.data.encoded_images import View
from deeper.data.epoch_order import batch_indices
from deeper.data.host_batches import Workers, stream

BATCH, SECONDS = 128, 4.0
WARM_UP = 10  # batches


def main() -> None:
    """Measure, and print images per second for each number of threads or processes."""
    for antialias in (False, True, "fast"):
        view = View((224, 224, 3), "inception", 256, antialias)
        train = open_dataset("photos", Path(sys.argv[1]), view=view).splits["train"]
        order = partial(batch_indices, len(train), BATCH, 0)
        for processes in (False, True):
            workers = Workers(processes=processes)
            batches = stream(train, order, 0, stop=None, seed=0, workers=workers)
            for _ in range(WARM_UP):
                next(batches)
            count, began = 0, time.perf_counter()
            while time.perf_counter() - began < SECONDS:
                count += len(next(batches)["label"])
            rate = count / (time.perf_counter() - began)
            batches.close()
            kind = "processes" if processes else "threads"
            print(f"antialias={antialias} {kind}: {rate:,.0f} images/s", flush=True)
    print(f"{len(os.sched_getaffinity(0))} cores")


if __name__ == "__main__":  # the decoding processes import this file
    main()
