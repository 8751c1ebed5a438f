"""Residual and plain nets of any depth.

He et al. 2015, "Deep residual learning for image recognition" (arXiv:1512.03385): table 1 is the
ImageNet form, section 4.2 the CIFAR form of 6n+2 layers; a plain net is the same layers without
the shortcuts. He et al. 2016, "Identity mappings in deep residual networks" (arXiv:1603.05027), is
the pre-activation order. Names and padding follow torchvision.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from deeper.errors import UserError
from deeper.models import layers
from deeper.models.initializers import ZEROS
from deeper.models.layers import BatchNorm, Conv, Dense, Maps

# A block's convolutions: (kernel, widening, carries the stride).
BASIC = ((3, 1, True), (3, 1, False))
BOTTLENECK = ((1, 1, False), (3, 1, True), (1, 4, False))
# The paper's own bottleneck: the stride is in the first 1x1 (torchvision's is in the 3x3, "v1.5").
BOTTLENECK_V1 = ((1, 1, True), (3, 1, False), (1, 4, False))

# He et al. 2015, table 1.
DEPTHS = {
    18: (BASIC, (2, 2, 2, 2)),
    34: (BASIC, (3, 4, 6, 3)),
    50: (BOTTLENECK, (3, 4, 6, 3)),
    101: (BOTTLENECK, (3, 4, 23, 3)),
    152: (BOTTLENECK, (3, 8, 36, 3)),
}
STEMS = ("paper", "small", "stride2")

Layers = tuple[tuple[int, int, bool], ...]


class Block(nn.Module):
    """A few convolutions, and around them, in a residual net, a shortcut.

    Attributes:
        layers: BASIC or a bottleneck.
        width: channels before the widening.
        inner_width: channels of a bottleneck's first two convolutions.
        stride: of the convolution that carries it.
        residual: whether there is a shortcut.
        shortcut: A pads with zeros, B projects where the shape changes, C projects always.
        pre_activation: normalise and rectify before each convolution, not after.
        first: of the net.
        groups: of a bottleneck's 3x3.
        zero_init_last: begin as the identity (Goyal et al. 2017, 5.1).
        batch_norm_axis: see `layers.BatchNorm`.
        dtype: of the computation.
    """

    layers: Layers
    width: int
    inner_width: int
    stride: int
    residual: bool
    shortcut: str
    pre_activation: bool
    first: bool
    groups: int
    zero_init_last: bool
    batch_norm_axis: str | None
    dtype: Any

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Maps:
        """Return maps of ``width`` times the last widening channels."""
        out_channels = self.width * self.layers[-1][1]
        changes = self.stride != 1 or x.shape[-1] != out_channels
        identity, y = x, x
        for i, (kernel, widening, carries_stride) in enumerate(self.layers, 1):
            last = i == len(self.layers)
            channels = out_channels if last else self.inner_width * widening
            stride = self.stride if carries_stride else 1
            groups = self.groups if kernel == 3 and len(self.layers) == 3 else 1
            conv = Conv(channels, kernel, stride, groups=groups, dtype=self.dtype, name=f"conv{i}")
            if self.pre_activation:
                y = self._norm(f"bn{i}", relu=True)(y, train)
                if i == 1 and (self.first or changes or self.shortcut == "C"):
                    # He et al. 2016, appendix: the net's first block activates its input before
                    # the paths part; a projection sees the activated input too.
                    identity = y
                y = conv(y)
            else:
                # The last rectifier comes after the addition, where there is one.
                y = conv(y)
                zero = last and self.zero_init_last and self.residual
                y = self._norm(f"bn{i}", relu=not (last and self.residual), zero=zero)(y, train)
        if not self.residual:
            return y
        y = y + self._shortcut(identity, out_channels, changes, train)
        return y if self.pre_activation else nn.relu(y)

    def _norm(self, name: str, relu: bool, zero: bool = False) -> BatchNorm:
        rule: Any = {"scale_rule": ZEROS} if zero else {}
        return BatchNorm(relu=relu, axis=self.batch_norm_axis, name=name, **rule)

    def _shortcut(self, x: Maps, channels: int, changes: bool, train: bool) -> Maps:
        if self.shortcut == "C" or (self.shortcut == "B" and changes):
            conv = Conv(channels, 1, self.stride, dtype=self.dtype, name="shortcut_conv")
            x = conv(x)
            return x if self.pre_activation else self._norm("shortcut_bn", relu=False)(x, train)
        if changes:
            x = x[:, :: self.stride, :: self.stride]
            x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, channels - x.shape[-1])))
        return x


class Stage(nn.Module):
    """Blocks of one width; the first may halve the map.

    Attributes:
        blocks: how many.
        stride: of the first.
        first: of the net.
        block: the other attributes of `Block`, as pairs.
        scan: run the blocks after the first in one compiled loop. They are alike, so that compile
            time no longer grows with depth. The parameters' tree stays the same.
        remat: compute a block's activations again in the backward pass instead of keeping them.
    """

    blocks: int
    stride: int
    first: bool
    block: tuple[tuple[str, Any], ...]
    scan: bool
    remat: bool

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Maps:
        """Return the maps after the last block."""
        make: Any = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
        attributes = dict(self.block)
        x = make(stride=self.stride, first=self.first, **attributes, name="block1")(x, train)
        attributes |= {"stride": 1, "first": False}
        alike = [f"block{i}" for i in range(2, self.blocks + 1)]
        if self.scan and len(alike) > 1 and not self.is_initializing():
            return self._scanned(x, train, alike, Block(**attributes, parent=None))
        for name in alike:
            x = make(**attributes, name=name)(x, train)
        return x

    def _scanned(self, x: Maps, train: bool, names: list[str], block: Block) -> Maps:
        """Stack the blocks' variables, scan over them, and unstack what they update."""
        mine = {name: self.variables[name] for name in ("params", "batch_stats")}
        stacked = {
            collection: jax.tree.map(lambda *leaves: jnp.stack(leaves), *(tree[n] for n in names))
            for collection, tree in mine.items()
        }

        def body(x, variables):
            if not train:
                return block.apply(variables, x, train=False), ()
            x, updated = block.apply(variables, x, train=True, mutable=["batch_stats"])
            return x, updated["batch_stats"]

        x, updated = jax.lax.scan(jax.checkpoint(body) if self.remat else body, x, stacked)
        if train and self.is_mutable_collection("batch_stats"):
            for i, name in enumerate(names):
                one = jax.tree.map(lambda leaf, i=i: leaf[i], updated)
                self.put_variable("batch_stats", name, one)
        return x


