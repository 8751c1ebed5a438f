"""RegNets: Radosavovic et al. 2020, "Designing network design spaces" (arXiv:2003.13678).

The widths of all blocks follow from four numbers (section 3.3, equations 2 to 4); RegNetY is
RegNetX with squeeze-and-excitation. Names, padding and first values follow torchvision.
"""

import itertools
import math
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from deeper.errors import UserError
from deeper.models import layers
from deeper.models.initializers import ZEROS, Normal
from deeper.models.layers import BatchNorm, Conv, Dense, Maps
from deeper.models.squeeze_excitation import SqueezeExcitation
from deeper.models.stochastic_depth import Factors, StochasticDepth, require_rate, rising, scaled


class Rule(NamedTuple):
    """What a net follows from: the paper's d, w_0, w_a and w_m, and the width of a group, g."""

    depth: int
    w_0: int
    w_a: float
    w_m: float
    group_width: int


# The paper's tables 15 and 16 as torchvision has them: figures are of floating-point operations.
RULES = {
    "x_400mf": Rule(22, 24, 24.48, 2.54, 16),
    "x_800mf": Rule(16, 56, 35.73, 2.28, 16),
    "x_1_6gf": Rule(18, 80, 34.01, 2.25, 24),
    "x_3_2gf": Rule(25, 88, 26.31, 2.25, 48),
    "x_8gf": Rule(23, 80, 49.56, 2.88, 120),
    "x_16gf": Rule(22, 216, 55.59, 2.1, 128),
    "x_32gf": Rule(23, 320, 69.86, 2.0, 168),
    "y_400mf": Rule(16, 48, 27.89, 2.09, 8),
    "y_800mf": Rule(14, 56, 38.84, 2.4, 16),
    "y_1_6gf": Rule(27, 48, 20.71, 2.65, 24),
    "y_3_2gf": Rule(21, 80, 42.63, 2.66, 24),
    "y_8gf": Rule(17, 192, 76.82, 2.19, 56),
    "y_16gf": Rule(18, 200, 106.23, 2.48, 112),
    "y_32gf": Rule(20, 232, 115.89, 2.53, 232),
}
STEM_WIDTH = 32
QUANTUM = 8  # a width is a multiple of it
SQUEEZE = 0.25  # share of a block's incoming channels that RegNetY squeezes to


class StageShape(NamedTuple):
    """Blocks, channels and width of a group, of one stage."""

    blocks: int
    width: int
    group_width: int


def stages_of(rule: Rule) -> tuple[StageShape, ...]:
    """Return the stages that follow from a rule.

    u_j = w_0 + w_a j is the wished width of block j; it is rounded to w_0 w_m^s with a whole s,
    then to a multiple of 8. Blocks of one width are a stage, whose width is then rounded to a
    multiple of the groups' (torchvision's way, as pycls had it at first).
    """
    powers = (
        round(math.log((rule.w_0 + rule.w_a * j) / rule.w_0) / math.log(rule.w_m))
        for j in range(rule.depth)
    )
    widths = [round(rule.w_0 * rule.w_m**power / QUANTUM) * QUANTUM for power in powers]
    stages = []
    for width, blocks in itertools.groupby(widths):
        group = min(rule.group_width, width)
        stages.append(StageShape(len(list(blocks)), _multiple(width, group), group))
    return tuple(stages)


