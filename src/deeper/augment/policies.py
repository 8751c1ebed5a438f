"""Augmentation policies, which draw a sequence of operations for each image.

Ranges, signs and defaults are torchvision's (`torchvision.transforms.autoaugment`, version 0.29),
which follow the papers named below; `tests/augment/test_policies.py` compares the tables with it.
A policy draws operations and strengths; `pillow_ops.transform` applies them.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from deeper.augment.autoaugment_tables import POLICIES
from deeper.augment.op_table import COLOUR, KINDS
from deeper.augment.policy_base import (
    Images,
    Interpolation,
    Keys,
    OnGrey,
    Policy,
    check_choice,
    check_grey,
)
from deeper.errors import UserError

ENHANCING = ("brightness", "contrast", "saturation", "sharpness")  # strength 1 + magnitude


class Space(NamedTuple):
    """Operations to draw from.

    Attributes:
        kinds: numbers of the operations in `op_table.KINDS`.
        strengths: for each operation, bin and sign (minus, plus); both signs have the same strength
            where an operation has no sign.
    """

    kinds: Int[np.ndarray, " operations"]
    strengths: Float[np.ndarray, "operations bins 2"]


def space(bins: int, signed: Mapping[str, float], unsigned: Mapping[str, np.ndarray]) -> Space:
    """Return a space of operations.

    Args:
        bins: number of magnitudes.
        signed: operation -> largest magnitude; bins are evenly spaced from 0, with either sign.
        unsigned: operation -> its strength in each bin.
    """
    names, rows = [], []
    for name, most in signed.items():
        magnitudes = np.linspace(0.0, most, bins)
        base = 1.0 if name in ENHANCING else 0.0
        names.append(name)
        rows.append(np.stack([base - magnitudes, base + magnitudes], axis=-1))
    for name, strengths in unsigned.items():
        names.append(name)
        rows.append(np.stack([strengths, strengths], axis=-1))
    return Space(np.array([KINDS.index(name) for name in names]), np.array(rows, np.float32))


def _common(bins: int, height: int, width: int) -> Space:
    """Return AutoAugment's operations and ranges (Cubuk et al. 2018, table 6)."""
    none = np.zeros(bins)
    return space(
        bins,
        {
            "shear_x": 0.3,
            "shear_y": 0.3,
            "translate_x": 150 / 331 * width,  # the paper's 150 pixels are of 331
            "translate_y": 150 / 331 * height,
            "rotate": 30.0,
            **dict.fromkeys(ENHANCING, 0.9),
        },
        {
            "posterize": 8 - _bits_lost(bins, 4),
            "solarize": np.linspace(255.0, 0.0, bins),
            "autocontrast": none,
            "equalize": none,
            "identity": none,
            "invert": none,
        },
    )


def _bits_lost(bins: int, most: int) -> np.ndarray:
    return np.round(np.arange(bins) / ((bins - 1) / most))


def _without(operations: Space, names: Sequence[str]) -> Space:
    keep = ~np.isin(operations.kinds, [KINDS.index(name) for name in names])
    return Space(operations.kinds[keep], operations.strengths[keep])


def _for_channels(operations: Space, images: Images, on_grey: OnGrey, name: str) -> Space:
    """Leave out operations on colour for grey images, or raise a UserError if told to refuse."""
    if images.shape[-1] >= 3:
        return operations
    lost = [KINDS[kind] for kind in operations.kinds if KINDS[kind] in COLOUR]
    check_grey(lost, on_grey, name)
    return _without(operations, lost)


@dataclass(frozen=True)
class Drawn(Policy, ABC):
    """A policy that draws from a space of operations."""

    @abstractmethod
    def space_of(self, height: int, width: int) -> Space:
        """Return the operations to draw from, for images of this size in pixels."""

    def lost_on_grey(self) -> tuple[str, ...]:
        """Return the operations that have no effect on grey images."""
        return tuple(KINDS[k] for k in self.space_of(32, 32).kinds if KINDS[k] in COLOUR)

    def _choices(self, images: Images) -> Space:
        operations = self.space_of(*images.shape[1:3])
        return _for_channels(operations, images, self.on_grey, type(self).__name__)


