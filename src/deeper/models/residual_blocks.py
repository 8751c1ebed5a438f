"""The blocks of residual and plain nets, and stages of them.

He et al. 2015 (arXiv:1512.03385), figure 5: two 3x3 convolutions, or a bottleneck of 1x1, 3x3 and
1x1. He et al. 2016 (arXiv:1603.05027), figure 1b: BatchNorm and rectifier come before each
convolution. A plain net has the same layers and no shortcuts. Options of a block's branch are
squeeze-and-excitation at its end (see `squeeze_excitation`) and stochastic depth, which scales the
branch by an example's factor (see `stochastic_depth`).
"""

from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from deeper.models.initializers import ONES, ZEROS, HeNormal, Rule
from deeper.models.layers import BatchNorm, Conv, Maps, avg_pool
from deeper.models.squeeze_excitation import SqueezeExcitation, squeezed_channels
from deeper.models.stochastic_depth import Factors, StochasticDepth, scaled

Kind = Literal["basic", "bottleneck"]
EXPANSION = 4  # a bottleneck's last convolution has so many times the channels of its stage

HE = HeNormal("out")


@dataclass(frozen=True)
class BlockConfig:
    """What all blocks of a net share.

    Attributes:
        kind: basic, two 3x3 convolutions; or bottleneck.
        residual: whether there is a shortcut around a block.
        shortcut: A pads with zeros, B projects where the shape changes, C projects always (He et
            al. 2015, table 3); D is B with a mean over 2x2 for the stride (He et al. 2018,
            arXiv:1812.01187, figure 2c).
        pre_activation: normalise and rectify before each convolution, not after.
        stride_in: which of a bottleneck's convolutions carries the stride: the 3x3 (torchvision's
            "v1.5") or the first 1x1 (the paper).
        groups: of a bottleneck's 3x3 (ResNeXt, Xie et al. 2016).
        width_per_group: a bottleneck's inner width is width * this / 64 * groups.
        zero_init_last: blocks begin as the identity (Goyal et al. 2017, section 5.1).
        batch_norm_axis: see `layers.BatchNorm`.
        dtype: of the computation.
        squeeze: channels of a branch over those between the layers of its squeeze-and-excitation;
            None for none.
        rule: of the first values of the convolutions' kernels.
    """

    kind: Kind
    residual: bool
    shortcut: str
    pre_activation: bool
    stride_in: str
    groups: int
    width_per_group: int
    zero_init_last: bool
    batch_norm_axis: str | None
    dtype: Any
    squeeze: int | None = None
    rule: Rule = HE

    @property
    def convolutions(self) -> int:
        """Convolutions of a block, without the shortcut's."""
        return 3 if self.kind == "bottleneck" else 2

    def inner_width(self, width: int) -> int:
        """Return the channels of a bottleneck's first two convolutions."""
        return width * self.width_per_group // 64 * self.groups

    def strides(self, stride: int) -> tuple[int, int]:
        """Return the strides of a bottleneck's first 1x1 and of its 3x3."""
        return (stride, 1) if self.stride_in == "1x1" else (1, stride)

    def conv(self, name: str, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> Conv:
        """Return a convolution."""
        return Conv(
            channels, kernel, stride, groups=groups, rule=self.rule, dtype=self.dtype, name=name
        )

    def norm(self, name: str, *, relu: bool = True) -> BatchNorm:
        """Return BatchNorm, with the rectifier after it by default."""
        return BatchNorm(relu=relu, axis=self.batch_norm_axis, name=name)

    def last_norm(self, name: str) -> BatchNorm:
        """Return the BatchNorm that ends a block; with a shortcut, the sum is rectified instead."""
        rule = ZEROS if self.residual and self.zero_init_last else ONES
        return BatchNorm(
            relu=not self.residual, axis=self.batch_norm_axis, scale_rule=rule, name=name
        )

    def branch(self, y: Maps, factors: Factors | None) -> Maps:
        """Return the end of a residual block's branch; called within the block's ``__call__``."""
        if self.squeeze is not None:
            y = SqueezeExcitation(squeezed_channels(y.shape[-1], self.squeeze), name="se")(y)
        return scaled(y, factors)


def basic_blocks(
    residual: bool, shortcut: str, batch_norm_axis: str | None, dtype: str
) -> BlockConfig:
    """Return what blocks of two convolutions share, as He et al. 2015 have them.

    Args:
        residual: whether they have shortcuts.
        shortcut: see `BlockConfig`.
        batch_norm_axis: see `layers.BatchNorm`.
        dtype: of the computation.
    """
    return BlockConfig(
        kind="basic",
        residual=residual,
        shortcut=shortcut,
        pre_activation=False,
        stride_in="3x3",
        groups=1,
        width_per_group=64,
        zero_init_last=False,
        batch_norm_axis=batch_norm_axis,
        dtype=jnp.dtype(dtype),
    )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions.

    Attributes:
        config: what all blocks share.
        width: channels.
        stride: of the first convolution.
        first: whether it is the net's first; unused here, see `PreActBasicBlock`.
    """

    config: BlockConfig
    width: int
    stride: int
    first: bool

    @nn.compact
    def __call__(self, x: Maps, train: bool, factors: Factors | None = None) -> Maps:
        """Return maps of ``width`` channels."""
        c = self.config
        y = c.conv("conv1", self.width, 3, self.stride)(x)
        y = c.norm("bn1")(y, train)
        y = c.conv("conv2", self.width, 3)(y)
        y = c.last_norm("bn2")(y, train)
        if not c.residual:
            return y
        return nn.relu(c.branch(y, factors) + _shortcut(c, x, self.width, self.stride, train))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions.

    Attributes:
        config: what all blocks share.
        width: channels before the expansion.
        stride: of the convolution that `BlockConfig.stride_in` names.
        first: whether it is the net's first; unused here, see `PreActBasicBlock`.
    """

    config: BlockConfig
    width: int
    stride: int
    first: bool

    @nn.compact
    def __call__(self, x: Maps, train: bool, factors: Factors | None = None) -> Maps:
        """Return maps of ``width`` times `EXPANSION` channels."""
        c, channels, inner = (
            self.config,
            self.width * EXPANSION,
            self.config.inner_width(self.width),
        )
        stride1, stride2 = c.strides(self.stride)
        y = c.conv("conv1", inner, 1, stride1)(x)
        y = c.norm("bn1")(y, train)
        y = c.conv("conv2", inner, 3, stride2, groups=c.groups)(y)
        y = c.norm("bn2")(y, train)
        y = c.conv("conv3", channels, 1)(y)
        y = c.last_norm("bn3")(y, train)
        if not c.residual:
            return y
        return nn.relu(c.branch(y, factors) + _shortcut(c, x, channels, self.stride, train))


class PreActBasicBlock(nn.Module):
    """Two 3x3 convolutions, each behind BatchNorm and a rectifier.

    Attributes:
        config: what all blocks share.
        width: channels.
        stride: of the first convolution.
        first: whether it is the net's first, whose shortcut starts behind the rectifier (He et al.
            2016, appendix).
    """

    config: BlockConfig
    width: int
    stride: int
    first: bool

    @nn.compact
    def __call__(self, x: Maps, train: bool, factors: Factors | None = None) -> Maps:
        """Return maps of ``width`` channels."""
        c = self.config
        activated = c.norm("bn1")(x, train)
        y = c.conv("conv1", self.width, 3, self.stride)(activated)
        y = c.norm("bn2")(y, train)
        y = c.conv("conv2", self.width, 3)(y)
        if not c.residual:
            return y
        start = _pre_activation_start(c, x, activated, self.width, self.stride, self.first)
        return c.branch(y, factors) + _shortcut(c, start, self.width, self.stride, train)


class PreActBottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, each behind BatchNorm and a rectifier.

    Attributes:
        config: what all blocks share.
        width: channels before the expansion.
        stride: of the convolution that `BlockConfig.stride_in` names.
        first: see `PreActBasicBlock`.
    """

    config: BlockConfig
    width: int
    stride: int
    first: bool

    @nn.compact
    def __call__(self, x: Maps, train: bool, factors: Factors | None = None) -> Maps:
        """Return maps of ``width`` times `EXPANSION` channels."""
        c, channels, inner = (
            self.config,
            self.width * EXPANSION,
            self.config.inner_width(self.width),
        )
        stride1, stride2 = c.strides(self.stride)
        activated = c.norm("bn1")(x, train)
        y = c.conv("conv1", inner, 1, stride1)(activated)
        y = c.norm("bn2")(y, train)
        y = c.conv("conv2", inner, 3, stride2, groups=c.groups)(y)
        y = c.norm("bn3")(y, train)
        y = c.conv("conv3", channels, 1)(y)
        if not c.residual:
            return y
        start = _pre_activation_start(c, x, activated, channels, self.stride, self.first)
        return c.branch(y, factors) + _shortcut(c, start, channels, self.stride, train)


BLOCKS: dict[tuple[str, bool], Any] = {  # by kind and pre-activation
    ("basic", False): BasicBlock,
    ("bottleneck", False): Bottleneck,
    ("basic", True): PreActBasicBlock,
    ("bottleneck", True): PreActBottleneck,
}


def _changes_shape(x: Maps, channels: int, stride: int) -> bool:
    return stride != 1 or x.shape[-1] != channels


def _pre_activation_start(
    c: BlockConfig, x: Maps, activated: Maps, channels: int, stride: int, first: bool
) -> Maps:
    """Return where a pre-activation block's shortcut starts: at its input, or behind the rectifier.

    He et al. 2016, appendix: the net's first block activates its input before the paths part; a
    projection sees the activated input too.
    """
    behind = first or c.shortcut == "C" or _changes_shape(x, channels, stride)
    return activated if behind else x


def _shortcut(c: BlockConfig, x: Maps, channels: int, stride: int, train: bool) -> Maps:
    """Return a block's input in the shape of its output (He et al. 2015, section 3.3).

    Called within a block's ``__call__``: the layers of a projection are the block's.
    """
    changes = _changes_shape(x, channels, stride)
    if c.shortcut == "C" or (c.shortcut in ("B", "D") and changes):
        if c.shortcut == "D" and stride != 1:
            x, stride = avg_pool(x, stride, stride, ceil=True), 1
        x = c.conv("shortcut_conv", channels, 1, stride)(x)
        return x if c.pre_activation else c.norm("shortcut_bn", relu=False)(x, train)
    if changes:  # A: every stride-th place, and zeros for the channels that are new
        axes = x.ndim - 2
        x = x[(slice(None), *[slice(None, None, stride)] * axes)]
        x = jnp.pad(x, (*[(0, 0)] * (axes + 1), (0, channels - x.shape[-1])))
    return x


class Stage(nn.Module):
    """Blocks of one width; the first may halve the map.

    Attributes:
        config: of the blocks.
        blocks: how many.
        width: channels, before a bottleneck's expansion.
        stride: of the first block.
        first: whether it is the net's first stage.
        scan: run the blocks after the first, which are alike, in one compiled loop, so that
            compile time does not grow with depth. The parameters' tree stays the same.
        remat: compute a block's activations again in the backward pass instead of keeping them.
        drop_rates: of stochastic depth, of each block; empty for none.
    """

    config: BlockConfig
    blocks: int
    width: int
    stride: int
    first: bool
    scan: bool
    remat: bool
    drop_rates: tuple[float, ...] = ()

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Maps:
        """Return the maps after the last block."""
        factors = self._factors(x.shape[0], train)
        block = BLOCKS[self.config.kind, self.config.pre_activation]
        make: Any = nn.remat(block, static_argnums=(2,)) if self.remat else block
        first = make(self.config, self.width, self.stride, self.first, name="block1")
        x = first(x, train, factors[0])
        alike = [f"block{i}" for i in range(2, self.blocks + 1)]
        attributes = (self.config, self.width, 1, False)
        if self.scan and len(alike) > 1 and not self.is_initializing():
            return self._scanned(x, train, alike, block(*attributes, parent=None), factors[1:])
        for name, of_block in zip(alike, factors[1:], strict=True):
            x = make(*attributes, name=name)(x, train, of_block)
        return x

    def _factors(self, batch: int, train: bool) -> list[Factors | None]:
        """Return the factors of each block's branch."""
        rates = self.drop_rates if train else ()
        if not any(rates):
            return [None] * self.blocks
        drawn = (StochasticDepth(rate, name=f"drop{i}") for i, rate in enumerate(rates, 1))
        return [drop(batch, train) for drop in drawn]

    def _scanned(
        self,
        x: Maps,
        train: bool,
        names: list[str],
        block: nn.Module,
        factors: list[Factors | None],
    ) -> Maps:
        """Stack the blocks' variables, scan over them, and unstack the statistics they update."""
        stacked = {
            collection: jax.tree.map(
                lambda *leaves: jnp.stack(leaves), *(self.variables[collection][n] for n in names)
            )
            for collection in ("params", "batch_stats")
        }

        given = [one for one in factors if one is not None]  # all of them, or none
        dropped = jnp.stack(given) if given else None

        def body(x: Maps, of_block: Any) -> Any:
            variables, factors = of_block
            if not train:
                return block.apply(variables, x, train=False), ()
            x, updated = block.apply(
                variables, x, train=True, factors=factors, mutable=["batch_stats"]
            )
            return x, updated["batch_stats"]

        of_blocks = (stacked, dropped)
        x, updated = jax.lax.scan(jax.checkpoint(body) if self.remat else body, x, of_blocks)
        if train and self.is_mutable_collection("batch_stats"):
            for i, name in enumerate(names):
                statistics = jax.tree.map(lambda leaf, i=i: leaf[i], updated)
                self.put_variable("batch_stats", name, statistics)
        return x
