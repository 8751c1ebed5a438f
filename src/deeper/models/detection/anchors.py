"""Anchors: boxes of fixed sizes and shapes at every place of a feature map (Ren et al. 2015)."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

Anchors = Float[np.ndarray, "n 4"]


def at_origin(sizes: Sequence[float], ratios: Sequence[float]) -> Anchors:
    """Return the anchors around the pixel (0, 0), rounded as torchvision rounds them.

    Args:
        sizes: square roots of areas, in pixels.
        ratios: of height to width.
    """
    heights = np.sqrt(np.asarray(ratios, np.float32))
    widths = np.float32(1) / heights
    sides = np.asarray(sizes, np.float32)
    w, h = (np.outer(one, sides).reshape(-1) for one in (widths, heights))
    return np.round(np.stack([-w, -h, w, h], axis=1) / np.float32(2))


def over_map(
    shape: tuple[int, int],
    strides: Num[Array, "batch 2"],
    sizes: Sequence[float],
    ratios: Sequence[float],
) -> Float[Array, "batch n 4"]:
    """Return the anchors of a map for each image, in the order row, column, ratio, size.

    Args:
        shape: (height, width) of the map.
        strides: of each image, pixels from one place to the next, down and to the right.
        sizes: see `at_origin`.
        ratios: see `at_origin`.
    """
    y, x = np.meshgrid(*(np.arange(side, dtype=np.float32) for side in shape), indexing="ij")
    places = np.stack([x, y, x, y], axis=-1).reshape(-1, 1, 4)
    steps = strides.astype(jnp.float32)[:, None, None, jnp.asarray([1, 0, 1, 0])]
    anchors = places[None] * steps + at_origin(sizes, ratios)[None, None]
    return anchors.reshape(len(strides), -1, 4)
