"""ZFNet: AlexNet with the first layers that looking into it suggested.

Zeiler and Fergus 2013, "Visualizing and understanding convolutional networks" (arXiv:1311.2901),
figure 3: a first layer of 7x7 at stride 2 in place of 11x11 at stride 4, and no groups. The figure
prints kernels, strides, maps and their sizes, 224 to 110, 55, 26, 13, 13, 13, 13, 6 pixels; padding
is what gives these sizes, and pooling keeps its last, partial window (110 to 55, 26 to 13).
Contrast is normalised across maps after pooling, with the constants of Krizhevsky et al. 2012, as
the paper prints none. Section 3.1: kernels begin at a scale of 0.01 and biases at zero; half of the
values in hidden layers are dropped. Its training also clips each filter's RMS at 0.1, which is not
done here.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from deeper.errors import UserError
from deeper.kernels.precision import at_least_float32
from deeper.models import layers
from deeper.models.initializers import ZEROS, Normal
from deeper.models.layers import Conv, Dense, Dropout, Maps

# Figure 3: (channels, kernel, stride, padding, normalised, pooled).
PAPER = (
    (96, 7, 2, 1, True, True),
    (256, 5, 2, 0, True, True),
    (384, 3, 1, 1, False, False),
    (384, 3, 1, 1, False, False),
    (256, 3, 1, 1, False, True),
)
# The same layers for images of 28 to 64 pixels: no strides, a 5x5 first, 2x2 pooling.
SMALL = ((96, 5, 1, 2, True, True), (256, 5, 1, 2, True, True), *PAPER[2:])
SMALLEST = {False: 47, True: 8}  # pixels that leave every layer one value, by small stem


class ZFNet(nn.Module):
    """Five convolutions and three dense layers.

    Attributes:
        classes: outputs.
        small: the stem for small images.
        hidden: width of the two hidden dense layers, 4096 in the paper.
        dropout: rate after the hidden layers.
        dtype: of the computation.
        window: of the last map, which the dense layers look at one after the other; see
            `fully_convolutional.over_whole_images`. None: they look at the whole map.
    """

    classes: int
    small: bool
    hidden: int
    dropout: float
    dtype: Any
    window: tuple[int, int] | None = None

    @nn.compact
    def __call__(self, images: Maps, *, train: bool) -> Float[Array, "batch classes"]:
        """Return logits."""
        advice = "larger ones" if self.small else "model.stem=small, or larger ones"
        layers.require_images(images, SMALLEST[self.small], "this form of ZFNet", advice)
        rules: Any = {"rule": Normal(0.01), "bias_rule": ZEROS}
        x = images
        table = SMALL if self.small else PAPER
        for i, (channels, kernel, stride, padding, norm, pool) in enumerate(table, 1):
            window = (channels, kernel, stride, padding)
            conv = Conv(*window, use_bias=True, **rules, dtype=self.dtype, name=f"conv{i}")
            x = nn.relu(conv(x))
            if pool:
                x = layers.max_pool(x, 2, 2) if self.small else layers.max_pool(x, 3, 2, ceil=True)
            if norm:
                x = layers.local_response_norm(x, size=5, k=2.0, alpha=1e-4, beta=0.75)
            self.sow("intermediates", f"stage{i}_out", x)
        maps = x
        if self.window is not None:
            x = layers.windows(maps, self.window)
        x = layers.flatten(layers.adaptive_avg_pool(x, min(6, *x.shape[1:3])))
        for i in (1, 2):
            dense = Dense(self.hidden, **rules, dtype=self.dtype, name=f"fc{i}")
            x = Dropout(self.dropout, name=f"dropout{i}")(nn.relu(dense(x)), train)
        logits = Dense(self.classes, **rules, name="fc3")(at_least_float32(x))
        if self.window is None:
            return logits
        return layers.mean_of_windows(logits, maps, self.window)


def zfnet(
    classes: int,
    *,
    stem: str = "paper",
    hidden: int = 4096,
    dropout: float = 0.5,
    dtype: str = "float32",
) -> ZFNet:
    """Return ZFNet, of 62,357,608 parameters for 1000 classes.

    Args:
        classes: outputs.
        stem: paper, for images of 47 pixels and more, or small, for those of 28 to 64.
        hidden: width of the hidden dense layers.
        dropout: share of their outputs dropped in training.
        dtype: of the computation, float32 or bfloat16.
    """
    if stem not in ("paper", "small"):
        raise UserError(f"model.stem={stem} is unknown; choose paper or small.")
    return ZFNet(classes, stem == "small", hidden, dropout, jnp.dtype(dtype))