class ResNet(nn.Module):
    """A stem, stages of blocks, the mean over each map and a dense layer.

    Attributes:
        stages: blocks a stage.
        widths: channels a stage, before the widening.
        stem: "imagenet" 7x7 stride 2 and a 3x3 max pool of stride 2; "small" 3x3; "stride2" 3x3
            of stride 2.
        block: attributes of `Block` that all blocks share, as pairs.
        width_per_group: inner width of a bottleneck is width * this / 64 * groups.
        classes: outputs.
        scan, remat: see `Stage`.
    """

    stages: tuple[int, ...]
    widths: tuple[int, ...]
    stem: str
    block: tuple[tuple[str, Any], ...]
    width_per_group: int
    classes: int
    scan: bool
    remat: bool

    @nn.compact
    def __call__(self, images: Maps, *, train: bool) -> Float[Array, "batch classes"]:
        """Return logits."""
        block = dict(self.block)
        dtype, axis = block["dtype"], block["batch_norm_axis"]
        pre_activation = block["pre_activation"]
        kernel, stride = {"imagenet": (7, 2), "small": (3, 1), "stride2": (3, 2)}[self.stem]
        x = Conv(self.widths[0], kernel, stride, dtype=dtype, name="conv1")(images)
        if not pre_activation:
            x = BatchNorm(relu=True, axis=axis, name="bn1")(x, train)
        if self.stem == "imagenet":
            x = layers.max_pool(x, 3, 2, padding=1)
        for i, (blocks, width) in enumerate(zip(self.stages, self.widths, strict=True), 1):
            inner = width
            if len(block["layers"]) == 3:
                inner = width * self.width_per_group // 64 * block["groups"]
            attributes = (*self.block, ("width", width), ("inner_width", inner))
            options = (attributes, self.scan, self.remat)
            x = Stage(blocks, min(i, 2), i == 1, *options, name=f"stage{i}")(x, train)
            self.sow("intermediates", f"stage{i}_out", x)
        if pre_activation:
            x = BatchNorm(relu=True, axis=axis, name="bn_last")(x, train)
        return Dense(self.classes, name="fc")(layers.global_avg_pool(x))


