"""The base of policies, and the two simplest: one named operation, and colour jitter."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, UInt8

from deeper.augment.op_table import COLOUR, KINDS, LIMITS
from deeper.augment.pillow_ops import transform
from deeper.errors import UserError

Images = UInt8[Array, "batch height width channels"]
Keys = Key[Array, " batch"]
Interpolation = Literal["nearest", "bilinear"]
OnGrey = Literal["drop", "refuse"]


def check_grey(lost: Sequence[str], on_grey: OnGrey, name: str) -> None:
    """Raise a UserError if operations have no effect on grey images and ``on_grey`` is refuse."""
    if lost and on_grey == "refuse":
        raise UserError(
            f"{name} has {', '.join(lost)}, which mean nothing on grey images: set on_grey=drop to "
            "leave them out, or choose another augmentation."
        )


def check_choice(what: str, value: Any, choices: Sequence[str]) -> None:
    """Raise a UserError if a value is none of the choices."""
    if value not in choices:
        raise UserError(f"{what}={value} is unknown; choose {' or '.join(choices)}.")


def _bytes(fill: Sequence[float]) -> tuple[int, ...]:
    return tuple(round(255 * value) for value in fill)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Settings that all policies have.

    Attributes:
        on_grey: on grey images, drop the operations on colour, or refuse with a UserError.
        interpolation: interpolation of geometric operations.
        fill: colour that geometric operations bring in, one value per channel on the scale 0 to 1;
            black if empty.
    """

    on_grey: OnGrey = "drop"
    interpolation: Interpolation = "nearest"
    fill: tuple[float, ...] = ()

    def __post_init__(self):
        """Make a tuple of a list, as a config gives it, and check the choices."""
        object.__setattr__(self, "fill", tuple(self.fill))
        check_choice("on_grey", self.on_grey, ("drop", "refuse"))
        check_choice("interpolation", self.interpolation, ("nearest", "bilinear"))

    def lost_on_grey(self) -> tuple[str, ...]:
        """Return the operations that have no effect on grey images."""
        return ()

    def _apply(self, draws: tuple[Array, Array], images: Images) -> Images:
        """Apply what was drawn: kinds and strengths, each (batch, layers)."""
        kinds, strengths = draws
        if images.dtype != jnp.uint8:
            raise UserError(
                f"{type(self).__name__} works on images as stored: put it before the operations "
                "that return float32 images (Lighting, Mixup, CutMix)."
            )
        if len(self.fill) not in (0, images.shape[-1]):
            raise UserError(
                f"{type(self).__name__}'s fill has {len(self.fill)} values but the images have "
                f"{images.shape[-1]} channels: give one value per channel, on the scale 0 to 1."
            )
        bilinear = self.interpolation == "bilinear"
        return transform(kinds, strengths, images, fill=_bytes(self.fill), bilinear=bilinear)


@dataclass(frozen=True)
class Random(Policy):
    """One named operation, at a strength drawn uniformly from an interval.

    Attributes:
        operation: one of `op_table.KINDS`.
        low: least strength, in the unit of `op_table.STRENGTHS`.
        high: largest strength.
        probability: share of the images that it is applied to.
    """

    operation: str = ""
    low: float = 0.0
    high: float = 0.0
    probability: float = 1.0

    def __post_init__(self):
        """Check the name and the range."""
        super().__post_init__()
        check_choice("operation", self.operation, KINDS)
        least, most = LIMITS.get(self.operation, (0.0, 0.0))
        if not least <= self.low <= self.high <= most:
            takes = f"takes strengths from {least:g} to {most:g}" if most else "takes no strength"
            raise UserError(
                f"The operation {self.operation} {takes}; low={self.low:g} high={self.high:g}."
            )
        if not 0.0 <= self.probability <= 1.0:
            raise UserError(f"probability={self.probability:g}: give 0 to 1.")

    def lost_on_grey(self) -> tuple[str, ...]:
        """Return the operation if it has no effect on grey images."""
        return (self.operation,) if self.operation in COLOUR else ()

    def __call__(self, keys: Keys, images: Images) -> Images:
        if images.shape[-1] < 3:
            check_grey(self.lost_on_grey(), self.on_grey, "Random")

        def draw(key):
            chance, size = jax.random.split(key)
            used = jax.random.uniform(chance, (1,)) < self.probability
            kind = jnp.where(used, KINDS.index(self.operation), KINDS.index("identity"))
            return kind, jax.random.uniform(size, (1,), minval=self.low, maxval=self.high)

        return self._apply(jax.vmap(draw)(keys), images)


@dataclass(frozen=True)
class ColourJitter(Policy):
    """Brightness, contrast, saturation and hue in random order, as torchvision's ColorJitter.

    Attributes:
        brightness: factors are drawn from [max(0, 1 - brightness), 1 + brightness].
        contrast: factors are drawn from [max(0, 1 - contrast), 1 + contrast].
        saturation: factors are drawn from [max(0, 1 - saturation), 1 + saturation].
        hue: shifts are drawn from [-hue, hue]; at most 0.5.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self):
        """Check the ranges."""
        super().__post_init__()
        if not all(width >= 0 for width in self._widths()) or not self.hue <= 0.5:
            raise UserError("ColourJitter's values are 0 or more, its hue at most 0.5.")

    def _widths(self) -> tuple[float, ...]:
        return self.brightness, self.contrast, self.saturation, self.hue

    def lost_on_grey(self) -> tuple[str, ...]:
        """Return saturation and hue if they are used."""
        return tuple(name for name in ("saturation", "hue") if getattr(self, name))

    def __call__(self, keys: Keys, images: Images) -> Images:
        if images.shape[-1] < 3:
            check_grey(self.lost_on_grey(), self.on_grey, "ColourJitter")
        widths = np.array(self._widths(), np.float32)
        centres = np.array([1.0, 1.0, 1.0, 0.0], np.float32)
        least = np.maximum(centres - widths, [0.0, 0.0, 0.0, -0.5])
        names = ("brightness", "contrast", "saturation", "hue")
        numbers = [KINDS.index(name if getattr(self, name) else "identity") for name in names]

        def draw(key):
            order, size = jax.random.split(key)
            order = jax.random.permutation(order, 4)
            strength = jax.random.uniform(size, (4,), minval=least, maxval=centres + widths)
            return jnp.array(numbers)[order], strength[order]

        return self._apply(jax.vmap(draw)(keys), images)