def _multiple(width: int, group: int) -> int:
    """Return the nearest multiple of a group's width that is not below by more than a tenth."""
    nearest = max(group, int(width + group / 2) // group * group)
    return nearest + group if nearest < 0.9 * width else nearest


@dataclass(frozen=True)
class BlockConfig:
    """What all blocks of a net share.

    Attributes:
        squeeze: share of a block's incoming channels that its squeeze-and-excitation squeezes to;
            None for none.
        batch_norm_axis: see `layers.BatchNorm`.
        dtype: of the computation.
    """

    squeeze: float | None
    batch_norm_axis: str | None
    dtype: Any

    def unit(
        self, name: str, x: Maps, train: bool, channels: int, kernel: int, stride: int = 1,
        groups: int = 1, relu: bool = True,
    ) -> Maps:  # fmt: skip
        """Apply a convolution, BatchNorm and a rectifier; called within a ``__call__``."""
        conv = Conv(channels, kernel, stride, groups=groups, dtype=self.dtype, name=f"{name}_conv")
        norm = BatchNorm(relu=relu, axis=self.batch_norm_axis, name=f"{name}_bn")
        return norm(conv(x), train)


class Block(nn.Module):
    """1x1, grouped 3x3 and 1x1 convolutions of the same width, beside a shortcut (figure 4).

    Attributes:
        shape: of its stage.
        stride: of the 3x3.
        config: what all blocks share.
    """

    shape: StageShape
    stride: int
    config: BlockConfig

    @nn.compact
    def __call__(self, x: Maps, train: bool, factors: Factors | None) -> Maps:
        """Return maps of the stage's width."""
        width, unit = self.shape.width, self.config.unit
        y = unit("a", x, train, width, 1)
        groups = width // self.shape.group_width
        y = unit("b", y, train, width, 3, self.stride, groups)
        if self.config.squeeze is not None:
            y = SqueezeExcitation(round(self.config.squeeze * x.shape[-1]), name="se")(y)
        y = scaled(unit("c", y, train, width, 1, relu=False), factors)
        if self.stride != 1 or x.shape[-1] != width:
            x = unit("shortcut", x, train, width, 1, self.stride, relu=False)
        return nn.relu(x + y)


class Stage(nn.Module):
    """Blocks of one width, the first of stride 2.

    Attributes:
        shape: blocks, channels and groups.
        config: what all blocks share.
        drop_rates: of stochastic depth, of each block.
        remat: compute a block's activations again in the backward pass instead of keeping them.
    """

    shape: StageShape
    config: BlockConfig
    drop_rates: tuple[float, ...]
    remat: bool

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Maps:
        """Return the maps after the last block."""
        make: Any = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
        for i, rate in enumerate(self.drop_rates, 1):
            factors = StochasticDepth(rate, name=f"drop{i}")(x.shape[0], train)
            block = make(self.shape, 2 if i == 1 else 1, self.config, name=f"block{i}")
            x = block(x, train, factors)
        return x


class RegNet(nn.Module):
    """A 3x3 convolution, four stages, the mean over each map and a dense layer.

    Attributes:
        stages: blocks, channels and groups.
        block: what all blocks share.
        classes: outputs.
        small: the first convolution has stride 1, not 2, for images of 28 to 64 pixels.
        stochastic_depth: rate of the last block, see `stochastic_depth.rising`.
        remat: see `Stage`.
    """

    stages: tuple[StageShape, ...]
    block: BlockConfig
    classes: int
    small: bool
    stochastic_depth: float
    remat: bool

    @nn.compact
    def __call__(self, images: Maps, *, train: bool) -> Float[Array, "batch classes"]:
        """Return logits."""
        x = Conv(
            STEM_WIDTH, 3, 1 if self.small else 2, dtype=self.block.dtype, name="conv1"
        )(images)  # fmt: skip
        x = BatchNorm(relu=True, axis=self.block.batch_norm_axis, name="bn1")(x, train)
        rates = iter(rising(self.stochastic_depth, sum(s.blocks for s in self.stages)))
        for i, shape in enumerate(self.stages, 1):
            of_stage = tuple(islice(rates, shape.blocks))
            x = Stage(shape, self.block, of_stage, self.remat, name=f"stage{i}")(x, train)
            self.sow("intermediates", f"stage{i}_out", x)
        head = Dense(self.classes, rule=Normal(0.01), bias_rule=ZEROS, name="fc")
        return head(layers.global_avg_pool(x))


def regnet(
    variant: str | None,
    classes: int,
    *,
    rule: tuple[float, ...] | None = None,
    squeeze_excitation: bool | None = None,
    stem: str = "paper",
    stochastic_depth: float = 0.0,
    batch_norm_axis: str | None = None,
    remat: bool = False,
    dtype: str = "float32",
) -> RegNet:
    """Return a RegNet.

    Args:
        variant: x_ or y_ and the paper's floating-point operations: x_400mf, y_1_6gf, ...
        classes: outputs.
        rule: in place of the variant: depth, w_0, w_a, w_m and the groups' width.
        squeeze_excitation: by default in the variants y_ alone.
        stem: paper, or small for images of 28 to 64 pixels, whose convolution has no stride.
        stochastic_depth: share of the last block's branches that are left out in training (Huang et
            al. 2016); it rises linearly from block to block. None in the paper.
        batch_norm_axis: "data" shares BatchNorm's statistics over the devices.
        remat: recompute the blocks' activations in the backward pass.
        dtype: of the computation, float32 or bfloat16.

    Raises:
        UserError: no such net.
    """
    if rule is None and variant not in RULES:
        raise UserError(
            f"There is no RegNet of model.variant={variant}; there are {', '.join(RULES)}. Others: "
            "model.variant=null model.rule=[22,24,24.48,2.54,16], of depth, w_0, w_a, w_m and the "
            "groups' width."
        )
    if stem not in ("paper", "small"):
        raise UserError(f"model.stem={stem} is unknown; choose paper or small.")
    require_rate(stochastic_depth)
    squeezes = squeeze_excitation
    if squeezes is None:
        squeezes = str(variant).startswith("y")
    return RegNet(
        stages=stages_of(_rule(rule) if rule is not None else RULES[str(variant)]),
        block=BlockConfig(SQUEEZE if squeezes else None, batch_norm_axis, jnp.dtype(dtype)),
        classes=classes,
        small=stem == "small",
        stochastic_depth=stochastic_depth,
        remat=remat,
    )


def _rule(values: tuple[float, ...]) -> Rule:
    """Return the rule of a config."""
    if len(values) != len(Rule._fields):
        raise UserError(
            f"model.rule={list(values)}: give depth, w_0, w_a, w_m and the groups' width."
        )
    depth, w_0, w_a, w_m, group = values
    if depth < 1 or w_0 < QUANTUM or w_0 % QUANTUM or w_a < 0 or w_m <= 1 or group < 1:
        raise UserError(
            f"model.rule={list(values)}: depth and the groups' width are at least 1, w_0 is a "
            f"multiple of {QUANTUM}, w_a is not negative and w_m is above 1."
        )
    return Rule(int(depth), int(w_0), w_a, w_m, int(group))
