"""Residual and plain nets of any depth.

He et al. 2015, "Deep residual learning for image recognition" (arXiv:1512.03385): table 1 is the
ImageNet form, section 4.2 the CIFAR form of 6n+2 layers; a plain net is the same layers without
the shortcuts. He et al. 2016, "Identity mappings in deep residual networks" (arXiv:1603.05027), is
the pre-activation order. ResNet-D (He et al. 2018, "Bag of tricks", arXiv:1812.01187, figure 2) has
``stem=deep`` and ``shortcut=D``. SE-ResNet (Hu et al. 2017, arXiv:1709.01507) has ``squeeze=16``.
Names and padding follow torchvision, and timm for ResNet-D and SE-ResNet.
"""

from itertools import islice

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from deeper.errors import UserError
from deeper.models import layers
from deeper.models.initializers import HeNormal, Orthonormal, Rule
from deeper.models.layers import BatchNorm, Conv, Dense, Maps
from deeper.models.residual_blocks import BlockConfig, Kind, Stage
from deeper.models.stochastic_depth import require_rate, rising

# He et al. 2015, table 1: depth -> (kind of block, blocks a stage).
DEPTHS: dict[int, tuple[Kind, tuple[int, ...]]] = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}
STEMS = ("paper", "small", "stride2", "deep", "tiered")
INITS: dict[str, Rule] = {"he": HeNormal("out"), "orthonormal": Orthonormal()}
FIRST_CONVOLUTION = {"imagenet": (7, 2), "small": (3, 1), "stride2": (3, 2)}  # kernel, stride
# Stems of three 3x3 convolutions, the first of stride 2: channels of the first two, as shares of
# the net's first width. Deep is ResNet-D's; tiered that of timm's resnet26t and resnet50t.
DEEP_STEMS = {"deep": (1 / 2, 1 / 2), "tiered": (3 / 8, 1 / 2)}


