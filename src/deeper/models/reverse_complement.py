"""One net on both strands of DNA.

A factor binds either strand, so that the answer should not depend on which was sequenced. Alipanahi
et al. 2015 take the larger score of the two strands, Zhou and Troyanskaya 2015 their mean.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from deeper.errors import UserError

STRANDS = ("one", "mean", "max")


class BothStrands(nn.Module):
    """The mean, or the larger, of a net's logits for the two strands of each sequence.

    In training the net is run twice as well; BatchNorm takes the statistics of each strand by
    itself, and its running ones take in both.

    Attributes:
        net: takes one-hot rows in the order A, C, G, T.
        strands: mean or max.
    """

    net: nn.Module
    strands: str

    @nn.compact
    def __call__(
        self, sequences: Float[Array, "batch length 4"], *, train: bool
    ) -> Float[Array, "batch classes"]:
        """Return logits."""
        # The order of the bases backwards is that of their complements.
        other: Any = self.net(sequences[:, ::-1, ::-1], train=train)
        # Last: what is captured of a layer called twice, such as a stage's maps, is the last call.
        given: Any = self.net(sequences, train=train)
        return (given + other) / 2 if self.strands == "mean" else jnp.maximum(given, other)


def on_strands(net: nn.Module, strands: str) -> nn.Module:
    """Return a net on one strand, as it is, or on both.

    Args:
        net: takes one-hot rows in the order A, C, G, T.
        strands: a name in `STRANDS`.

    Raises:
        UserError: there is no such name.
    """
    if strands not in STRANDS:
        raise UserError(f"model.strands={strands} is unknown; choose {', '.join(STRANDS)}.")
    return net if strands == "one" else BothStrands(net, strands)


def require_dna(sequences: Any, net: str) -> None:
    """Raise a UserError if a net's inputs are no one-hot rows of four bases."""
    if sequences.ndim != 3 or sequences.shape[-1] != 4:
        raise UserError(
            f"{net} takes DNA as one-hot rows (batch, length, 4), and gets an input of shape "
            f"{sequences.shape}: choose another model=NAME for these data."
        )
