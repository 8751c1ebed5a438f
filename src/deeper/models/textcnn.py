"""TextCNN: Kim 2014, "Convolutional neural networks for sentence classification"
(arXiv:1408.5882), section 2: one layer of convolutions of several widths over vectors of words.

Words' vectors begin at random or from a file (``data.vectors``), and are trained or stay as they
are: his CNN-rand, -static, -non-static and -multichannel. Unlike his, answers do not depend on the
padding, and the norms of the last layer's rows are not bounded.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from deeper.errors import UserError
from deeper.kernels.precision import at_least_float32
from deeper.models import layers, valid_region
from deeper.models.initializers import Uniform
from deeper.models.layers import Conv, Dense, Dropout, Embedding

# Variance of word2vec's vectors, within which Kim draws those of other words.
VECTORS = Uniform(0.25)
# Which tables there are: name -> whether it is trained.
CHANNELS = {
    "trained": {"embedding": True},
    "static": {"embedding_static": False},
    "multichannel": {"embedding": True, "embedding_static": False},
}


class TextCNN(nn.Module):
    """Convolutions of several widths, the largest value of each, and one dense layer.

    Attributes:
        classes: outputs.
        tokens: that there are, padding counted; see `layers.Embedding`.
        features: of a word's vector.
        channels: a key of `CHANNELS`.
        widths: words that a convolution sees.
        maps: of each width.
        dropout: share of the largest values that is dropped in training.
        dtype: of the computation.
    """

    classes: int
    tokens: int
    features: int
    channels: str
    widths: tuple[int, ...]
    maps: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, texts: Any, *, train: bool) -> Float[Array, "batch classes"]:
        """Return logits.

        Args:
            texts: tokens int32 (batch, length), 0 behind the end; or one-hot rows (batch, length,
                tokens).
            train: with dropout.
        """
        tables = [
            Embedding(self.tokens, self.features, VECTORS, trained, self.dtype, name=name)
            for name, trained in CHANNELS[self.channels].items()
        ]
        # Each filter is applied to all channels and the results are added (section 2.1): to their
        # sum, since a convolution is linear.
        x = sum((table(texts) for table in tables[1:]), start=tables[0](texts))
        with valid_region.padded_sequences(texts.shape[1], valid_region.lengths_of(texts)):
            found = []
            for width in self.widths:
                conv = Conv(
                    self.maps,
                    width,
                    padding=width - 1,
                    use_bias=True,
                    rule=Uniform(0.01),
                    dtype=self.dtype,
                    name=f"conv{width}",
                )
                found.append(layers.global_max_pool(nn.relu(conv(x))))
        pooled = jnp.concatenate(found, axis=-1)
        self.sow("intermediates", "stage1_out", pooled)
        pooled = Dropout(self.dropout, name="dropout")(pooled, train)
        return Dense(self.classes, name="fc")(at_least_float32(pooled))


def textcnn(
    classes: int,
    tokens: int,
    *,
    features: int = 300,
    channels: str = "trained",
    widths: tuple[int, ...] = (3, 4, 5),
    maps: int = 100,
    dropout: float = 0.5,
    dtype: str = "float32",
) -> TextCNN:
    """Return a TextCNN.

    Args:
        classes: outputs.
        tokens: that there are, padding counted.
        features: of a word's vector; as many as the vectors of ``data.vectors`` have.
        channels: trained, static or multichannel.
        widths: words that a convolution sees, each once.
        maps: of each width.
        dropout: share of the largest values that is dropped in training.
        dtype: of the computation, float32 or bfloat16.

    Raises:
        UserError: no such net.
    """
    if channels not in CHANNELS:
        raise UserError(f"model.channels={channels} is unknown; choose {', '.join(CHANNELS)}.")
    if not widths or len(set(widths)) != len(widths) or min(widths) < 1:
        raise UserError(f"model.widths={list(widths)}: give widths of 1 or more, each once.")
    return TextCNN(
        classes=classes,
        tokens=tokens,
        features=features,
        channels=channels,
        widths=tuple(widths),
        maps=maps,
        dropout=dropout,
        dtype=jnp.dtype(dtype),
    )
