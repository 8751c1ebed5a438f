"""The photographs of the augmentation benchmark: crops of one that Matplotlib contains.

Needs only numpy and Pillow. The path is an argument, since torchvision's side has no Matplotlib.
"""

import os

import numpy as np
from PIL import Image

BATCH = 128


def photographs(size: int) -> np.ndarray:
    """Return a batch of square crops, uint8 (BATCH, size, size, 3)."""
    photo = np.asarray(Image.open(os.environ["BENCH_PHOTOGRAPH"]).convert("RGB"))
    rng = np.random.default_rng(0)
    tops = rng.integers(0, photo.shape[0] - size + 1, BATCH)
    lefts = rng.integers(0, photo.shape[1] - size + 1, BATCH)
    return np.stack([photo[y : y + size, x : x + size] for y, x in zip(tops, lefts, strict=True)])
