"""DeepBind: Alipanahi, Delong, Weirauch and Frey 2015, "Predicting the sequence specificities of
DNA- and RNA-binding proteins by deep learning" (Nature Biotechnology 33), supplementary notes 1-2.

Motif detectors (a convolution over sequences padded by rows of 1/4), a rectifier, the largest value
of each detector, for RNA also its mean, and a dense layer with at most one hidden one before it.
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

POOLS = ("max", "max_and_mean")


class DeepBind(nn.Module):
    """One convolution, pooling over all positions, and one or two dense layers.

    Attributes:
        motifs: detectors.
        length: bases that a detector sees.
        pool: max, or max_and_mean.
        hidden: width of the hidden dense layer; 0 for none.
        dropout: share of the pooled values, and of the hidden ones, that is dropped.
        classes: outputs.
        dtype: of the computation.
    """

    motifs: int
    length: int
    pool: str
    hidden: int
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
        require_dna(sequences, "DeepBind")
        beyond = self.length - 1
        x: Any = jnp.pad(sequences, ((0, 0), (beyond, beyond), (0, 0)), constant_values=0.25)
        conv = Conv(
            self.motifs, self.length, padding=0, use_bias=True, dtype=self.dtype, name="conv1"
        )
        x = nn.relu(conv(x))
        self.sow("intermediates", "stage1_out", x)
        pooled = at_least_float32(x).max(axis=1)
        if self.pool == "max_and_mean":
            pooled = jnp.concatenate([pooled, layers.global_avg_pool(x)], axis=-1)
        x = Dropout(self.dropout)(pooled, train)
        if self.hidden:
            x = nn.relu(Dense(self.hidden, name="fc1")(x))
            x = Dropout(self.dropout)(x, train)
        return Dense(self.classes, name="fc2")(x)


def deepbind(
    classes: int,
    *,
    motifs: int = 16,
    length: int = 24,
    pool: str = "max",
    hidden: int = 32,
    dropout: float = 0.5,
    strands: str = "max",
    dtype: str = "float32",
) -> nn.Module:
    """Return a DeepBind net.

    Args:
        classes: outputs; the paper has one score.
        motifs: detectors, 16 in the paper.
        length: bases that a detector sees; 24 in the paper for ChIP-seq.
        pool: max, or max_and_mean, as the paper for RNA.
        hidden: width of the hidden dense layer, 32 in the paper; 0 for none.
        dropout: the paper draws it by calibration from 0, 0.25 and 0.5.
        strands: one, mean or max of both; max in the paper.
        dtype: of the computation, float32 or bfloat16.

    Raises:
        UserError: no such net.
    """
    if pool not in POOLS:
        raise UserError(f"model.pool={pool} is unknown; choose {', '.join(POOLS)}.")
    net = DeepBind(motifs, length, pool, hidden, dropout, classes, jnp.dtype(dtype))
    return on_strands(net, strands)
