"""AlexNet: the net of 2012 and the "one weird trick" form of 2014.

Krizhevsky, Sutskever and Hinton 2012, "ImageNet classification with deep convolutional neural
networks": local response normalisation, overlapping pooling, and convolutions in two groups, which
were two GPUs. Krizhevsky 2014 (arXiv:1404.5997) is what torchvision ships.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from deeper.errors import UserError
from deeper.kernels.precision import at_least_float32
from deeper.models import layers
from deeper.models.initializers import ONES, ZEROS, FanInUniform, Normal, Rule
from deeper.models.layers import Conv, Dense, Dropout, Maps
from deeper.models.windows import mean_of_windows, windows

# (channels, kernel, stride, padding, groups, normalised, pooled)
OWT = (
    (64, 11, 4, 2, 1, False, True),
    (192, 5, 1, 2, 1, False, True),
    (384, 3, 1, 1, 1, False, False),
    (256, 3, 1, 1, 1, False, False),
    (256, 3, 1, 1, 1, False, True),
)
PAPER = (
    (96, 11, 4, 2, 1, True, True),
    (256, 5, 1, 2, 2, True, True),
    (384, 3, 1, 1, 1, False, False),
    (384, 3, 1, 1, 2, False, False),
    (256, 3, 1, 1, 2, False, True),
)
# The same layers for images of 28 to 64 pixels: a 5x5 of stride 1 first, 2x2 pooling.
SMALL_STEM = (5, 1, 2)
SMALLEST = {False: 63, True: 8}  # pixels that leave every layer one value, by small stem
# Section 5: the second, fourth and fifth convolutions and the hidden dense layers begin with
# biases of one, which feeds the rectifiers at once.
PAPER_BIAS_ONE = (False, True, False, True, True)


class AlexNet(nn.Module):
    """Five convolutions and three dense layers.

    Attributes:
        table: OWT or PAPER.
        classes: outputs.
        paper: the form of 2012.
        small: the stem for small images.
        hidden: width of the two hidden dense layers, 4096 in the papers.
        dropout: rate in front of (one weird trick) or after (2012) the hidden layers.
        dtype: of the computation.
        window: (height, width) of the windows of the last map that the dense layers are applied to;
            see `fully_convolutional.over_whole_images`. None: they take the whole map.
        pool_size: side of the map that the dense layers take, whatever the size of the images;
            None: at most 6, and less where the last map is smaller.
    """

    table: tuple[tuple[int, int, int, int, int, bool, bool], ...]
    classes: int
    paper: bool
    small: bool
    hidden: int
    dropout: float
    dtype: Any
    window: tuple[int, int] | None = None
    pool_size: int | None = None

    @nn.compact
    def __call__(self, images: Maps, *, train: bool) -> Float[Array, "batch classes"]:
        """Return logits."""
        advice = "larger ones" if self.small else "model.stem=small, or larger ones"
        layers.require_images(images, SMALLEST[self.small], "this form of AlexNet", advice)
        x = images
        for i, (channels, kernel, stride, padding, groups, norm, pool) in enumerate(self.table):
            if i == 0 and self.small:
                kernel, stride, padding = SMALL_STEM
            rule: Rule = FanInUniform(kernel * kernel * x.shape[-1] // groups)
            bias_rule: Rule = rule
            if self.paper:
                rule, bias_rule = Normal(0.01), ONES if PAPER_BIAS_ONE[i] else ZEROS
            conv = Conv(
                channels,
                kernel,
                stride,
                padding,
                groups,
                use_bias=True,
                rule=rule,
                bias_rule=bias_rule,
                dtype=self.dtype,
                name=f"conv{i + 1}",
            )
            x = nn.relu(conv(x))
            if norm:  # section 3.3
                x = layers.local_response_norm(x, size=5, k=2.0, alpha=1e-4, beta=0.75)
            if pool:
                x = layers.max_pool(x, 2 if self.small else 3, 2)
            self.sow("intermediates", f"stage{i + 1}_out", x)
        maps = x
        if self.window is not None:
            x = windows(maps, self.window)
        side = self.pool_size or min(6, *x.shape[1:3])
        x = layers.flatten(layers.adaptive_avg_pool(x, side))
        for i in (1, 2):
            rules: Any = {"rule": Normal(0.01), "bias_rule": ONES} if self.paper else {}
            dense = Dense(self.hidden, **rules, dtype=self.dtype, name=f"fc{i}")
            drop = Dropout(self.dropout, name=f"dropout{i}")
            x = drop(nn.relu(dense(x)), train) if self.paper else nn.relu(dense(drop(x, train)))
        last: Any = {"rule": Normal(0.01), "bias_rule": ZEROS} if self.paper else {}
        logits = Dense(self.classes, **last, name="fc3")(at_least_float32(x))
        if self.window is None:
            return logits
        return mean_of_windows(logits, maps, self.window)


def alexnet(
    classes: int,
    *,
    form: str = "owt",
    stem: str = "paper",
    hidden: int = 4096,
    dropout: float = 0.5,
    pool_size: int | None = None,
    dtype: str = "float32",
) -> AlexNet:
    """Return AlexNet.

    Args:
        classes: outputs.
        form: owt (torchvision's, 61,100,840 parameters for 1000 classes) or 2012 (60,965,224).
        stem: paper, for images of 63 pixels and more, or small, for those of 28 to 64.
        hidden: width of the hidden dense layers.
        dropout: share of their inputs (owt) or outputs (2012) dropped in training.
        pool_size: side of the map that the dense layers take, whatever the size of the images: 6
            with torchvision's weights. By default at most 6, less where the last map is smaller.
        dtype: of the computation, float32 or bfloat16.
    """
    if str(form) not in ("owt", "2012"):
        raise UserError(f"model.form={form} is unknown; choose owt or 2012.")
    if stem not in ("paper", "small"):
        raise UserError(f"model.stem={stem} is unknown; choose paper or small.")
    paper = str(form) == "2012"
    return AlexNet(
        table=PAPER if paper else OWT,
        classes=classes,
        paper=paper,
        small=stem == "small",
        hidden=hidden,
        dropout=dropout,
        dtype=jnp.dtype(dtype),
        pool_size=pool_size,
    )
