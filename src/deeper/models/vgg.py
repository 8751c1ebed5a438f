"""VGG nets: Simonyan and Zisserman 2014, "Very deep convolutional networks for large-scale image
recognition" (arXiv:1409.1556), table 1, columns A, B, D and E; names and head as in torchvision.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from deeper.errors import UserError
from deeper.kernels.precision import at_least_float32
from deeper.models import layers
from deeper.models.initializers import ZEROS, Normal
from deeper.models.layers import BatchNorm, Conv, Dense, Dropout, Maps
from deeper.models.windows import mean_of_windows, windows

# 3x3 convolutions a stage; each stage ends with 2x2 max pooling.
DEPTHS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """Stages of 3x3 convolutions, then three dense layers.

    Attributes:
        stages: convolutions a stage.
        classes: outputs.
        batch_norm: normalise after each convolution (not in the paper).
        batch_norm_axis: see `layers.BatchNorm`.
        hidden: width of the two hidden dense layers, 4096 in the paper.
        dropout: rate after the hidden layers.
        dtype: of the computation.
        window: (height, width) of the windows of the last map that the dense layers are applied to;
            see `fully_convolutional.over_whole_images`. None: they take the whole map.
        pool_size: side of the map that the dense layers take, whatever the size of the images;
            None: at most 7, and less where the last map is smaller.
        last_pool: whether the last stage ends with pooling; a detector pools its regions instead.
        width: channels of the first stage, 64 in the paper.
    """

    stages: tuple[int, ...]
    classes: int
    batch_norm: bool
    batch_norm_axis: str | None
    hidden: int
    dropout: float
    dtype: Any
    window: tuple[int, int] | None = None
    pool_size: int | None = None
    last_pool: bool = True
    width: int = 64

    @nn.compact
    def __call__(self, images: Maps, *, train: bool) -> Float[Array, "batch classes"]:
        """Return logits."""
        x = images
        for s, (convolutions, full) in enumerate(zip(self.stages, WIDTHS, strict=True), 1):
            width = full * self.width // WIDTHS[0]
            for c in range(1, convolutions + 1):
                name = f"stage{s}_conv{c}"
                x = Conv(width, 3, use_bias=True, bias_rule=ZEROS, dtype=self.dtype, name=name)(x)
                if self.batch_norm:
                    name = f"stage{s}_bn{c}"
                    x = BatchNorm(relu=True, axis=self.batch_norm_axis, name=name)(x, train)
                else:
                    x = nn.relu(x)
            # 28 and 30 pixels are one 2x2 pooling short of five: the last keeps a 1x1 map.
            if min(x.shape[1:3]) > 1 and (self.last_pool or s < len(self.stages)):
                x = layers.max_pool(x, 2, 2)
            self.sow("intermediates", f"stage{s}_out", x)
        maps = x
        if self.window is not None:
            x = windows(maps, self.window)
        # Torchvision repeats a smaller map up to 7x7, which adds parameters and no information; its
        # weights need it all the same.
        side = self.pool_size or min(7, *x.shape[1:3])
        x = layers.flatten(layers.adaptive_avg_pool(x, side))
        for i in (1, 2):
            dense = Dense(
                self.hidden, rule=Normal(0.01), bias_rule=ZEROS, dtype=self.dtype, name=f"fc{i}"
            )
            x = Dropout(self.dropout, name=f"dropout{i}")(nn.relu(dense(x)), train)
        last = Dense(self.classes, rule=Normal(0.01), bias_rule=ZEROS, name="fc3")
        logits = last(at_least_float32(x))
        if self.window is None:
            return logits
        return mean_of_windows(logits, maps, self.window)


def vgg(
    depth: int,
    classes: int,
    *,
    batch_norm: bool = False,
    batch_norm_axis: str | None = None,
    hidden: int = 4096,
    dropout: float = 0.5,
    pool_size: int | None = None,
    width: int = 64,
    dtype: str = "float32",
) -> VGG:
    """Return a VGG net.

    Args:
        depth: layers with weights: 11, 13, 16 or 19.
        classes: outputs.
        batch_norm: normalise after each convolution.
        batch_norm_axis: "data" shares BatchNorm's statistics over the devices.
        hidden: width of the hidden dense layers; small images do with less than the paper's 4096.
        dropout: share of their outputs dropped in training.
        pool_size: side of the map that the dense layers take, whatever the size of the images: 7
            with torchvision's weights. By default at most 7, less where the last map is smaller.
        width: channels of the first stage; those of the others follow it, as in the paper.
        dtype: of the computation, float32 or bfloat16.
    """
    if depth not in DEPTHS:
        known = ", ".join(map(str, DEPTHS))
        raise UserError(f"There is no VGG net of model.depth={depth}; the paper's have {known}.")
    return VGG(
        stages=DEPTHS[depth],
        classes=classes,
        batch_norm=batch_norm,
        batch_norm_axis=batch_norm_axis,
        hidden=hidden,
        dropout=dropout,
        dtype=jnp.dtype(dtype),
        pool_size=pool_size,
        width=width,
    )
