"""Inception-v3: Szegedy et al. 2015, "Rethinking the Inception architecture for computer vision"
(arXiv:1512.00567), table 1 with BatchNorm in the auxiliary head too.

The paper leaves widths inside the modules open; they are those of the authors' code (TensorFlow's
slim), which torchvision has, with its names and padding.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from deeper.models import layers
from deeper.models.initializers import TruncatedNormal
from deeper.models.layers import BatchNorm, Conv, Dense, Dropout, Maps

BATCH_NORM_EPS = 1e-3  # slim's
SMALLEST = 75  # pixels that leave every layer one value
AUXILIARY_MAP = 17  # side of the map that the auxiliary head's pooling is made for, at 299 pixels


class Unit(NamedTuple):
    """A convolution with BatchNorm and a rectifier; with a stride it is not padded."""

    channels: int
    kernel: int | tuple[int, int]
    stride: int = 1
    padded: bool = True


# A branch's units, one after the other; two in a pair stand side by side, at its end.
Branch = tuple[Unit | tuple[Unit, Unit], ...]


class Module(NamedTuple):
    """Branches side by side; the last pools, by a mean with a 1x1 or by a maximum of stride 2."""

    branches: dict[str, Branch]
    projection: int | None


def _reducing(channels: int) -> Unit:
    return Unit(channels, 3, 2, padded=False)


def _figure5(projection: int) -> Module:
    """35x35 maps: a 5x5, and a 5x5 as two 3x3."""
    branches: dict[str, Branch] = {
        "branch1x1": (Unit(64, 1),),
        "branch5x5": (Unit(48, 1), Unit(64, 5)),
        "branch3x3dbl": (Unit(64, 1), Unit(96, 3), Unit(96, 3)),
    }
    return Module(branches, projection)


def _figure6(inner: int) -> Module:
    """17x17 maps: a 7x7 as 1x7 and 7x1, once and twice."""
    row, column = (1, 7), (7, 1)
    branches: dict[str, Branch] = {
        "branch1x1": (Unit(192, 1),),
        "branch7x7": (Unit(inner, 1), Unit(inner, row), Unit(192, column)),
        "branch7x7dbl": (
            Unit(inner, 1), Unit(inner, column), Unit(inner, row), Unit(inner, column),
            Unit(192, row),
        ),
    }  # fmt: skip
    return Module(branches, 192)


def _figure7() -> Module:
    """8x8 maps: 1x3 and 3x1 side by side."""
    both = (Unit(384, (1, 3)), Unit(384, (3, 1)))
    branches: dict[str, Branch] = {
        "branch1x1": (Unit(320, 1),),
        "branch3x3": (Unit(384, 1), both),
        "branch3x3dbl": (Unit(448, 1), Unit(384, 3), both),
    }
    return Module(branches, 192)


STEM = {
    "1a": Unit(32, 3, 2, padded=False),
    "2a": Unit(32, 3, padded=False),
    "2b": Unit(64, 3),
    "3b": Unit(80, 1),
    "4a": Unit(192, 3, padded=False),
}
POOLED_AFTER = ("2b", "4a")
MODULES = {
    "5b": _figure5(32),
    "5c": _figure5(64),
    "5d": _figure5(64),
    "6a": Module(
        {"branch3x3": (_reducing(384),), "branch3x3dbl": (Unit(64, 1), Unit(96, 3), _reducing(96))},
        None,
    ),
    "6b": _figure6(128),
    "6c": _figure6(160),
    "6d": _figure6(160),
    "6e": _figure6(192),
    "7a": Module(
        {
            "branch3x3": (Unit(192, 1), _reducing(320)),
            "branch7x7x3": (Unit(192, 1), Unit(192, (1, 7)), Unit(192, (7, 1)), _reducing(192)),
        },
        None,
    ),
    "7b": _figure7(),
    "7c": _figure7(),
}
AUXILIARY_BEHIND = "6e"
STAGE_ENDS = ("5d", "6e", "7c")


def named_units(branches: dict[str, Branch]) -> list[tuple[str, Unit]]:
    """Return the units of branches with torchvision's names: branch_1, branch_2a, branch_2b."""
    named: list[tuple[str, Unit]] = []
    for name, units in branches.items():
        for number, unit in enumerate(units, 1):
            place = f"{name}_{number}" if len(units) > 1 else name
            if isinstance(unit, Unit):
                named.append((place, unit))
            else:
                named += [(place + letter, one) for letter, one in zip("ab", unit, strict=True)]
    return named


@dataclass(frozen=True)
class UnitConfig:
    """What all units of a net share.

    Attributes:
        batch_norm_axis: see `layers.BatchNorm`.
        dtype: of the computation.
    """

    batch_norm_axis: str | None
    dtype: Any


