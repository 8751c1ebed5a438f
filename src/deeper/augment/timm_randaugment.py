"""RandAugment as timm draws it (`timm.data.auto_augment`, huggingface/pytorch-image-models).

Wightman et al. 2021 (arXiv:2110.00476) train with it. It differs from the paper's RandAugment and
from torchvision's in its operations and ranges, draws the magnitude of every operation from a
Gaussian, and skips each operation with probability 0.5.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from deeper.augment.op_table import KINDS
from deeper.augment.policies import ENHANCING, Drawn, Space, space
from deeper.augment.policy_base import Images, Keys
from deeper.errors import UserError

MOST = 10  # the scale of timm's magnitudes: 0 to 10
BINS = 100 * MOST + 1


@dataclass(frozen=True)
class RandAugment(Drawn):
    """timm's rand-mM-mstdS-inc1: M the magnitude, S its deviation, "inc" stronger with M.

    Attributes:
        layers: operations per image.
        magnitude: mean magnitude of an operation, 0 to 10.
        deviation: standard deviation of the Gaussian that magnitudes are drawn from.
        probability: probability that an operation is applied.
    """

    layers: int = 2
    magnitude: float = 9.0
    deviation: float = 0.5
    probability: float = 0.5

    def __post_init__(self):
        """Check the ranges."""
        super().__post_init__()
        if not self.layers >= 1 or not 0.0 <= self.magnitude <= MOST:
            raise UserError(
                f"RandAugment's layers={self.layers} magnitude={self.magnitude:g}: give at least 1 "
                f"layer, a magnitude from 0 to {MOST}."
            )
        if not self.deviation >= 0 or not 0.0 <= self.probability <= 1.0:
            raise UserError(
                f"RandAugment's deviation={self.deviation:g} probability={self.probability:g}: "
                "give a deviation of 0 or more, a probability from 0 to 1."
            )

    def space_of(self, height: int, width: int) -> Space:
        """Return timm's 15 operations (_RAND_INCREASING_TRANSFORMS) with their ranges."""
        level = np.linspace(0.0, 1.0, BINS)
        none = np.zeros(BINS)
        return space(
            BINS,
            {
                "shear_x": 0.3,
                "shear_y": 0.3,
                "translate_x": 0.45 * width,
                "translate_y": 0.45 * height,
                "rotate": 30.0,
                **dict.fromkeys(ENHANCING, 0.9),
            },
            {
                "posterize": 4 - _truncated(4 * level),
                "solarize": 256 - _truncated(256 * level),
                "solarize_add": _truncated(110 * level),
                "autocontrast": none,
                "equalize": none,
                "invert": none,
            },
        )

    def __call__(self, keys: Keys, images: Images) -> Images:
        kinds, strengths = self._choices(images)
        shape = (self.layers,)

        def draw(key):
            which, sign, noise, chance = jax.random.split(key, 4)
            operation = jax.random.randint(which, shape, 0, len(kinds))
            sign = jax.random.randint(sign, shape, 0, 2)
            magnitude = self.magnitude + self.deviation * jax.random.normal(noise, shape)
            level = jnp.clip(magnitude / MOST, 0.0, 1.0)
            bins = jnp.round((BINS - 1) * level).astype(int)
            used = jax.random.uniform(chance, shape) < self.probability
            chosen = jnp.where(used, jnp.asarray(kinds)[operation], KINDS.index("identity"))
            return chosen, jnp.asarray(strengths)[operation, bins, sign]

        return self._apply(jax.vmap(draw)(keys), images)


def _truncated(values: np.ndarray) -> np.ndarray:
    """Return the integer part, allowing for rounding errors just below an integer."""
    return np.floor(values + 1e-9)
