"""Batches of images of different sizes, padded at the bottom and right to one array.

A program is compiled for each shape of its input, and photographs have hundreds of shapes. So each
image lies in the upper left of a slightly larger array. Every layer that looks at neighbours first
fills the padding with what surrounds an image otherwise (zeros for a convolution, minus infinity
for max pooling), and records the valid size of its output; means are taken over the valid part. An
image's outputs are therefore those that it has alone, whatever lies in the padding.

The layers of `deeper.models.layers` do this; a net with other layers takes images of one size. The
sizes are a context variable, so that a net's code is the same with and without them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int32

# Rows or columns of the image -> valid rows or columns of a map; of ints and of arrays.
SizeOfMap = Callable[[Any], Any]


@dataclass(frozen=True)
class _PaddedImages:
    """The images that a net is being traced for.

    Attributes:
        shape: (height, width) of the array.
        sizes: (height, width) of each image, int32 (batch, 2).
        maps: (height, width) of a map's array -> its valid size as a function of the image's.
    """

    shape: tuple[int, int]
    sizes: Int32[Array, "batch 2"]
    maps: dict[tuple[int, int], SizeOfMap]


_images: ContextVar[_PaddedImages | None] = ContextVar("images", default=None)


@contextmanager
def padded_images(shape: tuple[int, int], sizes: Int32[Array, "batch 2"]) -> Iterator[None]:
    """Trace a net for images that fill their array in part.

    Args:
        shape: (height, width) of the array.
        sizes: (height, width) of each image, at least seven eighths of the array's.
    """
    token = _images.set(_PaddedImages(shape, sizes, {shape: lambda size: size}))
    try:
        yield
    finally:
        _images.reset(token)


def valid_size(x: Array) -> tuple[Int32[Array, " batch"], Int32[Array, " batch"]] | None:
    """Return the valid rows and columns of each map; None where there is no padding."""
    images = _images.get()
    if images is None:
        return None
    size = images.maps[x.shape[1], x.shape[2]]
    return size(images.sizes[:, 0]), size(images.sizes[:, 1])


def _is_valid(
    x: Array, rows: Int32[Array, " batch"], columns: Int32[Array, " batch"]
) -> Bool[Array, "batch height width 1"]:
    """Return which places of each map are valid, given the valid rows and columns."""
    row_is_valid = jnp.arange(x.shape[1])[None] < rows[:, None]
    column_is_valid = jnp.arange(x.shape[2])[None] < columns[:, None]
    return row_is_valid[:, :, None, None] & column_is_valid[:, None, :, None]


def fill_padding(x: Array, value: float = 0.0) -> Array:
    """Return maps with a value wherever there is padding."""
    size = valid_size(x)
    return x if size is None else jnp.where(_is_valid(x, *size), x, jnp.asarray(value, x.dtype))


def mean_of_valid(
    x: Float[Array, "batch height width channels"],
    rows: Int32[Array, " batch"],
    columns: Int32[Array, " batch"],
) -> Float[Array, "batch channels"]:
    """Return the mean over the first rows and columns of each map."""
    total = jnp.where(_is_valid(x, rows, columns), x, 0).sum((1, 2))
    return total / (rows * columns)[:, None]


def record_size(before: Array, after: Array, size_after: SizeOfMap) -> None:
    """Record the valid size of a layer's output; without padding, do nothing.

    Args:
        before: the layer's input.
        after: its output.
        size_after: valid rows or columns of the input -> those of the output.

    Raises:
        ValueError: another map of the same shape has another valid size.
    """
    images = _images.get()
    if images is None:
        return
    size_before = images.maps[before.shape[1], before.shape[2]]
    shape = (after.shape[1], after.shape[2])

    def size(of_image: Any) -> Any:
        return size_after(size_before(of_image))

    # Looked up by the map's shape, which is unambiguous if all maps of a shape have the same valid
    # size, for every size that an image may have.
    recorded = images.maps.setdefault(shape, size)
    for full in images.shape:
        possible = np.arange(full - full // 8, full + 1)
        if (recorded(possible) != size(possible)).any():
            raise ValueError(f"two maps of {shape[0]}x{shape[1]} have different valid sizes")
