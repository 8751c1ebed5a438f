"""What a detector computes of each pooled region, in front of its class and its box."""

from typing import Any

import flax.linen as nn
from jaxtyping import Array

from deeper.models import layers
from deeper.models.initializers import ZEROS, Normal
from deeper.models.layers import BatchNorm, Conv, Dense, Maps
from deeper.models.residual_blocks import Stage
from deeper.models.resnet import ResNet


class PyramidHead(nn.Module):
    """What is behind the aligned regions of a pyramid: dense layers, or convolutions and one.

    Attributes:
        hidden: width of the dense layers.
        convolutions: 3x3 with BatchNorm in front of one dense layer; with none there are two.
        dtype: of the computation.
    """

    hidden: int
    convolutions: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Array:
        """Return vectors."""
        for i in range(1, self.convolutions + 1):
            x = Conv(x.shape[-1], 3, dtype=self.dtype, name=f"conv{i}")(x)
            x = BatchNorm(relu=True, name=f"bn{i}")(x, train)
        x = layers.flatten(x)
        for i in range(1, 2 if self.convolutions else 3):
            x = nn.relu(Dense(self.hidden, dtype=self.dtype, name=f"fc{i}")(x))
        return x


class VGGHead(nn.Module):
    """VGG's two hidden dense layers.

    Attributes:
        hidden: their width.
        dropout: share of their outputs that is dropped.
        dtype: of the computation.
    """

    hidden: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Array:
        """Return vectors."""
        x = layers.flatten(x)
        for i in (1, 2):
            dense = Dense(
                self.hidden, rule=Normal(0.01), bias_rule=ZEROS, dtype=self.dtype, name=f"fc{i}"
            )
            x = layers.Dropout(self.dropout, name=f"dropout{i}")(nn.relu(dense(x)), train)
        return x


class ResNetHead(nn.Module):
    """The last stage of a residual net ("conv5") on each region, and the mean over its map.

    Attributes:
        net: whose last stage it is.
    """

    net: ResNet

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Array:
        """Return vectors."""
        net, number = self.net, len(self.net.stages)
        stage = Stage(
            net.block, net.stages[-1], net.widths[-1], 2, False, net.scan, net.remat,
            name=f"stage{number}",
        )  # fmt: skip
        return layers.global_avg_pool(stage(x, train))