class ResNet(nn.Module):
    """A stem, stages of blocks, the mean over each map and a dense layer.

    Attributes:
        stages: blocks a stage.
        widths: channels a stage, before a bottleneck's expansion.
        stem: "imagenet" 7x7 stride 2 and a 3x3 max pool of stride 2; "small" 3x3; "stride2" 3x3
            of stride 2; "deep" and "tiered" three 3x3, the first of stride 2, and that max pool.
        block: of all blocks.
        classes: outputs.
        scan, remat: see `residual_blocks.Stage`.
        stochastic_depth: rate of the last block, see `stochastic_depth.rising`.
    """

    stages: tuple[int, ...]
    widths: tuple[int, ...]
    stem: str
    block: BlockConfig
    classes: int
    scan: bool
    remat: bool
    stochastic_depth: float = 0.0

    @nn.compact
    def __call__(self, images: Maps, *, train: bool) -> Float[Array, "batch classes"]:
        """Return logits."""
        axis = self.block.batch_norm_axis
        kernel, stride = FIRST_CONVOLUTION.get(self.stem, (3, 1))
        x = images
        for i, share in enumerate(DEEP_STEMS.get(self.stem, ()), 1):
            width = int(share * self.widths[0])
            x = self.block.conv(f"stem_conv{i}", width, 3, 2 if i == 1 else 1)(x)
            x = self.block.norm(f"stem_bn{i}")(x, train)
        x = Conv(self.widths[0], kernel, stride, dtype=self.block.dtype, name="conv1")(x)
        if not self.block.pre_activation:
            x = BatchNorm(relu=True, axis=axis, name="bn1")(x, train)
        if self.stem == "imagenet" or self.stem in DEEP_STEMS:
            x = layers.max_pool(x, 3, 2, padding=1)
        rates = iter(rising(self.stochastic_depth, sum(self.stages)))
        for i, (blocks, width) in enumerate(zip(self.stages, self.widths, strict=True), 1):
            first = i == 1
            stage = Stage(
                self.block,
                blocks,
                width,
                1 if first else 2,
                first,
                self.scan,
                self.remat,
                tuple(islice(rates, blocks)),
                name=f"stage{i}",
            )
            x = stage(x, train)
            self.sow("intermediates", f"stage{i}_out", x)
        if self.block.pre_activation:
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
    squeeze: int | None = None,
    stochastic_depth: float = 0.0,
    init: str = "he",
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
        stem: paper is the form's own; small is a 3x3 of stride 1; stride2 a 3x3 of stride 2; deep
            three 3x3 of 32, 32 and 64 channels (ResNet-D), tiered of 24, 32 and 64 (timm).
        width: channels of the first stage; by default 64 in the ImageNet form, 16 in the CIFAR.
        shortcut: A, B or C (table 3); D is B with the stride in a mean over 2x2 (ResNet-D). By
            default B in the ImageNet form, A in the CIFAR.
        stride_in: which of a bottleneck's convolutions has the stride: 3x3 (torchvision,
            fb.resnet.torch) or 1x1 (the paper).
        pre_activation: the order of He et al. 2016.
        blocks: blocks a stage, in place of what the depth says.
        bottleneck: with ``blocks``: whether they are bottlenecks.
        groups: of a bottleneck's 3x3 (ResNeXt, Xie et al. 2016).
        width_per_group: of a bottleneck's 3x3, at 64 channels (128 is the wide ResNet-50-2).
        zero_init_last: begin each residual block as the identity.
        squeeze: squeeze-and-excitation at the end of each branch: the paper's reduction r, which is
            16 there; None for none.
        stochastic_depth: share of the last block's branches that are left out in training (Huang et
            al. 2016); it rises linearly from block to block.
        init: how the blocks' kernels begin: he, or orthonormal (see `initializers.Orthonormal`).
        batch_norm_axis: "data" shares BatchNorm's statistics over the devices.
        scan: run the blocks of a stage that are alike in one compiled loop.
        remat: recompute activations in the backward pass.
        dtype: of the computation, float32 or bfloat16.

    Raises:
        UserError: no such net.
    """
    for name, value, known in (
        ("form", form, ("auto", "imagenet", "cifar")),
        ("stem", stem, STEMS),
        ("shortcut", shortcut, (None, "A", "B", "C", "D")),
        ("stride_in", stride_in, ("3x3", "1x1")),
        ("init", init, tuple(INITS)),
    ):
        if value not in known:
            choices = ", ".join(str(k) for k in known if k is not None)
            raise UserError(f"model.{name}={value} is unknown; choose one of {choices}.")
    require_rate(stochastic_depth)
    if not residual and (squeeze is not None or stochastic_depth):
        raise UserError(
            f"model.squeeze={squeeze} and model.stochastic_depth={stochastic_depth} are for the "
            "branches of residual nets, and a plain net has none: leave them out."
        )
    if form == "auto":
        form = "imagenet" if depth in DEPTHS or (blocks and len(blocks) == 4) else "cifar"
    kind, stages = _blocks_of(depth, form, blocks, bottleneck)
    if kind == "basic" and (groups != 1 or width_per_group != 64):
        raise UserError(
            f"model.groups={groups} and model.width_per_group={width_per_group} are for "
            "bottlenecks: take a depth of 50, 101 or 152, or model.blocks with "
            "model.bottleneck=true."
        )
    imagenet = form == "imagenet"
    first = width or (64 if imagenet else 16)
    return ResNet(
        stages=stages,
        widths=tuple(first * 2**i for i in range(len(stages))),
        stem=("imagenet" if imagenet else "small") if stem == "paper" else stem,
        block=BlockConfig(
            kind=kind,
            residual=residual,
            shortcut=shortcut or ("B" if imagenet else "A"),
            pre_activation=pre_activation,
            stride_in=stride_in,
            groups=groups,
            width_per_group=width_per_group,
            zero_init_last=zero_init_last,
            batch_norm_axis=batch_norm_axis,
            dtype=jnp.dtype(dtype),
            squeeze=squeeze,
            rule=INITS[init],
        ),
        classes=classes,
        scan=scan,
        remat=remat,
        stochastic_depth=stochastic_depth,
    )


def _blocks_of(
    depth: int | None, form: str, blocks: tuple[int, ...] | None, bottleneck: bool | None
) -> tuple[Kind, tuple[int, ...]]:
    """Return the kind of block, and the blocks a stage."""
    if blocks is not None:
        return "bottleneck" if bottleneck else "basic", tuple(blocks)
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
    return "basic", (n, n, n)
