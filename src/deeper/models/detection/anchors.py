"""Anchors: boxes of fixed sizes and shapes at every place of a feature map (Ren et al. 2015)."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

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
    strides: tuple[int, int],
    sizes: Sequence[float],
    ratios: Sequence[float],
) -> Anchors:
    """Return the anchors of a map, in the order row, column, ratio, size.

    Args:
        shape: (height, width) of the map.
        strides: pixels from one place to the next, down and to the right.
        sizes: see `at_origin`.
        ratios: see `at_origin`.
    """
    y = np.arange(shape[0], dtype=np.float32) * strides[0]
    x = np.arange(shape[1], dtype=np.float32) * strides[1]
    y, x = (axis.reshape(-1) for axis in np.meshgrid(y, x, indexing="ij"))
    places = np.stack([x, y, x, y], axis=1)
    return (places[:, None] + at_origin(sizes, ratios)[None]).reshape(-1, 4)
