"""Batches of images or sequences of different sizes, padded at their ends to one array.

A program is compiled for each shape of its input, and photographs and texts have hundreds of
shapes. So each example lies at the beginning of a larger array: an image in the upper left, a
sequence at the first position. Every layer that looks at neighbours first fills the padding with
what surrounds an example otherwise (zeros for a convolution, minus infinity for max pooling), and
records the valid size of its output; means are taken over the valid part, and so are BatchNorm's
statistics in training. An example's outputs are therefore those that it has alone, whatever lies
in the padding.

The layers of `deeper.models.layers` do this; a net with other layers takes examples of one size.
The sizes are a context variable, so that a net's code is the same with and without them. Images are
padded from outside, see `fully_convolutional.answer`; a net of sequences sets the context itself,
by the lengths that `lengths_of` reads from its input.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int32, Shaped

from deeper.kernels.precision import at_least_float32

# Places of the example along an axis -> valid places of a map; of ints and of arrays.
SizeOfMap = Callable[[Any], Any]


@dataclass(frozen=True)
class _Padded:
    """The examples that a net is being traced for.

    Attributes:
        shape: spatial shape of the array: (height, width), or (length,).
        sizes: of each example, by spatial axis, int32 (batch, axes).
        possible: sizes that an example may have along an axis of the array.
        maps: spatial shape of a map's array -> its valid size as a function of the example's.
    """

    shape: tuple[int, ...]
    sizes: Int32[Array, "batch axes"]
    possible: Callable[[int], np.ndarray]
    maps: dict[tuple[int, ...], SizeOfMap]


_padded: ContextVar[_Padded | None] = ContextVar("padded", default=None)


@contextmanager
def padded_images(shape: tuple[int, int], sizes: Int32[Array, "batch 2"]) -> Iterator[None]:
    """Trace a net for images that fill their array in part.

    Args:
        shape: (height, width) of the array.
        sizes: (height, width) of each image, at least seven eighths of the array's.
    """
    with _traced_for(_Padded(shape, sizes, _from_seven_eighths, {shape: _same})):
        yield


@contextmanager
def padded_to_multiples(
    shape: tuple[int, int], sizes: Int32[Array, "batch 2"], step: int
) -> Iterator[None]:
    """Trace a net for images of any size that fill their array in part.

    Args:
        shape: (height, width) of the array.
        sizes: (height, width) of each image, multiples of ``step``: then the maps of each stride
            that divides it have their own size in places.
        step: pixels, a multiple of all strides of the net.
    """

    def multiples(full: int) -> np.ndarray:
        return np.arange(step, full + 1, step)

    with _traced_for(_Padded(shape, sizes, multiples, {shape: _same})):
        yield


@contextmanager
def padded_sequences(length: int, lengths: Int32[Array, " batch"]) -> Iterator[None]:
    """Trace a net for sequences that fill their array in part.

    Args:
        length: positions of the array.
        lengths: of each sequence, 1 to ``length``.
    """
    with _traced_for(_Padded((length,), lengths[:, None], _from_one, {(length,): _same})):
        yield


@contextmanager
def missing_maps(shape: tuple[int, ...], is_there: Bool[Array, " batch"]) -> Iterator[None]:
    """Trace layers for maps some of which are not there: they count in no statistics.

    Args:
        shape: (height, width) of the maps.
        is_there: which are.
    """
    sizes = jnp.where(is_there[:, None], jnp.asarray(shape, jnp.int32), 0)

    def possible(full: int) -> np.ndarray:
        return np.asarray([0, full])

    with _traced_for(_Padded(shape, sizes, possible, {shape: _same})):
        yield


def lengths_of(sequences: Shaped[Array, "batch length ..."]) -> Int32[Array, " batch"]:
    """Return how far each sequence goes: what is zero to the end of the array is padding.

    Args:
        sequences: tokens (batch, length), of which 0 is padding; or values (batch, length,
            channels), such as samples of sound or one-hot rows, where a position is padding if all
            of its channels are zero.

    Returns:
        Lengths, at least 1.
    """
    is_there = sequences != 0
    if sequences.ndim == 3:
        is_there = is_there.any(axis=2)
    places = jnp.arange(1, sequences.shape[1] + 1, dtype=jnp.int32)[None]
    return jnp.maximum(1, jnp.where(is_there, places, 0).max(axis=1))


@contextmanager
def _traced_for(padded: _Padded) -> Iterator[None]:
    token = _padded.set(padded)
    try:
        yield
    finally:
        _padded.reset(token)


def _same(size: Any) -> Any:
    return size


def _from_seven_eighths(full: int) -> np.ndarray:
    return np.arange(full - full // 8, full + 1)


def _from_one(full: int) -> np.ndarray:
    return np.arange(1, full + 1)


def valid_size(x: Array) -> tuple[Int32[Array, " batch"], ...] | None:
    """Return the valid places of each map by spatial axis; None where there is no padding."""
    padded = _padded.get()
    if padded is None:
        return None
    size = padded.maps[x.shape[1:-1]]
    return tuple(size(padded.sizes[:, axis]) for axis in range(len(padded.shape)))


def _is_valid(x: Array, *sizes: Int32[Array, " batch"]) -> Bool[Array, "batch *places 1"]:
    """Return which places of each map are valid, given the valid ones by spatial axis."""
    valid = None
    for axis, size in enumerate(sizes, start=1):
        along = jnp.arange(x.shape[axis])[None] < size[:, None]
        shape = [1] * x.ndim
        shape[0], shape[axis] = x.shape[0], x.shape[axis]
        along = along.reshape(shape)
        valid = along if valid is None else valid & along
    assert valid is not None
    return valid


def fill_padding(x: Array, value: float = 0.0) -> Array:
    """Return maps with a value wherever there is padding."""
    size = valid_size(x)
    return x if size is None else jnp.where(_is_valid(x, *size), x, jnp.asarray(value, x.dtype))


def mean_of_valid(
    x: Float[Array, "batch *places channels"], *sizes: Int32[Array, " batch"]
) -> Float[Array, "batch channels"]:
    """Return the mean over the first places of each map, as many as ``sizes`` says by axis."""
    total = jnp.where(_is_valid(x, *sizes), x, 0).sum(tuple(range(1, x.ndim - 1)))
    places = sizes[0]
    for size in sizes[1:]:
        places = places * size
    return total / jnp.maximum(places, 1)[:, None]


def moments_of_valid(
    x: Float[Array, "batch *places channels"], axis: str | None = None
) -> tuple[Float[Array, " channels"], Float[Array, " channels"], Float[Array, ""]]:
    """Return each channel's mean and biased variance over the valid places, and their number.

    Both are computed relative to one of the values, see `cpu_dispatch.moments`.

    Args:
        x: maps that `valid_size` knows.
        axis: mesh axis over which the moments are shared; None keeps them per device.
    """
    sizes = valid_size(x)
    assert sizes is not None
    valid, values = _is_valid(x, *sizes), at_least_float32(x)
    places = tuple(range(x.ndim - 1))
    # The first place of an example is valid. One value for all devices, so that sums add up.
    shift = lax.stop_gradient(values[(0,) * len(places)])
    count = valid.sum(dtype=values.dtype)
    if axis is not None:
        shift, count = lax.pmean(shift, axis), lax.psum(count, axis)
    shifted = jnp.where(valid, values - shift.reshape(*[1] * len(places), -1), 0)
    sums = jnp.stack([shifted.sum(places), (shifted * shifted).sum(places)])
    mean, square = (sums if axis is None else lax.psum(sums, axis)) / count
    return shift + mean, jnp.maximum(0.0, square - mean * mean), lax.stop_gradient(count)


def record_size(before: Array, after: Array, size_after: SizeOfMap) -> None:
    """Record the valid size of a layer's output; without padding, do nothing.

    Args:
        before: the layer's input.
        after: its output.
        size_after: valid places of the input along an axis -> those of the output.

    Raises:
        ValueError: another map of the same shape has another valid size.
    """
    padded = _padded.get()
    if padded is None:
        return
    size_before = padded.maps[before.shape[1:-1]]
    shape = after.shape[1:-1]

    def size(of_example: Any) -> Any:
        return size_after(size_before(of_example))

    # Looked up by the map's shape, which is unambiguous if all maps of a shape have the same valid
    # size, for every size that an example may have.
    recorded = padded.maps.setdefault(shape, size)
    for full in padded.shape:
        possible = padded.possible(full)
        if (recorded(possible) != size(possible)).any():
            sides = "x".join(map(str, shape))
            raise ValueError(f"two maps of {sides} have different valid sizes")
