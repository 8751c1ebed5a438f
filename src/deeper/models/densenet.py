"""DenseNets of any depth.

Huang et al. 2017, "Densely connected convolutional networks" (arXiv:1608.06993): each layer sees
the maps of all layers before it in its block, side by side. Table 1 is the ImageNet form,
section 3 the CIFAR form of three blocks. "B" is a 1x1 convolution in front of each 3x3, "C" a
transition that halves the channels. Names and padding follow torchvision.
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from deeper.errors import UserError
from deeper.models import layers
from deeper.models.initializers import ZEROS, HeNormal
from deeper.models.layers import BatchNorm, Conv, Dense, Dropout, Maps

# Table 1, and 161 of the authors' later code: depth -> (layers a block, growth rate).
DEPTHS = {
    121: ((6, 12, 24, 16), 32),
    161: ((6, 12, 36, 24), 48),
    169: ((6, 12, 32, 32), 32),
    201: ((6, 12, 48, 32), 32),
}
BOTTLENECK = 4  # a 1x1 convolution has so many times the growth rate's channels
CIFAR_GROWTH, CIFAR_BLOCKS = 12, 3
# Pixels that leave every layer one value, by stem.
SMALLEST = {"imagenet": 29, "small": 8, "cifar": 4}


@dataclass(frozen=True)
class LayerConfig:
    """What all layers of a net share.

    Attributes:
        growth: channels that each layer adds, the paper's k.
        bottleneck: whether there is a 1x1 convolution in front of each 3x3.
        dropout: rate behind each convolution of a layer.
        batch_norm_axis: see `layers.BatchNorm`.
        dtype: of the computation.
    """

    growth: int
    bottleneck: bool
    dropout: float
    batch_norm_axis: str | None
    dtype: Any

    def conv(self, name: str, channels: int, kernel: int, stride: int = 1) -> Conv:
        """Return a convolution, drawn as torchvision's are."""
        return Conv(channels, kernel, stride, rule=HeNormal("in"), dtype=self.dtype, name=name)

    def norm(self, name: str) -> BatchNorm:
        """Return BatchNorm with the rectifier after it."""
        return BatchNorm(relu=True, axis=self.batch_norm_axis, name=name)


class DenseLayer(nn.Module):
    """BatchNorm, rectifier and 3x3 convolution, behind the same with a 1x1 in a bottleneck.

    Attributes:
        config: what all layers share.
    """

    config: LayerConfig

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Maps:
        """Return the maps that the layer adds."""
        c = self.config
        if c.bottleneck:
            x = c.conv("conv1", BOTTLENECK * c.growth, 1)(c.norm("norm1")(x, train))
            x = Dropout(c.dropout, name="dropout1")(x, train)
            x = c.conv("conv2", c.growth, 3)(c.norm("norm2")(x, train))
            return Dropout(c.dropout, name="dropout2")(x, train)
        x = c.conv("conv1", c.growth, 3)(c.norm("norm1")(x, train))
        return Dropout(c.dropout, name="dropout1")(x, train)


class DenseBlock(nn.Module):
    """Layers of which each sees the maps of all before it.

    Attributes:
        config: of the layers.
        layers: how many.
        remat: compute a layer's activations again in the backward pass instead of keeping them.
    """

    config: LayerConfig
    layers: int
    remat: bool

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Maps:
        """Return the block's input and what its layers add, one after the other."""
        make: Any = nn.remat(DenseLayer, static_argnums=(2,)) if self.remat else DenseLayer
        for i in range(1, self.layers + 1):
            added = make(self.config, name=f"layer{i}")(x, train)
            x = jnp.concatenate([x, added], axis=-1)
        return x


class Transition(nn.Module):
    """BatchNorm, rectifier, 1x1 convolution and a mean over 2x2, between two blocks.

    Attributes:
        config: what all layers share.
        channels: of the convolution.
    """

    config: LayerConfig
    channels: int

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Maps:
        """Return maps of half the size."""
        x = self.config.conv("conv", self.channels, 1)(self.config.norm("norm")(x, train))
        x = Dropout(self.config.dropout, name="dropout")(x, train)
        return layers.avg_pool(x, 2, 2)


class DenseNet(nn.Module):
    """A stem, dense blocks with transitions between them, the mean over each map, a dense layer.

    Attributes:
        blocks: layers a block.
        width: channels of the stem.
        stem: "imagenet" 7x7 stride 2 and a 3x3 max pool of stride 2; "small" a 3x3 with BatchNorm;
            "cifar" a 3x3 alone.
        compression: share of the channels that a transition keeps.
        layer: of all layers.
        classes: outputs.
        remat: see `DenseBlock`.
    """

    blocks: tuple[int, ...]
    width: int
    stem: str
    compression: float
    layer: LayerConfig
    classes: int
    remat: bool

    @nn.compact
    def __call__(self, images: Maps, *, train: bool) -> Float[Array, "batch classes"]:
        """Return logits."""
        advice = "larger ones" if self.stem != "imagenet" else "model.stem=small, or larger ones"
        layers.require_images(images, SMALLEST[self.stem], "this form of DenseNet", advice)
        kernel, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
        x = self.layer.conv("conv1", self.width, kernel, stride)(images)
        if self.stem != "cifar":  # whose first layer begins with BatchNorm
            x = self.layer.norm("bn1")(x, train)
        if self.stem == "imagenet":
            x = layers.max_pool(x, 3, 2, padding=1)
        for i, count in enumerate(self.blocks, 1):
            x = DenseBlock(self.layer, count, self.remat, name=f"stage{i}")(x, train)
            if i == len(self.blocks):
                x = self.layer.norm("bn_last")(x, train)
            self.sow("intermediates", f"stage{i}_out", x)
            if i < len(self.blocks):
                kept = int(self.compression * x.shape[-1])
                x = Transition(self.layer, kept, name=f"transition{i}")(x, train)
        return Dense(self.classes, bias_rule=ZEROS, name="fc")(layers.global_avg_pool(x))


