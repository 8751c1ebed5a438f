"""Times Grain: with our decoder (threads or processes), and as its documentation shows.

Arguments: directory of the prepared data sets, form (threads, processes, documented). Our decoder
is imported from this project's sources. The documented form is a DataLoader with one worker per
core, whose transformations process single records with Pillow.
"""

import io
import os
import sys
from pathlib import Path

import grain
import numpy as np
from data_serve import BATCH, SIZE, serve
from PIL import Image

from deeper.data import array_records, crops
from deeper.data.dataset import open_dataset
from deeper.data.encoded_images import View

CORES = len(os.sched_getaffinity(0))
VIEW = View((SIZE, SIZE, 3), "inception", 256, antialias=False)


class Decode:
    """A Grain transformation that decodes one photograph with our decoder."""

    def __init__(self, images):
        self.images = images

    def __call__(self, place, row):
        image = np.empty((1, SIZE, SIZE, 3), np.uint8)
        self.images.decode_into(image, np.array([row]), 0, place)
        return image[0]


def ours(directory: Path, processes: bool):
    """Open a MapDataset with our decoder."""
    images = open_dataset("photos", directory, view=VIEW).splits["train"].images
    data = grain.MapDataset.source(np.arange(len(images))).seed(0).shuffle().repeat()
    data = data.map_with_index(Decode(images)).batch(BATCH, drop_remainder=True)
    if not processes:
        options = grain.ReadOptions(num_threads=CORES, prefetch_buffer_size=2 * CORES)
        return iter(data.to_iter_dataset(options))
    alone = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
    options = grain.MultiprocessingOptions(num_workers=CORES, per_worker_buffer_size=2)
    return iter(data.to_iter_dataset(alone).mp_prefetch(options))


class Crop(grain.transforms.RandomMap):
    """A Grain transformation of a record to a random crop, with Pillow."""

    def random_map(self, element, rng):
        """Decode, crop, resize and mirror a photograph."""
        picture = Image.open(io.BytesIO(array_records.fields(element)["image"])).convert("RGB")
        crop = crops.inception(rng, picture.size[::-1], (SIZE, SIZE))
        box = (crop.left, crop.top, crop.left + crop.width, crop.top + crop.height)
        small = picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=box)
        image = np.asarray(small)
        return image[:, ::-1] if crop.mirrored else image


def documented(directory: Path):
    """Open a DataLoader as in Grain's documentation."""
    found = sorted((directory / "photos" / "1.0.0").glob("*train.array_record*"))
    source = grain.sources.ArrayRecordDataSource([str(path) for path in found])
    sampler = grain.samplers.IndexSampler(
        len(source), shard_options=grain.sharding.NoSharding(), shuffle=True, seed=0
    )
    operations = [Crop(), grain.transforms.Batch(BATCH, drop_remainder=True)]
    return iter(
        grain.DataLoader(
            data_source=source, sampler=sampler, operations=operations, worker_count=CORES
        )
    )


def main() -> None:
    """Prepare the pipeline, then time batches on request."""
    directory, form = Path(sys.argv[1]), sys.argv[2]
    if form == "documented":
        serve(grain.__version__, lambda: documented(directory))
    else:
        serve(grain.__version__, lambda: ours(directory, form == "processes"))


if __name__ == "__main__":  # Grain's processes import this file
    main()
