"""Times NVIDIA DALI on the CPU: image_random_crop, bilinear resizing; uint8 batches.

Arguments: directory of JPEG files in class folders, antialias (0 or 1).
"""

import os
import sys

import numpy as np
import nvidia.dali as dali
from data_serve import BATCH, SIZE, serve
from nvidia.dali import fn, pipeline_def, types

CORES = len(os.sched_getaffinity(0))


@pipeline_def(batch_size=BATCH, num_threads=CORES, device_id=None, prefetch_queue_depth=2)
def graph(directory: str, antialias: bool):
    """Define the pipeline: read, decode a random crop, resize, mirror."""
    encoded, _ = fn.readers.file(file_root=directory, random_shuffle=True, initial_fill=16 * BATCH)
    image = fn.decoders.image_random_crop(
        encoded,
        device="cpu",
        output_type=types.RGB,
        random_area=[0.08, 1.0],
        random_aspect_ratio=[3 / 4, 4 / 3],
        num_attempts=10,
    )
    image = fn.resize(
        image,
        resize_x=SIZE,
        resize_y=SIZE,
        interp_type=types.INTERP_LINEAR,
        antialias=antialias,
    )
    return fn.flip(image, horizontal=fn.random.coin_flip())


def batches(directory: str, antialias: bool):
    """Open the pipeline, and yield its batches."""
    pipe = graph(directory, antialias)
    pipe.build()
    while True:
        (image,) = pipe.run()
        yield np.asarray(image.as_array())


serve(dali.__version__, lambda: batches(sys.argv[1], sys.argv[2] == "1"))
