"""Augmentations draw per example, and only from (seed, step, row)."""

import jax
import jax.numpy as jnp
import numpy as np

from deeper.augment.crops_and_colour import Cutout, Flip, RandomCrop
from deeper.augment.pipeline import augment

IMAGES = jnp.asarray(np.random.default_rng(0).integers(1, 255, (64, 8, 8, 1)), jnp.uint8)
ROWS = jnp.arange(64)


def run(*operations, images=IMAGES, rows=ROWS, seed=0):
    labels = jnp.zeros(len(rows), jnp.int32)
    return np.asarray(augment(operations, jax.random.key(seed), rows, images, labels)[0])


def test_flip_mirrors_about_half_and_nothing_else():
    flipped = run(Flip())
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(flipped, IMAGES, strict=True)]
    same = [np.array_equal(a, b) for a, b in zip(flipped, IMAGES, strict=True)]
    assert all(m or s for m, s in zip(mirrored, same, strict=True))
    assert 16 < sum(mirrored) < 48


def test_crop_is_a_window_of_the_padded_image():
    cropped = run(RandomCrop(2))
    padded = np.pad(np.asarray(IMAGES), ((0, 0), (2, 2), (2, 2), (0, 0)))
    places = set()
    for image, source in zip(cropped, padded, strict=True):
        found = [
            (i, j)
            for i in range(5)
            for j in range(5)
            if np.array_equal(image, source[i : i + 8, j : j + 8])
        ]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) > 15


def test_cutout_blanks_a_clipped_square():
    cut = run(Cutout(4, (0.0,)))
    blank = (cut == 0).sum((1, 2, 3))
    assert blank.max() == 16
    assert 4 <= blank.min() < 16