def resnet(
    depth: int | None,
    classes: int,
    *,
    residual: bool = True,
    form: str = "auto",
    stem: str = "paper",
    width: int | None = None,
    shortcut: str | None = None,
    stride_in: str = "3x3",
    pre_activation: bool = False,
    blocks: tuple[int, ...] | None = None,
    bottleneck: bool | None = None,
    groups: int = 1,
    width_per_group: int = 64,
    zero_init_last: bool = False,
    batch_norm_axis: str | None = None,
    scan: bool = False,
    remat: bool = False,
    dtype: str = "float32",
) -> ResNet:
    """Return a residual or plain net.

    Args:
        depth: layers with weights, as the paper counts: 18, 34, 50, 101, 152 in the ImageNet form,
            6n+2 in the CIFAR form.
        classes: outputs.
        residual: with shortcuts; without, it is the paper's plain net.
        form: imagenet, cifar, or auto: imagenet for the depths of the paper's table 1, cifar for
            any other 6n+2. (50 and 152 are both; say form=cifar for the latter.)
        stem: paper is the form's own; small is a 3x3 of stride 1; stride2 a 3x3 of stride 2.
        width: channels of the first stage; by default 64 in the ImageNet form, 16 in the CIFAR.
        shortcut: A, B or C (table 3); by default B in the ImageNet form, A in the CIFAR.
        stride_in: which of a bottleneck's convolutions has the stride: 3x3 (torchvision,
            fb.resnet.torch) or 1x1 (the paper).
        pre_activation: the order of He et al. 2016.
        blocks: blocks a stage, in place of what the depth says.
        bottleneck: with ``blocks``: whether they are bottlenecks.
        groups: of a bottleneck's 3x3 (ResNeXt, Xie et al. 2016).
        width_per_group: likewise (128 is the wide ResNet-50-2).
        zero_init_last: begin each residual block as the identity.
        batch_norm_axis: "data" shares BatchNorm's statistics over the devices.
        scan: one compiled loop over the alike blocks of a stage.
        remat: recompute activations in the backward pass.
        dtype: of the computation, float32 or bfloat16.

    Raises:
        UserError: no such net.
    """
    for name, value, known in (
        ("form", form, ("auto", "imagenet", "cifar")),
        ("stem", stem, STEMS),
        ("shortcut", shortcut, (None, "A", "B", "C")),
        ("stride_in", stride_in, ("3x3", "1x1")),
    ):
        if value not in known:
            choices = ", ".join(str(k) for k in known if k is not None)
            raise UserError(f"model.{name}={value} is unknown; choose one of {choices}.")
    if form == "auto":
        form = "imagenet" if depth in DEPTHS or (blocks and len(blocks) == 4) else "cifar"
    table, stages = _table(depth, form, blocks, bottleneck)
    if table == BASIC and (groups != 1 or width_per_group != 64):
        raise UserError(
            f"model.groups={groups} and model.width_per_group={width_per_group} are for "
            "bottlenecks: take a depth of 50, 101 or 152, or model.blocks with "
            "model.bottleneck=true."
        )
    if table == BOTTLENECK and stride_in == "1x1":
        table = BOTTLENECK_V1
    imagenet = form == "imagenet"
    first = width or (64 if imagenet else 16)
    block = {
        "layers": table,
        "residual": residual,
        "shortcut": shortcut or ("B" if imagenet else "A"),
        "pre_activation": pre_activation,
        "groups": groups,
        "zero_init_last": zero_init_last,
        "batch_norm_axis": batch_norm_axis,
        "dtype": jnp.dtype(dtype),
    }
    return ResNet(
        stages=stages,
        widths=tuple(first * 2**i for i in range(len(stages))),
        stem=("imagenet" if imagenet else "small") if stem == "paper" else stem,
        block=tuple(block.items()),
        width_per_group=width_per_group,
        classes=classes,
        scan=scan,
        remat=remat,
    )


def _table(
    depth: int | None, form: str, blocks: tuple[int, ...] | None, bottleneck: bool | None
) -> tuple[Layers, tuple[int, ...]]:
    """Return a block's layers and the blocks a stage."""
    if blocks is not None:
        return BOTTLENECK if bottleneck else BASIC, tuple(blocks)
    if form == "imagenet":
        if depth not in DEPTHS:
            known = ", ".join(map(str, DEPTHS))
            raise UserError(
                f"There is no ImageNet ResNet of model.depth={depth}; the paper's table has "
                f"{known}. Other block counts: model.blocks=[3,4,6,3]."
            )
        return DEPTHS[depth]
    if depth is None or depth < 8 or (depth - 2) % 6:
        below = max(8, ((depth or 8) - 2) // 6 * 6 + 2)
        raise UserError(
            f"There is no residual net of model.depth={depth}: the ImageNet form has "
            f"{', '.join(map(str, DEPTHS))} layers, the CIFAR form 6n+2, such as {below} and "
            f"{below + 6}."
        )
    n = (depth - 2) // 6
    return BASIC, (n, n, n)
