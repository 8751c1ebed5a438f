"""Mixup and CutMix: two examples become one, and so do their labels.

An example's partner is its neighbour in the batch: rows 0 and 1, 2 and 3, and so on. The order of a
training batch is random, so the neighbour is as good as any other; and since neighbours lie on the
same device, the number of devices changes nothing.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Num

from deeper.errors import UserError

Images = Num[Array, "batch height width channels"]
Targets = Float[Array, "batch classes"]
OneKey = Key[Array, ""]
Rows = Int[Array, " batch"]


def neighbours(leaf: Num[Array, "batch ..."]) -> Num[Array, "batch ..."]:
    """Return each row's partner: rows 0 and 1 change places, 2 and 3, ..."""
    pairs = leaf.reshape(-1, 2, *leaf.shape[1:])
    return pairs[:, ::-1].reshape(leaf.shape)


@dataclass(frozen=True)
class Mixing(ABC):
    """What both have in common.

    Attributes:
        alpha: the share of the example itself is drawn from Beta(alpha, alpha).
        probability: share of the batches, or examples, that are mixed.
        per_example: draw for each example; otherwise once for the whole batch, as in the papers.
        classes: of the data set, for the mixed labels.
    """

    alpha: float
    probability: float
    per_example: bool
    classes: int

    def __post_init__(self):
        """Check the ranges."""
        name = type(self).__name__
        if not self.alpha > 0:
            raise UserError(f"{name}'s alpha={self.alpha:g}: give a number above 0.")
        if not 0.0 <= self.probability <= 1.0:
            raise UserError(f"{name}'s probability={self.probability:g}: give 0 to 1.")

    def __call__(
        self, key: OneKey, rows: Rows, images: Images, targets: Targets
    ) -> tuple[Images, Targets]:
        """Mix each image with its neighbour's.

        Args:
            key: of (seed, purpose, step, operation).
            rows: each example's row in the global batch.
            images: on the scale 0 to 255.
            targets: shares of the classes.

        Returns:
            float32 images and targets.
        """
        images = images.astype(jnp.float32)
        keys = _keys(key, rows, self.per_example)
        mixed, own = jax.vmap(self._mix)(keys, images, neighbours(images))
        own = own[:, None]
        return mixed, own * targets + (1.0 - own) * neighbours(targets)

    def _share(self, key: OneKey) -> Float[Array, ""]:
        chance, size = jax.random.split(key)
        used = jax.random.uniform(chance) < self.probability
        return jnp.where(used, jax.random.beta(size, self.alpha, self.alpha), 1.0)

    @abstractmethod
    def _mix(self, key: OneKey, image: Array, other: Array) -> tuple[Array, Float[Array, ""]]:
        """Return the mixed image, and the share of the example itself."""


def _keys(key: OneKey, rows: Rows, per_example: bool) -> Key[Array, " batch"]:
    """Return a key an example: its own, or the same for all of the batch."""
    numbers = rows + 1 if per_example else jnp.zeros_like(rows)
    return jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)


class Mixup(Mixing):
    """A weighted mean of two images (Zhang et al. 2017, arXiv:1710.09412)."""

    def _mix(self, key: OneKey, image: Array, other: Array) -> tuple[Array, Float[Array, ""]]:
        own = self._share(key)
        return own * image + (1.0 - own) * other, own


class CutMix(Mixing):
    """A rectangle of one image in the other (Yun et al. 2019, arXiv:1905.04899).

    Its centre is anywhere; it is clipped at the border, and the labels' shares are its area's.
    """

    def _mix(self, key: OneKey, image: Array, other: Array) -> tuple[Array, Float[Array, ""]]:
        height, width, _ = image.shape
        share, down, right = jax.random.split(key, 3)
        side = jnp.sqrt(1.0 - self._share(share))
        rows = _covered(jax.random.randint(down, (), 0, height), side, height)
        columns = _covered(jax.random.randint(right, (), 0, width), side, width)
        inside = rows[:, None] & columns[None]
        own = 1.0 - inside.sum() / (height * width)
        return jnp.where(inside[..., None], other, image), own


def _covered(centre: Array, side: Array, size: int) -> Array:
    """Return which of ``size`` places a stretch of a share of them covers."""
    half = (side * size).astype(jnp.int32) // 2
    places = jnp.arange(size)
    return (places >= centre - half) & (places < centre + half)


@dataclass(frozen=True)
class OneOf:
    """Either of two ways to mix.

    Attributes:
        first: used otherwise.
        second: used with the probability.
        probability: of the second.
        per_example: choose for each example; otherwise once for the whole batch.
    """

    first: Any
    second: Any
    probability: float
    per_example: bool

    def __post_init__(self):
        """Check the range."""
        if not 0.0 <= self.probability <= 1.0:
            raise UserError(f"OneOf's probability={self.probability:g}: give 0 to 1.")

    @property
    def classes(self) -> int:
        """Return the number of classes of the labels."""
        return self.first.classes

    def __call__(
        self, key: OneKey, rows: Rows, images: Images, targets: Targets
    ) -> tuple[Images, Targets]:
        """Mix each image with its neighbour's, see `Mixing.__call__`."""
        choice, one, two = jax.random.split(key, 3)
        keys = _keys(choice, rows, self.per_example)
        second = jax.vmap(jax.random.uniform)(keys) < self.probability
        first_images, first_targets = self.first(one, rows, images, targets)
        second_images, second_targets = self.second(two, rows, images, targets)
        return (
            jnp.where(second[:, None, None, None], second_images, first_images),
            jnp.where(second[:, None], second_targets, first_targets),
        )
