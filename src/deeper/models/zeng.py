"""Depth and width of nets that find motifs, after Zeng, Edwards, Liu and Gifford 2016,
"Convolutional neural network architectures for predicting DNA-protein binding" (Bioinformatics 32).

As there, the first convolution sees 24 bases, pooling takes the largest value of each kernel over
all positions, and a dense layer of 32 units follows, with dropout; width is the number of kernels
and depth the number of convolutions. Later convolutions, of 5 positions and of the same width, keep
the length; they are our choice, so that depth alone changes from net to net.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from deeper.errors import UserError
from deeper.kernels.precision import at_least_float32
from deeper.models.layers import Conv, Dense, Dropout
from deeper.models.reverse_complement import on_strands, require_dna

FIRST = 24  # bases
LATER = 5  # positions
HIDDEN = 32


class ZengNet(nn.Module):
    """Convolutions, the largest value over all positions, and two dense layers.

    Attributes:
        depth: convolutions.
        width: kernels of each.
        residual: later convolutions have a shortcut.
        dropout: share that is dropped before the last layer.
        classes: outputs.
        dtype: of the computation.
    """

    depth: int
    width: int
    residual: bool
    dropout: float
    classes: int
    dtype: Any

    @nn.compact
    def __call__(
        self, sequences: Float[Array, "batch length 4"], *, train: bool
    ) -> Float[Array, "batch classes"]:
        """Return logits.

        Args:
            sequences: one-hot rows, zeros for an unknown base.
            train: drop values.
        """
        require_dna(sequences, "This net")
        x: Any = sequences
        for number in range(1, self.depth + 1):
            kernel = FIRST if number == 1 else LATER
            conv = Conv(self.width, kernel, use_bias=True, dtype=self.dtype, name=f"conv{number}")
            y = conv(x)
            x = nn.relu(x + y if self.residual and number > 1 else y)
            self.sow("intermediates", f"stage{number}_out", x)
        x = nn.relu(Dense(HIDDEN, name="fc1")(at_least_float32(x).max(axis=1)))
        return Dense(self.classes, name="fc2")(Dropout(self.dropout)(x, train))


def zeng(
    classes: int,
    *,
    depth: int = 1,
    width: int = 16,
    residual: bool = False,
    dropout: float = 0.5,
    strands: str = "one",
    dtype: str = "float32",
) -> nn.Module:
    """Return a net of the family.

    Args:
        classes: outputs.
        depth: convolutions, 1 to 3 in the paper.
        width: kernels of each, 1 to 128 in the paper.
        residual: with shortcuts around later convolutions.
        dropout: before the last layer.
        strands: one, mean or max of both.
        dtype: of the computation, float32 or bfloat16.

    Raises:
        UserError: no such net.
    """
    if depth < 1 or width < 1:
        raise UserError(f"model.depth={depth} model.width={width}: give 1 or more of each.")
    net = ZengNet(depth, width, residual, dropout, classes, jnp.dtype(dtype))
    return on_strands(net, strands)
