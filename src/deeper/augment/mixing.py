"""Mixup and CutMix, which mix pairs of examples and their labels.

The partner of an example is its neighbour in the batch: rows 0 and 1, 2 and 3, and so on. The order
of a training batch is random, so the choice of neighbours is random, too; and since neighbours are
on the same device, results do not depend on the number of devices.
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
    """Swap rows 0 and 1, 2 and 3, and so on, so that each row holds its partner."""
    pairs = leaf.reshape(-1, 2, *leaf.shape[1:])
    return pairs[:, ::-1].reshape(leaf.shape)


@dataclass(frozen=True)
class Mixing(ABC):
    """Common part of Mixup and CutMix.

    Attributes:
        alpha: the weight of the example itself is drawn from Beta(alpha, alpha).
        probability: share of the batches, or of the examples, that are mixed.
        per_example: draw for each example; otherwise once per batch, as in the papers.
        classes: number of classes, for the mixed labels.
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
        """Mix each example with its neighbour.

        Args:
            key: key of (seed, purpose, step, operation).
            rows: each example's row in the global batch.
            images: on the scale 0 to 255.
            targets: shares of the classes.

        Returns:
            float32 images and targets.
        """
        images = images.astype(jnp.float32)
        keys = _keys(key, rows, self.per_example)
        mixed, weights = jax.vmap(self._mix)(keys, images, neighbours(images))
        weights = weights[:, None]
        return mixed, weights * targets + (1.0 - weights) * neighbours(targets)

    def _draw_weight(self, key: OneKey) -> Float[Array, ""]:
        chance, size = jax.random.split(key)
        used = jax.random.uniform(chance) < self.probability
        return jnp.where(used, jax.random.beta(size, self.alpha, self.alpha), 1.0)

    @abstractmethod
    def _mix(self, key: OneKey, image: Array, other: Array) -> tuple[Array, Float[Array, ""]]:
        """Return the mixed image, and the weight of the example itself."""


def _keys(key: OneKey, rows: Rows, per_example: bool) -> Key[Array, " batch"]:
    """Return one key per example: a different one each, or the same for the whole batch."""
    numbers = rows + 1 if per_example else jnp.zeros_like(rows)
    return jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)


class Mixup(Mixing):
    """A weighted mean of two images (Zhang et al. 2017, arXiv:1710.09412)."""

    def _mix(self, key: OneKey, image: Array, other: Array) -> tuple[Array, Float[Array, ""]]:
        weight = self._draw_weight(key)
        return weight * image + (1.0 - weight) * other, weight


class CutMix(Mixing):
    """A rectangle of one image pasted into the other (Yun et al. 2019, arXiv:1905.04899).

    The centre of the rectangle is anywhere in the image. It is clipped at the border, and the
    labels are weighted by the area that is left.
    """

    def _mix(self, key: OneKey, image: Array, other: Array) -> tuple[Array, Float[Array, ""]]:
        height, width, _ = image.shape
        share, down, right = jax.random.split(key, 3)
        side = jnp.sqrt(1.0 - self._draw_weight(share))
        rows = _covered(jax.random.randint(down, (), 0, height), side, height)
        columns = _covered(jax.random.randint(right, (), 0, width), side, width)
        inside = rows[:, None] & columns[None]
        weight = 1.0 - inside.sum() / (height * width)
        return jnp.where(inside[..., None], other, image), weight


def _covered(centre: Array, side: Array, size: int) -> Array:
    """Return a mask (size,) of an interval about ``centre`` whose length is ``side`` x ``size``."""
    half = (side * size).astype(jnp.int32) // 2
    places = jnp.arange(size)
    return (places >= centre - half) & (places < centre + half)


@dataclass(frozen=True)
class OneOf:
    """One of two ways to mix, chosen at random.

    Attributes:
        first: used with probability 1 - ``probability``.
        second: used with probability ``probability``.
        probability: probability of the second.
        per_example: choose for each example; otherwise once per batch.
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
        """Mix each example with its neighbour; see `Mixing.__call__`."""
        choice, first_key, second_key = jax.random.split(key, 3)
        keys = _keys(choice, rows, self.per_example)
        second = jax.vmap(jax.random.uniform)(keys) < self.probability
        first_images, first_targets = self.first(first_key, rows, images, targets)
        second_images, second_targets = self.second(second_key, rows, images, targets)
        return (
            jnp.where(second[:, None, None, None], second_images, first_images),
            jnp.where(second[:, None], second_targets, first_targets),
        )
