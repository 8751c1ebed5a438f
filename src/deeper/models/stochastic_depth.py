"""Stochastic depth: Huang et al. 2016, "Deep networks with stochastic depth" (arXiv:1603.09382).

In training a residual block's branch is left out, for each example on its own, with a probability
that grows with depth. Where the paper scales the branch down in evaluation, here it is scaled up in
training, as in torchvision and timm: the same function of the mean, and evaluation has no factor.
"""

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from deeper.errors import UserError
from deeper.models.layers import Maps, random_by_row

Factors = Float[Array, " batch"]


class StochasticDepth(nn.Module):
    """The factors of a residual branch: zero, or one over the share of branches that stay.

    An example's factor is a function of its row in the global batch, as with `layers.Dropout`.

    Attributes:
        rate: share of the branches that are left out.
    """

    rate: float

    @nn.compact
    def __call__(self, batch: int, train: bool) -> Factors | None:
        """Return a factor for each example; None where every branch stays as it is."""
        if not train or self.rate == 0.0:
            return None
        stays = random_by_row(self, batch, lambda key: jax.random.bernoulli(key, 1.0 - self.rate))
        return stays / (1.0 - self.rate)


def scaled(branch: Maps, factors: Factors | None) -> Maps:
    """Return a residual branch, times its factors."""
    if factors is None:
        return branch
    return branch * factors.reshape(-1, *[1] * (branch.ndim - 1)).astype(branch.dtype)


def rising(rate: float, blocks: int) -> tuple[float, ...]:
    """Return each block's rate: it rises linearly to that of the last (the paper's section 3).

    Args:
        rate: of the last block; 1 - p_L in the paper.
        blocks: of the net.
    """
    return tuple(rate * number / blocks for number in range(1, blocks + 1))


def require_rate(rate: float) -> None:
    """Raise a UserError unless a rate is a share."""
    if not 0.0 <= rate < 1.0:
        raise UserError(f"model.stochastic_depth={rate}: give a share of 0 to below 1.")
