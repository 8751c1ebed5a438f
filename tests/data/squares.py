"""Coloured squares on noise: scenes that a small detector learns in seconds."""

import hashlib

import numpy as np

from deeper.data.dataset import Dataset, Split

SIDE, MOST = 64, 3


def squares(train: int, test: int, smaller: int = 0) -> Dataset:
    """Return scenes of one to three squares, red (class 0) or green (class 1).

    Args:
        train: scenes.
        test: scenes.
        smaller: pixels of the canvas that the photographs do not fill, below and at the right.
    """
    digest = hashlib.sha256(f"{train} {test} {smaller}".encode()).hexdigest()
    parts = {"train": _split(train, 0, smaller), "test": _split(test, 1, smaller)}
    return Dataset("squares", parts, ("red", "green"), digest, (SIDE, SIDE, 3))


def _split(count: int, seed: int, smaller: int) -> Split:
    rng = np.random.default_rng(seed)
    side = SIDE - smaller
    images = np.zeros((count, SIDE, SIDE, 3), np.uint8)
    images[:, :side, :side] = rng.integers(60, 120, (count, side, side, 3))
    boxes = np.zeros((count, MOST, 4), np.float32)
    labels = np.full((count, MOST), -1, np.int32)
    for number in range(count):
        for place in range(rng.integers(1, MOST + 1)):
            width, height = rng.integers(12, 28, 2)
            x, y = rng.integers(0, side - width), rng.integers(0, side - height)
            label = int(rng.integers(2))
            images[number, y : y + height, x : x + width] = (0, 0, 0)
            images[number, y : y + height, x : x + width, label] = 255
            boxes[number, place] = (x, y, x + width, y + height)
            labels[number, place] = label
    sides = boxes[..., 2:] - boxes[..., :2]
    return Split.of(
        image=images,
        size=np.full((count, 2), side, np.float32),
        original=np.full((count, 2), 2 * side, np.float32),
        boxes=boxes,
        labels=labels,
        crowd=np.zeros((count, MOST), bool),
        difficult=np.zeros((count, MOST), bool),
        area=4 * sides[..., 0] * sides[..., 1],
        number=np.arange(count, dtype=np.int32),
    )
