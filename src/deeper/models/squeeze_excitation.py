"""Squeeze-and-excitation: Hu et al. 2017, "Squeeze-and-excitation networks" (arXiv:1709.01507).

The paper's dense layers are 1x1 convolutions of a map of one place in torchvision and timm, which
is the same; names follow theirs.
"""

import flax.linen as nn
import jax

from deeper.models.initializers import HeNormal
from deeper.models.layers import Dense, Maps, global_avg_pool

REDUCTION = 16  # the paper's r, of residual nets
DIVISOR = 8  # timm's nets have a multiple of so many squeezed channels


def squeezed_channels(channels: int, reduction: int) -> int:
    """Return how many channels a block of a residual net squeezes to, as timm rounds it.

    It is ``channels / reduction``, the paper's, in bottlenecks; narrow blocks keep at least 8.
    """
    wished = channels / reduction
    return max(DIVISOR, int(wished + DIVISOR / 2) // DIVISOR * DIVISOR)


class SqueezeExcitation(nn.Module):
    """Scale each channel by a factor between 0 and 1 that the means of all channels tell.

    Attributes:
        squeezed: channels between the two dense layers.
    """

    squeezed: int

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        """Return the maps, scaled."""
        means = global_avg_pool(x)
        rule = HeNormal("out")
        inner = nn.relu(Dense(self.squeezed, rule=rule, name="fc1")(means))
        gates = jax.nn.sigmoid(Dense(x.shape[-1], rule=rule, name="fc2")(inner))
        return x * gates.reshape(x.shape[0], *[1] * (x.ndim - 2), -1).astype(x.dtype)
