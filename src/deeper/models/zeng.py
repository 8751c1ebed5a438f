"""Depth and width of nets that find motifs, after Zeng, Edwards, Liu and Gifford 2016,
"Convolutional neural network architectures for predicting DNA-protein binding" (Bioinformatics 32).

As there, the first convolution sees 24 bases, pooling takes the largest value of each kernel over
all positions or (local) over a few, and a dense layer of 32 units follows, with dropout; width is
the number of kernels and depth the number of convolutions. Local pooling keeps where a motif is,
which splice junctions need; its window of 3 is our choice. Later convolutions, of 5 positions and
of the same width, keep the length; they are our choice, so that depth alone changes.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from deeper.errors import UserError
from deeper.kernels.precision import at_least_float32
from deeper.models import layers
from deeper.models.layers import Conv, Dense, Dropout
from deeper.models.reverse_complement import on_strands, require_dna

FIRST = 24  # bases
LATER = 5  # positions
HIDDEN = 32
POOLS = ("global", "local")
WINDOW = 3  # of local pooling


class ZengNet(nn.Module):
    """Convolutions, max pooling, and two dense layers.

    Attributes:
        depth: convolutions.
        width: kernels of each.
        residual: later convolutions have a shortcut.
        pool: global, over all positions, or local.
        dropout: share that is dropped before the last layer.
        classes: outputs.
        dtype: of the computation.
    """

    depth: int
    width: int
    residual: bool
    pool: str
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
        x = at_least_float32(x)
        if self.pool == "local":
            x = layers.flatten(layers.max_pool(x, WINDOW, WINDOW))
        else:
            x = x.max(axis=1)
        x = nn.relu(Dense(HIDDEN, name="fc1")(x))
        return Dense(self.classes, name="fc2")(Dropout(self.dropout)(x, train))


def zeng(
    classes: int,
    *,
    depth: int = 1,
    width: int = 16,
    residual: bool = False,
    pool: str = "global",
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
        pool: global, over all positions, or local.
        dropout: before the last layer.
        strands: one, mean or max of both.
        dtype: of the computation, float32 or bfloat16.

    Raises:
        UserError: no such net.
    """
    if depth < 1 or width < 1:
        raise UserError(f"model.depth={depth} model.width={width}: give 1 or more of each.")
    if pool not in POOLS:
        raise UserError(f"model.pool={pool} is unknown; choose {', '.join(POOLS)}.")
    net = ZengNet(depth, width, residual, pool, dropout, classes, jnp.dtype(dtype))
    return on_strands(net, strands)
