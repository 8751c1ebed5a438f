"""Random crop, flip, cutout and normalisation of batches, compiled into the training step.

An operation is a frozen dataclass that is called with one key an example and a batch of float
images in the range 0 to 255. Every draw depends on its example's key alone, so neither the number
of devices nor a restart changes what an example looks like. A list of operations is what
`conf/augment/*.yaml` spells out; a new operation is a class of this shape and a line there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt8

from deeper.errors import UserError

Images = Float[Array, "batch height width channels"]
Keys = Key[Array, " batch"]


class Operation(Protocol):
    """One random operation on a batch; example i draws from ``keys[i]`` alone."""

    def __call__(self, keys: Keys, images: Images) -> Images: ...


@dataclass(frozen=True)
class RandomCrop:
    """Pad every side with zeros and cut out a window of the old size (He et al. 2015, 4.2).

    Attributes:
        padding: pixels added on each side.
    """

    padding: int

    def __call__(self, keys: Keys, images: Images) -> Images:
        _, height, width, channels = images.shape
        p = self.padding
        padded = jnp.pad(images, ((0, 0), (p, p), (p, p), (0, 0)))

        def crop(key, image):
            top, left = jax.random.randint(key, (2,), 0, 2 * p + 1)
            return jax.lax.dynamic_slice(image, (top, left, 0), (height, width, channels))

        return jax.vmap(crop)(keys, padded)


@dataclass(frozen=True)
class Flip:
    """Mirror left and right with probability one half (Krizhevsky et al. 2012, 4.1)."""

    def __call__(self, keys: Keys, images: Images) -> Images:
        mirrored = jax.vmap(jax.random.bernoulli)(keys)
        return jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


@dataclass(frozen=True)
class Cutout:
    """Blank one square whose centre is anywhere in the image (DeVries and Taylor 2017).

    The square is clipped at the border, as in the paper.

    Attributes:
        size: side of the square in pixels.
        fill: what is written into it, one value a channel on the scale 0 to 1. The paper cut from
            normalised images and wrote zeros, which is the data set's mean.
    """

    size: int
    fill: tuple[float, ...]

    def __post_init__(self):
        """Freeze what a config gives as a list."""
        object.__setattr__(self, "fill", tuple(self.fill))

    def __call__(self, keys: Keys, images: Images) -> Images:
        _, height, width, _ = images.shape

        def covered(key):
            row_key, column_key = jax.random.split(key)
            top = jax.random.randint(row_key, (), 0, height) - self.size // 2
            left = jax.random.randint(column_key, (), 0, width) - self.size // 2
            rows, columns = jnp.arange(height), jnp.arange(width)
            inside_rows = (rows >= top) & (rows < top + self.size)
            inside_columns = (columns >= left) & (columns < left + self.size)
            return inside_rows[:, None] & inside_columns[None, :]

        fill = 255.0 * jnp.asarray(self.fill, images.dtype).reshape(1, 1, 1, -1)
        return jnp.where(jax.vmap(covered)(keys)[..., None], fill, images)


@dataclass(frozen=True)
class Normalise:
    """Scale to 0..1, subtract the data set's mean, divide by its standard deviation.

    Attributes:
        mean: one value a channel, on the scale 0 to 1.
        std: likewise.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self):
        """Freeze what a config gives as lists."""
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))

    def __call__(self, images: Images | UInt8[Array, "batch height width channels"]) -> Images:
        if images.shape[-1] != len(self.mean):
            raise UserError(
                f"data.mean has {len(self.mean)} values but the images have {images.shape[-1]} "
                "channels; give one mean and one std a channel."
            )
        shape = (1, 1, 1, -1)
        mean = jnp.asarray(self.mean, jnp.float32).reshape(shape) * 255.0
        std = jnp.asarray(self.std, jnp.float32).reshape(shape) * 255.0
        return (images.astype(jnp.float32) - mean) / std


def augment(
    operations: Sequence[Operation],
    key: Key[Array, ""],
    rows: Int[Array, " batch"],
    images: UInt8[Array, "batch height width channels"],
) -> Images:
    """Apply the operations in turn to a batch of stored images.

    Args:
        operations: what `conf/augment` lists.
        key: the key of (seed, purpose, step).
        rows: each example's row in the global batch; folded into its keys.
        images: pixels as stored.

    Returns:
        float32 images, still on the scale 0 to 255.
    """
    out = images.astype(jnp.float32)
    for number, operation in enumerate(operations):
        op_key = jax.random.fold_in(key, number)
        keys = jax.vmap(lambda row, op_key=op_key: jax.random.fold_in(op_key, row))(rows)
        out = operation(keys, out)
    return out
