"""DeepSEA: Zhou and Troyanskaya 2015, "Predicting effects of noncoding variants with deep
learning-based sequence model" (Nature Methods 12), supplementary note: 1,000 bases, 919 labels.

Three convolutions of 8 bases without padding, two max poolings, and one hidden dense layer. Quang
and Xie 2016 (DanQ) count 52,843,119 parameters. Weight decay and the limit on the norms of kernels,
which the paper trains with, are the optimizer's.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from deeper.kernels.precision import at_least_float32
from deeper.models import layers
from deeper.models.layers import Conv, Dense, Dropout
from deeper.models.reverse_complement import on_strands, require_dna

FILTERS = (320, 480, 960)
KERNEL = 8
POOL = 4
HIDDEN = 925
DROPOUT = (0.2, 0.2, 0.5)  # behind each convolution


class DeepSEA(nn.Module):
    """Three convolutions, the first two with max pooling, and two dense layers.

    Attributes:
        filters: of each convolution.
        hidden: width of the hidden dense layer.
        classes: outputs.
        dtype: of the computation.
    """

    filters: tuple[int, ...]
    hidden: int
    classes: int
    dtype: Any

    @nn.compact
    def __call__(
        self, sequences: Float[Array, "batch length 4"], *, train: bool
    ) -> Float[Array, "batch labels"]:
        """Return logits.

        Args:
            sequences: one-hot rows, zeros for an unknown base.
            train: drop values.
        """
        require_dna(sequences, "DeepSEA")
        x: Any = sequences
        last = len(self.filters)
        for number, (filters, rate) in enumerate(zip(self.filters, DROPOUT, strict=True), 1):
            conv = Conv(
                filters, KERNEL, padding=0, use_bias=True, dtype=self.dtype, name=f"conv{number}"
            )
            x = nn.relu(conv(x))
            if number < last:
                x = layers.max_pool(x, POOL, POOL)
            x = Dropout(rate)(x, train)
            self.sow("intermediates", f"stage{number}_out", x)
        x = nn.relu(Dense(self.hidden, dtype=self.dtype, name="fc1")(layers.flatten(x)))
        return Dense(self.classes, name="fc2")(at_least_float32(x))


def deepsea(
    classes: int,
    *,
    scale: float = 1.0,
    strands: str = "one",
    dtype: str = "float32",
) -> nn.Module:
    """Return DeepSEA.

    Args:
        classes: outputs, 919 in the paper.
        scale: share of the paper's filters and hidden units.
        strands: one, mean or max of both.
        dtype: of the computation, float32 or bfloat16.
    """
    filters = tuple(max(1, round(scale * count)) for count in FILTERS)
    net = DeepSEA(filters, max(1, round(scale * HIDDEN)), classes, jnp.dtype(dtype))
    return on_strands(net, strands)
