"""Random operations on batches of tokens (batch, length), 0 behind the end of a text."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from deeper.errors import UserError

UNKNOWN = 1  # the token of what a reader does not know, see `deeper.data.text`


@dataclass(frozen=True)
class WordDropout:
    """Replace tokens by the unknown one, each independently (Bowman et al. 2016, section 3.1).

    Attributes:
        rate: share that is replaced, 0 to below 1.
    """

    rate: float

    def __post_init__(self):
        """Check the rate."""
        if not 0 <= self.rate < 1:
            raise UserError(f"WordDropout(rate={self.rate}): give a share of 0 to below 1.")

    def __call__(
        self, keys: Key[Array, " batch"], texts: Int[Array, "batch length"]
    ) -> Int[Array, "batch length"]:
        if texts.ndim != 2 or not jnp.issubdtype(texts.dtype, jnp.integer):
            raise UserError(
                f"WordDropout is for texts, tokens (batch, length), and gets {texts.dtype} of "
                f"shape {texts.shape}: choose another augment=NAME."
            )
        dropped = jax.vmap(lambda key: jax.random.bernoulli(key, self.rate, texts.shape[1:]))(keys)
        return jnp.where(dropped & (texts != 0), UNKNOWN, texts)