def densenet(
    depth: int | None,
    classes: int,
    *,
    growth: int | None = None,
    form: str = "auto",
    stem: str = "paper",
    blocks: tuple[int, ...] | None = None,
    width: int | None = None,
    bottleneck: bool = True,
    compression: float | None = None,
    dropout: float = 0.0,
    batch_norm_axis: str | None = None,
    remat: bool = False,
    dtype: str = "float32",
) -> DenseNet:
    """Return a DenseNet.

    Args:
        depth: layers with weights, as the paper counts: 121, 161, 169, 201 in the ImageNet form;
            in the CIFAR form 6n+4 with bottlenecks and 3n+4 without, such as 40, 100, 190 and 250.
        classes: outputs.
        growth: channels that each layer adds, the paper's k: by default 32 (48 at depth 161) in the
            ImageNet form, 12 in the CIFAR.
        form: imagenet, cifar, or auto: imagenet for the depths above, cifar for others.
        stem: paper is the form's own; small a 3x3 of stride 1 without pooling.
        blocks: layers a block, in place of what the depth says.
        width: channels of the stem: by default twice the growth rate, and 16 in the CIFAR form
            without bottlenecks.
        bottleneck: a 1x1 convolution in front of each 3x3 (DenseNet-B).
        compression: share of the channels that a transition keeps (DenseNet-C): by default 0.5
            with bottlenecks, 1 without.
        dropout: rate behind each convolution but the first; 0.2 in the paper's nets for CIFAR
            without augmentation.
        batch_norm_axis: "data" shares BatchNorm's statistics over the devices.
        remat: recompute the layers' activations in the backward pass, since BatchNorm of all maps
            in every layer keeps a number of values that grows with the square of the depth.
        dtype: of the computation, float32 or bfloat16.

    Raises:
        UserError: no such net.
    """
    for name, value, known in (
        ("form", form, ("auto", "imagenet", "cifar")),
        ("stem", stem, ("paper", "small")),
    ):
        if value not in known:
            raise UserError(f"model.{name}={value} is unknown; choose one of {', '.join(known)}.")
    if compression is not None and not 0.0 < compression <= 1.0:
        raise UserError(f"model.compression={compression}: give a share above 0 and up to 1.")
    if form == "auto":
        form = "imagenet" if depth in DEPTHS or (blocks and len(blocks) == 4) else "cifar"
    imagenet = form == "imagenet"
    counts, usual_growth = _blocks_of(depth, form, bottleneck, blocks)
    growth = growth or usual_growth
    usual_stem = "imagenet" if imagenet else "cifar"
    return DenseNet(
        blocks=counts,
        width=width or (2 * growth if imagenet or bottleneck else 16),
        stem=usual_stem if stem == "paper" or not imagenet else stem,
        compression=compression or (0.5 if bottleneck else 1.0),
        layer=LayerConfig(growth, bottleneck, dropout, batch_norm_axis, jnp.dtype(dtype)),
        classes=classes,
        remat=remat,
    )


def _blocks_of(
    depth: int | None, form: str, bottleneck: bool, blocks: tuple[int, ...] | None
) -> tuple[tuple[int, ...], int]:
    """Return the layers a block, and the growth rate that is usual there."""
    imagenet = form == "imagenet"
    if blocks is not None:
        return tuple(blocks), 32 if imagenet else CIFAR_GROWTH
    if imagenet:
        if depth not in DEPTHS:
            known = ", ".join(map(str, DEPTHS))
            raise UserError(
                f"There is no ImageNet DenseNet of model.depth={depth}; there are {known}. Other "
                "layer counts: model.blocks=[6,12,24,16]."
            )
        return DEPTHS[depth]
    step = CIFAR_BLOCKS * (2 if bottleneck else 1)
    if depth is None or depth < 4 + step or (depth - 4) % step:
        below = max(4 + step, ((depth or 0) - 4) // step * step + 4)
        raise UserError(
            f"There is no DenseNet of model.depth={depth}: the ImageNet form has "
            f"{', '.join(map(str, DEPTHS))} layers, the CIFAR form {step}n+4 with "
            f"model.bottleneck={str(bottleneck).lower()}, such as {below} and {below + step}."
        )
    return ((depth - 4) // step,) * CIFAR_BLOCKS, CIFAR_GROWTH
