"""Basset: Kelley, Snoek and Rinn 2016, "Basset: learning the regulatory code of the accessible
genome with deep convolutional neural networks" (Genome Research 26): 600 bases, 164 cells.

Three convolutions with BatchNorm and max pooling, without padding, and two hidden dense layers. The
widths are those of the paper's text; padding and the order of layers those of the authors' trained
net (pretrained_params.txt).
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from deeper.kernels.precision import at_least_float32
from deeper.models import layers
from deeper.models.layers import BatchNorm, Conv, Dense, Dropout
from deeper.models.reverse_complement import on_strands, require_dna

CONVOLUTIONS = ((300, 19, 3), (200, 11, 4), (200, 7, 4))  # (filters, bases, pooling)
HIDDEN = (1000, 1000)


class Basset(nn.Module):
    """Convolutions, each with BatchNorm, rectifier and max pooling, then dense layers.

    Attributes:
        convolutions: (filters, length, pooling) of each.
        hidden: widths of the hidden dense layers.
        dropout: share that is dropped behind each hidden dense layer.
        classes: outputs.
        axis: mesh axis of BatchNorm's statistics.
        dtype: of the computation.
    """

    convolutions: tuple[tuple[int, int, int], ...]
    hidden: tuple[int, ...]
    dropout: float
    classes: int
    axis: str | None
    dtype: Any

    @nn.compact
    def __call__(
        self, sequences: Float[Array, "batch length 4"], *, train: bool
    ) -> Float[Array, "batch classes"]:
        """Return logits.

        Args:
            sequences: one-hot rows, zeros for an unknown base.
            train: by the batch's own statistics, and drop values.
        """
        require_dna(sequences, "Basset")
        x: Any = sequences
        for number, (filters, length, pool) in enumerate(self.convolutions, 1):
            conv = Conv(
                filters, length, padding=0, use_bias=True, dtype=self.dtype, name=f"conv{number}"
            )
            x = BatchNorm(relu=True, axis=self.axis, name=f"bn{number}")(conv(x), train)
            x = layers.max_pool(x, pool, pool)
            self.sow("intermediates", f"stage{number}_out", x)
        x = layers.flatten(x)
        for number, width in enumerate(self.hidden, 1):
            x = Dense(width, dtype=self.dtype, name=f"fc{number}")(x)
            norm = BatchNorm(relu=True, axis=self.axis, name=f"fc_bn{number}")
            x = Dropout(self.dropout)(norm(x, train), train)
        return Dense(self.classes, name=f"fc{len(self.hidden) + 1}")(at_least_float32(x))


def basset(
    classes: int,
    *,
    scale: float = 1.0,
    dropout: float = 0.3,
    strands: str = "one",
    batch_norm_axis: str | None = None,
    dtype: str = "float32",
) -> nn.Module:
    """Return Basset.

    Args:
        classes: outputs, 164 in the paper.
        scale: share of the paper's filters and hidden units.
        dropout: 0.3 in the paper.
        strands: one, mean or max of both.
        batch_norm_axis: "data" shares BatchNorm's statistics over the devices.
        dtype: of the computation, float32 or bfloat16.
    """

    def scaled(count: int) -> int:
        return max(1, round(scale * count))

    net = Basset(
        convolutions=tuple((scaled(count), length, pool) for count, length, pool in CONVOLUTIONS),
        hidden=tuple(scaled(units) for units in HIDDEN),
        dropout=dropout,
        classes=classes,
        axis=batch_norm_axis,
        dtype=jnp.dtype(dtype),
    )
    return on_strands(net, strands)
