"""Feature pyramids (Lin et al. 2017, arXiv:1612.03144), as torchvision has them."""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from deeper.models import valid_region
from deeper.models.initializers import ZEROS, FanInUniform
from deeper.models.layers import BatchNorm, Conv, Maps


class Pyramid(nn.Module):
    """Lateral 1x1 convolutions, sums from the coarsest map down, 3x3 convolutions.

    Attributes:
        channels: of all its maps.
        batch_norm: behind each convolution, in place of a bias.
        dtype: of the computation.
    """

    channels: int
    batch_norm: bool
    dtype: Any

    @nn.compact
    def __call__(self, maps: Sequence[Maps], train: bool) -> list[Maps]:
        """Return a map of each stride, and one of twice the largest stride."""

        def conv(name: str, x: Maps, kernel: int) -> Maps:
            rule = FanInUniform(kernel * kernel * x.shape[-1], gain=math.sqrt(3))
            layer = Conv(
                self.channels, kernel, use_bias=not self.batch_norm, rule=rule, bias_rule=ZEROS,
                dtype=self.dtype, name=name,
            )  # fmt: skip
            y = layer(x)
            return BatchNorm(name=f"{name}_bn")(y, train) if self.batch_norm else y

        above, found = None, []
        for number in reversed(range(len(maps))):
            x = conv(f"lateral{number + 1}", maps[number], 1)
            above = x if above is None else x + _enlarged(above, x.shape[1:3])
            found.append(conv(f"output{number + 1}", above, 3))
        last = found[0][:, ::2, ::2]
        valid_region.record_size(found[0], last, lambda size: (size + 1) // 2)
        return [*reversed(found), last]


def _enlarged(x: Maps, shape: tuple[int, ...]) -> Maps:
    """Repeat places so that a map is twice as large."""
    for axis in (1, 2):
        x = jnp.repeat(x, shape[axis - 1] // x.shape[axis], axis=axis)
    return x
