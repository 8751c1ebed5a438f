"""Images that fill their array in part, answered as if each were there alone.

Photographs have a hundred shapes, and a program is compiled for each shape of its input. So an
image lies in the upper left of an array that is a little larger. Every layer that looks at
neighbours first clears what lies beyond the image, with what is around the image otherwise: zeros
for a convolution, minus infinity for max pooling. It notes how far its own map reaches; means are
taken as far as that. What is beyond has no part in the answer, whatever it is.

The layers of `deeper.models.layers` do so; a net made of others has to be given its images alone.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int32

Size = Callable[[Any], Any]  # a map's rows or columns, given the image's: an int or an array


@dataclass(frozen=True)
class _Images:
    """What is known while a net is traced.

    Attributes:
        shape: (height, width) of the array.
        sizes: (height, width) of each image, int32 (batch, 2).
        maps: shape of a map's array -> how far it reaches, given the image's size.
    """

    shape: tuple[int, int]
    sizes: Int32[Array, "batch 2"]
    maps: dict[tuple[int, int], Size]


_current: ContextVar[_Images | None] = ContextVar("images", default=None)


@contextmanager
def images_of(shape: tuple[int, int], sizes: Int32[Array, "batch 2"]) -> Iterator[None]:
    """Trace a net for images that fill their array in part.

    Args:
        shape: (height, width) of the array.
        sizes: (height, width) of each image, seven eighths of the array's at least.
    """
    token = _current.set(_Images(shape, sizes, {shape: lambda size: size}))
    try:
        yield
    finally:
        _current.reset(token)


def sizes_of(x: Array) -> tuple[Any, Any] | None:
    """Return how many rows and columns of each map are the image's; None where all are."""
    images = _current.get()
    if images is None:
        return None
    size = images.maps[x.shape[1], x.shape[2]]
    return size(images.sizes[:, 0]), size(images.sizes[:, 1])


def inside(x: Array, rows: Any, columns: Any) -> Bool[Array, "batch height width 1"]:
    """Return which places are within so many rows and columns of each map."""
    down = jnp.arange(x.shape[1])[None] < rows[:, None]
    along = jnp.arange(x.shape[2])[None] < columns[:, None]
    return down[:, :, None, None] & along[:, None, :, None]


def clear(x: Array, beyond: float = 0.0) -> Array:
    """Put a value wherever a map reaches beyond its image."""
    found = sizes_of(x)
    return x if found is None else jnp.where(inside(x, *found), x, jnp.asarray(beyond, x.dtype))


def note(before: Array, after: Array, size_after: Size) -> None:
    """Note how far a layer's map reaches.

    Args:
        before: what the layer was given.
        after: its map.
        size_after: rows or columns of a map -> those that the layer makes of them.
    """
    images = _current.get()
    if images is None:
        return
    size_before = images.maps[before.shape[1], before.shape[2]]
    shape = (after.shape[1], after.shape[2])

    def size(of_image: Any) -> Any:
        return size_after(size_before(of_image))

    # Maps are known by their shape, which will do as long as all of one shape reach as far.
    known = images.maps.setdefault(shape, size)
    for whole in images.shape:
        possible = np.arange(whole - whole // 8, whole + 1)
        if (known(possible) != size(possible)).any():
            raise ValueError(f"two maps of {shape[0]}x{shape[1]} reach differently far")