@dataclass(frozen=True)
class RandAugment(Drawn):
    """N operations in a row, all at magnitude M (Cubuk et al. 2019, arXiv:1909.13719).

    Attributes:
        layers: operations per image, N in the paper.
        magnitude: bin of the magnitude, M in the paper, from 0.
        bins: number of magnitudes. torchvision has 31; the paper's scale of 0 to 10 is bins=11.
    """

    layers: int = 2
    magnitude: int = 9
    bins: int = 31

    def __post_init__(self):
        """Check the ranges."""
        super().__post_init__()
        if not self.layers >= 1:
            raise UserError(f"RandAugment's layers={self.layers}: give at least 1.")
        if not self.bins >= 2 or not 0 <= self.magnitude < self.bins:
            raise UserError(
                f"RandAugment's magnitude={self.magnitude}: with bins={self.bins} give 0 to "
                f"{self.bins - 1}."
            )

    def space_of(self, height: int, width: int) -> Space:
        """Return the paper's 14 operations."""
        return _without(_common(self.bins, height, width), ["invert"])

    def __call__(self, keys: Keys, images: Images) -> Images:
        kinds, strengths = self._choices(images)

        def draw(key):
            which, sign = jax.random.split(key)
            operation = jax.random.randint(which, (self.layers,), 0, len(kinds))
            sign = jax.random.randint(sign, (self.layers,), 0, 2)
            chosen = jnp.asarray(kinds)[operation]
            at_magnitude = jnp.asarray(strengths[:, self.magnitude])
            return chosen, at_magnitude[operation, sign]

        return self._apply(jax.vmap(draw)(keys), images)


@dataclass(frozen=True)
class TrivialAugment(Drawn):
    """One operation at any magnitude of a wide range (Müller and Hutter 2021, arXiv:2103.10158).

    Attributes:
        bins: number of magnitudes.
    """

    bins: int = 31

    def space_of(self, height: int, width: int) -> Space:
        """Return the paper's wide ranges."""
        none = np.zeros(self.bins)
        return space(
            self.bins,
            {
                "shear_x": 0.99,
                "shear_y": 0.99,
                "translate_x": 32.0,
                "translate_y": 32.0,
                "rotate": 135.0,
                **dict.fromkeys(ENHANCING, 0.99),
            },
            {
                "posterize": 8 - _bits_lost(self.bins, 6),
                "solarize": np.linspace(255.0, 0.0, self.bins),
                "autocontrast": none,
                "equalize": none,
                "identity": none,
            },
        )

    def __call__(self, keys: Keys, images: Images) -> Images:
        kinds, strengths = self._choices(images)

        def draw(key):
            which, size, sign = jax.random.split(key, 3)
            operation = jax.random.randint(which, (1,), 0, len(kinds))
            magnitude = jax.random.randint(size, (1,), 0, self.bins)
            sign = jax.random.randint(sign, (1,), 0, 2)
            return jnp.asarray(kinds)[operation], jnp.asarray(strengths)[operation, magnitude, sign]

        return self._apply(jax.vmap(draw)(keys), images)


@dataclass(frozen=True)
class AutoAugment(Drawn):
    """One of 25 learnt pairs of operations (Cubuk et al. 2018, arXiv:1805.09501).

    Attributes:
        policy: the data set that the policy was learnt on: imagenet, cifar10 or svhn.
    """

    policy: str = "imagenet"

    def __post_init__(self):
        """Check the policy's name."""
        super().__post_init__()
        check_choice("AutoAugment's policy", self.policy, tuple(POLICIES))

    def space_of(self, height: int, width: int) -> Space:
        """Return all operations; the policy picks among them."""
        return _common(10, height, width)

    def lost_on_grey(self) -> tuple[str, ...]:
        """Return the operations of the policy that have no effect on grey images."""
        used = {step.kind for pair in POLICIES[self.policy] for step in pair}
        return tuple(name for name in COLOUR if name in used)

    def __call__(self, keys: Keys, images: Images) -> Images:
        if images.shape[-1] < 3:  # operations on colour stay in their pairs, without effect
            check_grey(self.lost_on_grey(), self.on_grey, "AutoAugment")
        operations = self.space_of(*images.shape[1:3])
        row_of = {KINDS[kind]: row for row, kind in enumerate(operations.kinds)}
        pairs = POLICIES[self.policy]
        rows = jnp.array([[row_of[step.kind] for step in pair] for pair in pairs])
        shares = jnp.array([[step.probability for step in pair] for pair in pairs])
        magnitudes = jnp.array([[step.magnitude for step in pair] for pair in pairs])
        identity = KINDS.index("identity")

        def draw(key):
            which, chance, sign = jax.random.split(key, 3)
            pair = jax.random.randint(which, (), 0, len(pairs))
            used = jax.random.uniform(chance, (2,)) < shares[pair]
            sign = jax.random.randint(sign, (2,), 0, 2)
            kinds = jnp.asarray(operations.kinds)[rows[pair]]
            strengths = jnp.asarray(operations.strengths)[rows[pair], magnitudes[pair], sign]
            return jnp.where(used, kinds, identity), strengths

        return self._apply(jax.vmap(draw)(keys), images)


