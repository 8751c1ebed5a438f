"""Char-CNN: Zhang, Zhao and LeCun 2015, "Character-level convolutional networks for text
classification" (arXiv:1509.01626), tables 1 and 2: six convolutions and three dense layers.

Characters are one-hot; unknown ones and padding are zero. Texts have one length, and padding is
read as in the paper, whose texts, however, are read from their end.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from deeper.errors import UserError
from deeper.kernels.precision import at_least_float32
from deeper.models import layers
from deeper.models.initializers import Normal
from deeper.models.layers import Conv, Dense, Dropout

# (kernel, pooling or none) of each convolution, table 1; no padding.
CONVOLUTIONS = ((7, 3), (7, 3), (3, None), (3, None), (3, None), (3, 3))
# size -> (channels, width of the dense layers, deviation of the first weights), tables 1 and 2.
SIZES = {"small": (256, 1024, 0.05), "large": (1024, 2048, 0.02)}
SPECIAL = 2  # tokens that are no character: padding and the unknown one
SHORTEST = 123  # characters that leave the last layer one position


class CharCNN(nn.Module):
    """Six convolutions and three dense layers.

    Attributes:
        classes: outputs.
        tokens: that there are: padding, the unknown character, and the alphabet.
        channels: of the convolutions.
        hidden: width of the two hidden dense layers.
        std: standard deviation of the first weights.
        dtype: of the computation.
    """

    classes: int
    tokens: int
    channels: int
    hidden: int
    std: float
    dtype: Any

    @nn.compact
    def __call__(self, texts: Any, *, train: bool) -> Float[Array, "batch classes"]:
        """Return logits.

        Args:
            texts: tokens int32 (batch, length); or one-hot rows (batch, length, tokens).
            train: with dropout.
        """
        if texts.shape[1] < SHORTEST:
            raise UserError(
                f"data.length={texts.shape[1]} is too short for Char-CNN, which has no padding: "
                f"give {SHORTEST} or more."
            )
        if jnp.issubdtype(texts.dtype, jnp.integer):
            texts = jax.nn.one_hot(texts, self.tokens, dtype=self.dtype)
        x = texts[..., SPECIAL:].astype(self.dtype)
        rule = Normal(self.std)
        for number, (kernel, pooling) in enumerate(CONVOLUTIONS, 1):
            x = Conv(
                self.channels,
                kernel,
                padding=0,
                use_bias=True,
                rule=rule,
                dtype=self.dtype,
                name=f"conv{number}",
            )(x)
            x = nn.relu(x)
            if pooling is not None:
                x = layers.max_pool(x, pooling, pooling)
            self.sow("intermediates", f"stage{number}_out", x)
        x = layers.flatten(x)
        for number in (1, 2):
            x = nn.relu(Dense(self.hidden, rule, dtype=self.dtype, name=f"fc{number}")(x))
            x = Dropout(0.5, name=f"dropout{number}")(x, train)
        return Dense(self.classes, rule, name="fc3")(at_least_float32(x))


def charcnn(classes: int, tokens: int, *, size: str = "small", dtype: str = "float32") -> CharCNN:
    """Return a Char-CNN.

    Args:
        classes: outputs.
        tokens: that there are: padding, the unknown character, and the alphabet.
        size: small or large.
        dtype: of the computation, float32 or bfloat16.

    Raises:
        UserError: no such net.
    """
    if size not in SIZES:
        raise UserError(f"model.size={size} is unknown; choose {' or '.join(SIZES)}.")
    channels, hidden, std = SIZES[size]
    return CharCNN(
        classes=classes,
        tokens=tokens,
        channels=channels,
        hidden=hidden,
        std=std,
        dtype=jnp.dtype(dtype),
    )
