"""VDCNN: Conneau, Schwenk, Barrault and LeCun 2017, "Very deep convolutional networks for text
classification" (arXiv:1606.01781), figure 1 and table 2: characters, 9 to 49 layers.

The depth counts the convolutions, two a block and the first one; three dense layers follow. Unlike
the paper's, which pads every text to 1,014 characters and reads the padding too, answers do not
depend on the padding. The numbers of parameters in table 2 are not compared with ours.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from deeper.errors import UserError
from deeper.kernels.precision import at_least_float32
from deeper.models import layers, valid_region
from deeper.models.layers import Conv, Dense, Embedding
from deeper.models.residual_blocks import BlockConfig, Stage, basic_blocks

# Depth -> blocks of two convolutions in each stage; the first convolution stands before them.
DEPTHS = {9: (1, 1, 1, 1), 17: (2, 2, 2, 2), 29: (5, 5, 2, 2), 49: (8, 8, 5, 3)}
WIDTH = 64  # channels of the first stage; each has twice as many as the one before
FEATURES = 16  # of a character
KEPT = 8  # positions that the dense layers see
HIDDEN = 2048
DOWNSAMPLING = ("convolution", "k_max", "max")


class VDCNN(nn.Module):
    """A convolution, four stages of blocks, k-max pooling and three dense layers.

    Attributes:
        stages: blocks a stage.
        widths: channels of each stage.
        classes: outputs.
        tokens: that there are, padding counted; see `layers.Embedding`.
        downsampling: how the length is halved between stages: the next convolution's stride,
            k-max pooling, or max pooling of 3 at stride 2.
        block: what all blocks share.
        hidden: width of the two hidden dense layers.
        dtype: of the computation.
    """

    stages: tuple[int, ...]
    widths: tuple[int, ...]
    classes: int
    tokens: int
    downsampling: str
    block: BlockConfig
    hidden: int
    dtype: Any

    @nn.compact
    def __call__(self, texts: Any, *, train: bool) -> Float[Array, "batch classes"]:
        """Return logits.

        Args:
            texts: tokens int32 (batch, length), 0 behind the end; or one-hot rows (batch, length,
                tokens).
            train: by the batch's own statistics.
        """
        x = Embedding(self.tokens, FEATURES, dtype=self.dtype, name="embedding")(texts)
        with valid_region.padded_sequences(texts.shape[1], valid_region.lengths_of(texts)):
            x = Conv(self.widths[0], 3, dtype=self.dtype, name="conv1")(x)
            for number, (blocks, width) in enumerate(zip(self.stages, self.widths, strict=True), 1):
                stride = 1
                if number > 1:
                    if self.downsampling == "convolution":
                        stride = 2
                    else:
                        x = self._halved(x)
                first = number == 1
                stage = Stage(
                    self.block, blocks, width, stride, first, False, False, name=f"stage{number}"
                )
                x = stage(x, train)
                self.sow("intermediates", f"stage{number}_out", x)
            x = layers.flatten(layers.k_max_pool(x, KEPT))
        for number in (1, 2):
            x = nn.relu(Dense(self.hidden, dtype=self.dtype, name=f"fc{number}")(x))
        return Dense(self.classes, name="fc3")(at_least_float32(x))

    def _halved(self, x: Any) -> Any:
        if self.downsampling == "k_max":
            return layers.k_max_pool(x, -(-x.shape[1] // 2), share=2)
        return layers.max_pool(x, 3, 2, padding=1)


def vdcnn(
    depth: int,
    classes: int,
    tokens: int,
    *,
    residual: bool = False,
    downsampling: str = "max",
    width: int = WIDTH,
    hidden: int = HIDDEN,
    batch_norm_axis: str | None = None,
    dtype: str = "float32",
) -> VDCNN:
    """Return a VDCNN.

    Args:
        depth: convolutions: 9, 17, 29 or 49.
        classes: outputs.
        tokens: that there are, padding counted.
        residual: with shortcuts around blocks.
        downsampling: convolution, k_max or max.
        width: channels of the first stage, 64 in the paper.
        hidden: width of the hidden dense layers, 2048 in the paper.
        batch_norm_axis: "data" shares BatchNorm's statistics over the devices.
        dtype: of the computation, float32 or bfloat16.

    Raises:
        UserError: no such net.
    """
    if depth not in DEPTHS:
        known = ", ".join(map(str, DEPTHS))
        raise UserError(f"There is no VDCNN of model.depth={depth}; the paper's have {known}.")
    if downsampling not in DOWNSAMPLING:
        raise UserError(
            f"model.downsampling={downsampling} is unknown; choose {', '.join(DOWNSAMPLING)}."
        )
    block = basic_blocks(residual, "B", batch_norm_axis, dtype)
    return VDCNN(
        stages=DEPTHS[depth],
        widths=tuple(width * 2**number for number in range(len(DEPTHS[depth]))),
        classes=classes,
        tokens=tokens,
        downsampling=downsampling,
        block=block,
        hidden=hidden,
        dtype=jnp.dtype(dtype),
    )
