"""Augmentation of a batch: a list of operations applied in turn, then normalisation.

An operation is a frozen dataclass. It is called with one random key per example and a batch of
images in the range 0 to 255. Example i draws from its own key alone, so an augmented example does
not depend on the number of devices, nor on where a run was cut and resumed. `conf/augment/*.yaml`
spells out such a list; to add an operation, write a dataclass and name it there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt8

from deeper.augment.crops_and_colour import Images, Keys
from deeper.augment.mixing import Mixing, OneOf
from deeper.augment.policy_base import Policy
from deeper.errors import UserError


class Operation(Protocol):
    """One random operation on a batch; example i draws from ``keys[i]`` alone."""

    def __call__(self, keys: Keys, images: Images) -> Images: ...


@dataclass(frozen=True)
class Normalise:
    """Scale to 0..1, subtract the data set's mean, divide by its standard deviation.

    Attributes:
        mean: one value per channel, on the scale 0 to 1.
        std: standard deviation, one value per channel, on the scale 0 to 1.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self):
        """Make tuples of lists, as a config gives them."""
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))

    def __call__(self, images: Images) -> Float[Array, "batch height width channels"]:
        if images.shape[-1] != len(self.mean):
            raise UserError(
                f"data.mean has {len(self.mean)} values but the images have {images.shape[-1]} "
                "channels; give one mean and one std per channel."
            )
        shape = (1, 1, 1, -1)
        mean = jnp.asarray(self.mean, jnp.float32).reshape(shape) * 255.0
        std = jnp.asarray(self.std, jnp.float32).reshape(shape) * 255.0
        return (images.astype(jnp.float32) - mean) / std


Targets = Int[Array, " batch"] | Float[Array, "batch classes"]


def augment(
    operations: Sequence[Operation | Mixing | OneOf],
    key: Key[Array, ""],
    rows: Int[Array, " batch"],
    images: UInt8[Array, "batch height width channels"],
    labels: Int[Array, " batch"],
) -> tuple[Images, Targets]:
    """Apply the operations in turn to a batch of stored images.

    Args:
        operations: in the order in which a file of `conf/augment` lists them.
        key: key of (seed, purpose, step).
        rows: each example's row in the global batch, which is folded into its keys.
        images: pixels as stored.
        labels: true classes.

    Returns:
        Images on the scale 0 to 255, and the targets: the labels, or float32 shares of the classes
        (batch, classes) if an operation mixes examples.
    """
    targets: Targets = labels
    for number, operation in enumerate(operations):
        op_key = jax.random.fold_in(key, number)
        if isinstance(operation, Mixing | OneOf):
            if targets is labels:
                targets = jax.nn.one_hot(labels, operation.classes)
            images, targets = operation(op_key, rows, images, targets)
            continue
        keys = jax.vmap(lambda row, op_key=op_key: jax.random.fold_in(op_key, row))(rows)
        images = operation(keys, images)
    return images, targets


def mixes(operations: Sequence[Operation | Mixing | OneOf]) -> bool:
    """Return whether an operation mixes examples and their labels."""
    return any(isinstance(operation, Mixing | OneOf) for operation in operations)


def left_out_on_grey(operations: Sequence[Operation | Mixing | OneOf]) -> list[str]:
    """Return a phrase for each policy that leaves operations out on grey images."""
    return [
        f"{type(operation).__name__} without {', '.join(operation.lost_on_grey())}"
        for operation in operations
        if isinstance(operation, Policy) and operation.lost_on_grey()
    ]
