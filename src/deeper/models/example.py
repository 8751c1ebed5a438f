"""The shape and type of a net's inputs: of images, sequences, tokens or vectors.

An example is described without its batch axis, either as a shape, which means float32, or as a
``jax.ShapeDtypeStruct``. Its axes follow Flax: the last holds channels (features), those before it
are spatial (rows and columns of an image, positions of a sequence). Integers are tokens: they have
no channels, and each of their axes is spatial.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

Example = Sequence[int] | jax.ShapeDtypeStruct


def batch_of(example: Example, size: int) -> jax.ShapeDtypeStruct:
    """Return the shape and type of a batch of examples.

    Args:
        example: (height, width, channels) of an image, (length, channels) of a sequence,
            (features,) of a vector, all float32; or a ``jax.ShapeDtypeStruct`` without batch axis.
        size: examples in the batch.
    """
    if isinstance(example, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct((size, *example.shape), example.dtype)
    return jax.ShapeDtypeStruct((size, *example), jnp.float32)


def spatial_axes(batch: Any) -> tuple[int, ...]:
    """Return the axes along which receptive fields extend, given a batch's shape and dtype."""
    tokens = jnp.issubdtype(batch.dtype, jnp.integer)
    return tuple(range(1, len(batch.shape) if tokens else len(batch.shape) - 1))
