"""DNA on the device: the other strand, and bases as one-hot rows."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from deeper.errors import UserError

Bases = Int[Array, "batch length"]  # 1 to 4 for A, C, G and T, 0 for an unknown base


def one_hot(bases: Bases) -> Float[Array, "batch length 4"]:
    """Return a row for each base, in the order A, C, G, T; zeros for an unknown base."""
    return jax.nn.one_hot(bases.astype(jnp.int32) - 1, 4)


def reverse_complement(bases: Bases) -> Bases:
    """Return the other strands, each read in its own direction."""
    other = bases[:, ::-1]
    return jnp.where(other == 0, other, 5 - other)


@dataclass(frozen=True)
class ReverseComplement:
    """Give the other strand in place of a sequence, with some probability.

    Attributes:
        probability: 0.5 gives either strand equally often.
    """

    probability: float = 0.5

    def __post_init__(self):
        """Check the value."""
        if not 0.0 <= self.probability <= 1.0:
            raise UserError(
                f"ReverseComplement's probability={self.probability}: give a share from 0 to 1."
            )

    def __call__(self, keys: Key[Array, " batch"], bases: Bases) -> Bases:
        if bases.ndim != 2:
            raise UserError(
                f"ReverseComplement takes DNA (batch, length), and gets {bases.shape}: choose "
                "another augment=NAME for these data."
            )
        other = jax.vmap(lambda key: jax.random.bernoulli(key, self.probability))(keys)
        return jnp.where(other[:, None], reverse_complement(bases), bases)