class ConvUnit(nn.Module):
    """A convolution, BatchNorm and a rectifier.

    Attributes:
        unit: of the table.
        config: what all units share.
        std: of the kernel's first values.
    """

    unit: Unit
    config: UnitConfig
    std: float = 0.1

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Maps:
        """Return rectified maps."""
        conv = Conv(
            self.unit.channels,
            self.unit.kernel,
            self.unit.stride,
            padding=None if self.unit.padded else 0,
            rule=TruncatedNormal(self.std),
            dtype=self.config.dtype,
            name="conv",
        )
        norm = BatchNorm(relu=True, axis=self.config.batch_norm_axis, eps=BATCH_NORM_EPS, name="bn")
        return norm(conv(x), train)


class Mixed(nn.Module):
    """The branches of a module.

    Attributes:
        name_in_table: of the module, such as 5b.
        config: of its units.
    """

    name_in_table: str
    config: UnitConfig

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Maps:
        """Return the branches' maps, one after the other."""
        module = MODULES[self.name_in_table]

        def apply(unit: Unit, name: str, maps: Maps) -> Maps:
            return ConvUnit(unit, self.config, name=name)(maps, train)

        ends = []
        for name, units in module.branches.items():
            y = x
            for number, unit in enumerate(units, 1):
                place = f"{name}_{number}" if len(units) > 1 else name
                if isinstance(unit, Unit):
                    y = apply(unit, place, y)
                else:
                    sides = [apply(one, place + letter, y) for letter, one in zip("ab", unit)]
                    y = jnp.concatenate(sides, axis=-1)
            ends.append(y)
        if module.projection is None:
            ends.append(layers.max_pool(x, 3, 2))
        else:
            mean = layers.avg_pool(x, 3, 1, padding=1)
            ends.append(apply(Unit(module.projection, 1), "branch_pool", mean))
        return jnp.concatenate(ends, axis=-1)


class AuxiliaryHead(nn.Module):
    """A classifier on the last 17x17 maps (section 4); used in training alone.

    Attributes:
        classes: outputs.
        config: of its units.
    """

    classes: int
    config: UnitConfig

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Float[Array, "batch classes"]:
        """Return logits."""
        if min(x.shape[1:3]) >= AUXILIARY_MAP:
            x = layers.avg_pool(x, 5, 3)
        else:  # of images below 299 pixels, which torchvision's head does not take
            x = layers.adaptive_avg_pool(x, 5)
        x = ConvUnit(Unit(128, 1), self.config, name="conv0")(x, train)
        last = ConvUnit(Unit(768, 5, padded=False), self.config, std=0.01, name="conv1")
        x = layers.global_avg_pool(last(x, train))
        return Dense(self.classes, rule=TruncatedNormal(0.001), name="fc")(x)


class InceptionV3(nn.Module):
    """A stem, eleven modules, the mean over each map and a dense layer.

    Attributes:
        classes: outputs.
        auxiliary: whether there is an auxiliary head.
        dropout: rate in front of the last layer.
        config: of all units.
    """

    classes: int
    auxiliary: bool
    dropout: float
    config: UnitConfig

    @nn.compact
    def __call__(self, images: Maps, *, train: bool) -> Float[Array, "batch classes"]:
        """Return logits."""
        layers.require_images(images, SMALLEST, "Inception-v3", "larger ones")
        x = images
        for name, unit in STEM.items():
            x = ConvUnit(unit, self.config, name=f"conv{name}")(x, train)
            if name in POOLED_AFTER:
                x = layers.max_pool(x, 3, 2)
        self.sow("intermediates", "stage1_out", x)
        for name in MODULES:
            x = Mixed(name, self.config, name=f"mixed{name}")(x, train)
            if self.auxiliary and name == AUXILIARY_BEHIND and (train or self.is_initializing()):
                logits = AuxiliaryHead(self.classes, self.config, name="aux")(x, train)
                if train:
                    self.sow("auxiliary", "aux_logits", logits)
            if name in STAGE_ENDS:
                self.sow("intermediates", f"stage{name[0]}_out", x)
        x = Dropout(self.dropout, name="dropout")(layers.global_avg_pool(x), train)
        return Dense(self.classes, rule=TruncatedNormal(0.1), name="fc")(x)


def inception_v3(
    classes: int,
    *,
    auxiliary: bool = True,
    dropout: float = 0.5,
    batch_norm_axis: str | None = None,
    dtype: str = "float32",
) -> InceptionV3:
    """Return Inception-v3, which is for images of 299 pixels, and takes them from 75 on.

    Args:
        classes: outputs.
        auxiliary: whether there is an auxiliary head, which answers in training alone.
        dropout: rate in front of the last layer; torchvision's, 0.2 in slim.
        batch_norm_axis: "data" shares BatchNorm's statistics over the devices.
        dtype: of the computation, float32 or bfloat16.
    """
    return InceptionV3(
        classes=classes,
        auxiliary=auxiliary,
        dropout=dropout,
        config=UnitConfig(batch_norm_axis, jnp.dtype(dtype)),
    )
