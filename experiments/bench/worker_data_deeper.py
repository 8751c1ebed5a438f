"""Times our pipeline, or decoding with libjpeg-turbo alone.

Arguments: directory of the prepared data sets, form (threads, processes; limit, one process with
one thread), antialias (0 or 1). The limit of the restart layout decodes only the parts that crops
need.
"""

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from data_serve import BATCH, SIZE, serve

from deeper.data import array_records, crops, jpeg, jpeg_restart
from deeper.data.dataset import open_dataset
from deeper.data.encoded_images import View
from deeper.data.epoch_order import batch_indices
from deeper.data.host_batches import Workers, stream

ANTIALIAS = {"0": False, "1": True, "fast": "fast"}


def pipeline(directory: Path, processes: bool, antialias: Any) -> Iterator[np.ndarray]:
    """Open our pipeline as `deeper train` does."""
    view = View((SIZE, SIZE, 3), "inception", 256, antialias)
    train = open_dataset("photos", directory, view=view).splits["train"]
    order = partial(batch_indices, len(train), BATCH, 0)
    workers = Workers(processes=processes)
    for batch in stream(train, order, 0, stop=None, seed=0, workers=workers):
        yield batch["image"]


def files(directory: Path) -> list[bytes]:
    """Return the encoded data of the photographs of four batches, as given to the decoder."""
    view = View((SIZE, SIZE, 3), "inception", 256, antialias=False)
    images = open_dataset("photos", directory, view=view).splits["train"].images
    stored = array_records.open_records(images.directory, "train")
    found = []
    for number in batch_indices(len(images), 4 * BATCH, 0, 0):
        data = array_records.fields(stored[int(number)])["image"]
        header = jpeg_restart.read_header(data)
        size, rng = jpeg.size_of(data, "a photograph"), np.random.default_rng(number)
        box = crops.inception(rng, size, (SIZE, SIZE)).box(size, (SIZE, SIZE))
        part = jpeg_restart.splice(data, header, box)
        found.append(data if part is None else part.data)
    return found


def limit(directory: Path) -> Iterator[np.ndarray]:
    """Decode only; the yielded batches have the right shape, but no content."""
    stored, shape = files(directory), np.empty((BATCH, SIZE, SIZE, 3), np.uint8)
    while True:
        for first in range(0, len(stored), BATCH):
            for data in stored[first : first + BATCH]:
                simplejpeg.decode_jpeg(data)
            yield shape


def main() -> None:
    """Prepare the pipeline, then time batches on request."""
    directory, form, antialias = Path(sys.argv[1]), sys.argv[2], ANTIALIAS[sys.argv[3]]
    opened: Any = partial(pipeline, directory, form == "processes", antialias)
    serve(simplejpeg.__version__, partial(limit, directory) if form == "limit" else opened)


if __name__ == "__main__":  # the decoding processes import this file
    main()