@dataclass(frozen=True)
class AugMix(Drawn):
    """A mixture of the image and of chains of operations on it (Hendrycks et al. 2019, 1912.02781).

    Attributes:
        severity: magnitudes are drawn from the lowest ``severity`` of 10 bins.
        width: number of chains.
        depth: operations per chain; None draws 1 to 3.
        alpha: parameter of the Dirichlet and Beta distributions of the weights.
        all_operations: include brightness, contrast, saturation and sharpness, which the paper
            leaves out because its robustness benchmark contains them.
    """

    interpolation: Interpolation = field(default="bilinear", kw_only=True)
    severity: int = 3
    width: int = 3
    depth: int | None = None
    alpha: float = 1.0
    all_operations: bool = True

    def __post_init__(self):
        """Check the ranges."""
        super().__post_init__()
        if not 1 <= self.severity <= 10:
            raise UserError(f"AugMix's severity={self.severity}: give 1 to 10.")
        if (
            not self.width >= 1
            or (self.depth is not None and not self.depth >= 1)
            or not self.alpha > 0
        ):
            raise UserError("AugMix's width and depth are at least 1, its alpha is above 0.")

    def space_of(self, height: int, width: int) -> Space:
        """Return the paper's ranges of 10 bins, of which ``severity`` are used."""
        none = np.zeros(10)
        return space(
            10,
            {
                "shear_x": 0.3,
                "shear_y": 0.3,
                "translate_x": width / 3,
                "translate_y": height / 3,
                "rotate": 30.0,
                **dict.fromkeys(ENHANCING if self.all_operations else (), 0.9),
            },
            {
                "posterize": 4 - _bits_lost(10, 4),
                "solarize": np.linspace(255.0, 0.0, 10),
                "autocontrast": none,
                "equalize": none,
            },
        )

    def __call__(self, keys: Keys, images: Images) -> Images:
        kinds, strengths = self._choices(images)
        depth = self.depth or 3
        identity = KINDS.index("identity")

        def draw(key):
            which, size, sign, length, mixing, share = jax.random.split(key, 6)
            shape = (self.width, depth)
            operation = jax.random.randint(which, shape, 0, len(kinds))
            magnitude = jax.random.randint(size, shape, 0, self.severity)
            sign = jax.random.randint(sign, shape, 0, 2)
            lengths = jax.random.randint(length, (self.width, 1), 1, depth + 1)
            lengths = lengths if self.depth is None else jnp.full_like(lengths, depth)
            chosen = jnp.where(
                jnp.arange(depth)[None] < lengths, jnp.asarray(kinds)[operation], identity
            )
            weights = jax.random.dirichlet(mixing, jnp.full(self.width, self.alpha))
            augmented = jax.random.beta(share, self.alpha, self.alpha)
            strength = jnp.asarray(strengths)[operation, magnitude, sign]
            return chosen, strength, weights * augmented, 1.0 - augmented

        chosen, strength, weights, kept = jax.vmap(draw)(keys)
        copies = jnp.repeat(images, self.width, axis=0)
        chains = self._apply((chosen.reshape(-1, depth), strength.reshape(-1, depth)), copies)
        chains = chains.reshape(len(images), self.width, *images.shape[1:])
        mixed = jnp.einsum("bw,bwhyc->bhyc", weights, chains.astype(jnp.float32))
        mixed += kept[:, None, None, None] * images
        return mixed.astype(jnp.uint8)
