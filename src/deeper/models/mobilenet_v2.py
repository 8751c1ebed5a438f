"""MobileNetV2: Sandler et al. 2018, "MobileNetV2: inverted residuals and linear bottlenecks"
(arXiv:1801.04381), table 2; names, padding and first values as in torchvision.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from deeper.errors import UserError
from deeper.models import layers
from deeper.models.initializers import ZEROS, Normal
from deeper.models.layers import BatchNorm, Conv, Dense, Dropout, Maps


class Row(NamedTuple):
    """A row of table 2: t, c, n and s."""

    expansion: int
    channels: int
    blocks: int
    stride: int


ROWS = (
    Row(1, 16, 1, 1),
    Row(6, 24, 2, 2),
    Row(6, 32, 3, 2),
    Row(6, 64, 4, 2),
    Row(6, 96, 3, 1),
    Row(6, 160, 3, 2),
    Row(6, 320, 1, 1),
)
FIRST, LAST = 32, 1280  # channels of the first and of the last convolution
DIVISOR = 8  # channels are a multiple of it
# In the small form, images of 28 to 64 pixels keep their size up to this row.
SMALL_UP_TO = 2


class Widths(NamedTuple):
    """Channels of the first convolution, of each row's blocks, and of the last convolution."""

    first: int
    rows: tuple[int, ...]
    last: int


def widths_of(multiplier: float) -> Widths:
    """Return the channels of a net of some width, as torchvision rounds them."""
    rows = tuple(rounded(row.channels * multiplier) for row in ROWS)
    return Widths(rounded(FIRST * multiplier), rows, rounded(LAST * max(1.0, multiplier)))


def rounded(channels: float) -> int:
    """Return the nearest multiple of 8 that is not below by more than a tenth."""
    nearest = max(DIVISOR, int(channels + DIVISOR / 2) // DIVISOR * DIVISOR)
    return nearest + DIVISOR if nearest < 0.9 * channels else nearest


def relu6(x: Maps) -> Maps:
    """Rectify, and cut off at six (the paper's section 3.2)."""
    return jnp.minimum(nn.relu(x), 6.0)


class InvertedResidual(nn.Module):
    """Expand by a 1x1, a depthwise 3x3, and a linear 1x1 to few channels (figure 3b).

    Attributes:
        channels: of the result.
        stride: of the 3x3; there is a shortcut where neither size nor channels change.
        expansion: t; without the first 1x1 where it is 1.
        batch_norm_axis: see `layers.BatchNorm`.
        dtype: of the computation.
    """

    channels: int
    stride: int
    expansion: int
    batch_norm_axis: str | None
    dtype: Any

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Maps:
        """Return maps of ``channels``."""

        def normalised(name: str, y: Maps) -> Maps:
            return BatchNorm(axis=self.batch_norm_axis, name=f"{name}_bn")(y, train)

        inner, y = x.shape[-1] * self.expansion, x
        if self.expansion > 1:
            y = Conv(inner, 1, dtype=self.dtype, name="expand_conv")(y)
            y = relu6(normalised("expand", y))
        depthwise = Conv(
            inner, 3, self.stride, groups=inner, dtype=self.dtype, name="depthwise_conv"
        )
        y = relu6(normalised("depthwise", depthwise(y)))
        y = Conv(self.channels, 1, dtype=self.dtype, name="project_conv")(y)
        y = normalised("project", y)
        return x + y if self.stride == 1 and x.shape[-1] == self.channels else y


class Stage(nn.Module):
    """The blocks of a row.

    Attributes:
        row: of table 2.
        channels: of its blocks.
        stride: of the first block.
        batch_norm_axis: see `layers.BatchNorm`.
        dtype: of the computation.
    """

    row: Row
    channels: int
    stride: int
    batch_norm_axis: str | None
    dtype: Any

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Maps:
        """Return the maps after the last block."""
        for number in range(1, self.row.blocks + 1):
            block = InvertedResidual(
                self.channels,
                self.stride if number == 1 else 1,
                self.row.expansion,
                self.batch_norm_axis,
                self.dtype,
                name=f"block{number}",
            )
            x = block(x, train)
        return x


class MobileNetV2(nn.Module):
    """A 3x3 convolution, the rows' blocks, a 1x1, the mean over each map and a dense layer.

    Attributes:
        widths: channels.
        classes: outputs.
        small: without the first two strides, for images of 28 to 64 pixels.
        dropout: rate in front of the last layer.
        batch_norm_axis: see `layers.BatchNorm`.
        dtype: of the computation.
    """

    widths: Widths
    classes: int
    small: bool
    dropout: float
    batch_norm_axis: str | None
    dtype: Any

    @nn.compact
    def __call__(self, images: Maps, *, train: bool) -> Float[Array, "batch classes"]:
        """Return logits."""
        axis, dtype = self.batch_norm_axis, self.dtype
        x = Conv(self.widths.first, 3, 1 if self.small else 2, dtype=dtype, name="conv1")(images)
        x = relu6(BatchNorm(axis=axis, name="bn1")(x, train))
        for i, (row, channels) in enumerate(zip(ROWS, self.widths.rows, strict=True), 1):
            stride = 1 if self.small and i <= SMALL_UP_TO else row.stride
            x = Stage(row, channels, stride, axis, dtype, name=f"stage{i}")(x, train)
            self.sow("intermediates", f"stage{i}_out", x)
        x = Conv(self.widths.last, 1, dtype=dtype, name="conv_last")(x)
        x = relu6(BatchNorm(axis=axis, name="bn_last")(x, train))
        self.sow("intermediates", f"stage{len(ROWS) + 1}_out", x)
        x = Dropout(self.dropout, name="dropout")(layers.global_avg_pool(x), train)
        return Dense(self.classes, rule=Normal(0.01), bias_rule=ZEROS, name="fc")(x)


def mobilenet_v2(
    classes: int,
    *,
    width_multiplier: float = 1.0,
    stem: str = "paper",
    dropout: float = 0.2,
    batch_norm_axis: str | None = None,
    dtype: str = "float32",
) -> MobileNetV2:
    """Return MobileNetV2.

    Args:
        classes: outputs.
        width_multiplier: of all channels, but those of the last convolution below 1.
        stem: paper, or small for images of 28 to 64 pixels, without the first two strides.
        dropout: rate in front of the last layer; 0.2 in torchvision and in the authors' code.
        batch_norm_axis: "data" shares BatchNorm's statistics over the devices.
        dtype: of the computation, float32 or bfloat16.
    """
    if stem not in ("paper", "small"):
        raise UserError(f"model.stem={stem} is unknown; choose paper or small.")
    if width_multiplier <= 0:
        raise UserError(f"model.width_multiplier={width_multiplier}: give a number above 0.")
    return MobileNetV2(
        widths=widths_of(width_multiplier),
        classes=classes,
        small=stem == "small",
        dropout=dropout,
        batch_norm_axis=batch_norm_axis,
        dtype=jnp.dtype(dtype),
    )
