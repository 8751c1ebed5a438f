"""GoogLeNet: Szegedy et al. 2014, "Going deeper with convolutions" (arXiv:1409.4842), table 1.

Two forms: the paper's, with local response normalisation and two auxiliary heads in training, and
torchvision's, with BatchNorm after every convolution. Torchvision's has 3x3 kernels where the
paper's third branch has 5x5, which came over from TensorFlow's slim.
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from deeper.errors import UserError
from deeper.kernels.precision import at_least_float32
from deeper.models import layers
from deeper.models.initializers import FanInUniform, Rule, TruncatedNormal
from deeper.models.layers import BatchNorm, Conv, Dense, Dropout, Maps

# name: (1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection)
INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
POOLED_AFTER = {"3b": 3, "4e": 2}  # module -> window in torchvision's form; the paper's is 3
# Pixels that leave every layer one value, by (form with BatchNorm, small stem).
SMALLEST = {(True, False): 15, (True, True): 2, (False, False): 31, (False, True): 4}
HEADS = {"4a": "aux1", "4d": "aux2"}
KERNEL_RULE = TruncatedNormal(0.01)  # torchvision's
BATCH_NORM_EPS = 1e-3  # torchvision's, here alone


@dataclass(frozen=True)
class UnitConfig:
    """What all units of a net share.

    Attributes:
        batch_norm: whether a unit has BatchNorm; a bias stands in for it otherwise.
        batch_norm_axis: see `layers.BatchNorm`.
        dtype: of the computation.
    """

    batch_norm: bool
    batch_norm_axis: str | None
    dtype: Any


class Unit(nn.Module):
    """A convolution and its rectifier, with BatchNorm in between in torchvision's form.

    Attributes:
        features: output channels.
        kernel: side of the kernel.
        stride: of both axes.
        config: what all units share.
    """

    features: int
    kernel: int
    stride: int
    config: UnitConfig

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Maps:
        """Return rectified maps."""
        fan_in = self.kernel**2 * x.shape[-1]
        # The paper does not say how its weights begin; with rectifiers and no BatchNorm the net
        # needs He's variance to begin at all: sqrt(6 / fan in) is its uniform form.
        batch_norm = self.config.batch_norm
        rule: Rule = KERNEL_RULE if batch_norm else FanInUniform(fan_in, gain=6**0.5)
        conv = Conv(
            self.features,
            self.kernel,
            self.stride,
            use_bias=not batch_norm,
            rule=rule,
            dtype=self.config.dtype,
            name="conv",
        )
        if not batch_norm:
            return nn.relu(conv(x))
        norm = BatchNorm(relu=True, axis=self.config.batch_norm_axis, eps=BATCH_NORM_EPS, name="bn")
        return norm(conv(x), train)


class Inception(nn.Module):
    """Four branches side by side (figure 2b).

    Attributes:
        widths: a row of INCEPTION.
        third_kernel: 5 in the paper, 3 in torchvision.
        config: of its units.
    """

    widths: tuple[int, int, int, int, int, int]
    third_kernel: int
    config: UnitConfig

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Maps:
        """Return the branches' maps, one after the other."""
        width1, reduce3, width3, reduce5, width5, projection = self.widths

        def unit(features: int, kernel: int, name: str) -> Unit:
            return Unit(features, kernel, 1, self.config, name=name)

        pooled = layers.max_pool(x, 3, 1, padding=1)
        second = unit(reduce3, 1, "branch2_reduce")(x, train)
        third = unit(reduce5, 1, "branch3_reduce")(x, train)
        return jnp.concatenate(
            [
                unit(width1, 1, "branch1")(x, train),
                unit(width3, 3, "branch2")(second, train),
                unit(width5, self.third_kernel, "branch3")(third, train),
                unit(projection, 1, "branch4")(pooled, train),
            ],
            axis=-1,
        )


class AuxiliaryHead(nn.Module):
    """A small classifier on an inner module's maps (section 5); used in training alone.

    Attributes:
        classes: outputs.
        dropout: rate in front of the last layer.
        config: of its units.
    """

    classes: int
    dropout: float
    config: UnitConfig

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Float[Array, "batch classes"]:
        """Return logits."""
        x = layers.adaptive_avg_pool(x, 4)
        x = Unit(128, 1, 1, self.config, name="conv")(x, train)
        x = nn.relu(Dense(1024, name="fc1")(at_least_float32(layers.flatten(x))))
        return Dense(self.classes, name="fc2")(Dropout(self.dropout, name="dropout")(x, train))


class GoogLeNet(nn.Module):
    """A stem, nine Inception modules, the mean over each map and a dense layer.

    Attributes:
        classes: outputs.
        batch_norm: torchvision's form; the paper's otherwise.
        auxiliary: whether there are auxiliary heads.
        small: a stem for images of 28 to 64 pixels: one 3x3 of stride 1, no pooling in it.
        dropout: rate in front of the last layer.
        auxiliary_dropout: rate in front of the auxiliary heads' last layers.
        config: of all units.
    """

    classes: int
    batch_norm: bool
    auxiliary: bool
    small: bool
    dropout: float
    auxiliary_dropout: float
    config: UnitConfig

    @nn.compact
    def __call__(self, images: Maps, *, train: bool) -> Float[Array, "batch classes"]:
        """Return logits."""
        advice = "larger ones" if self.small else "model.stem=small, or larger ones"
        least = SMALLEST[self.batch_norm, self.small]
        layers.require_images(images, least, "this form of GoogLeNet", advice)
        x = self._stem(images, train)
        self.sow("intermediates", "stage1_out", x)
        for name, widths in INCEPTION.items():
            kernel = 3 if self.batch_norm else 5
            x = Inception(widths, kernel, self.config, name=f"inception{name}")(x, train)
            if self.auxiliary and name in HEADS and (train or self.is_initializing()):
                rate = self.auxiliary_dropout
                head = AuxiliaryHead(self.classes, rate, self.config, name=HEADS[name])
                logits = head(x, train)
                if train:
                    self.sow("auxiliary", f"{HEADS[name]}_logits", logits)
            if name in POOLED_AFTER:
                window = POOLED_AFTER[name] if self.batch_norm else 3
                x = layers.max_pool(x, window, 2, ceil=True)
            if name in ("3b", "4e", "5b"):
                self.sow("intermediates", f"stage{name[0]}_out", x)
        x = Dropout(self.dropout, name="dropout")(layers.global_avg_pool(x), train)
        return Dense(self.classes, name="fc")(x)

    def _stem(self, x: Maps, train: bool) -> Maps:
        if self.small:
            return Unit(192, 3, 1, self.config, name="conv1")(x, train)
        x = Unit(64, 7, 2, self.config, name="conv1")(x, train)
        x = layers.max_pool(x, 3, 2, ceil=True)
        if not self.batch_norm:
            x = layers.local_response_norm(x, size=5, k=1.0, alpha=1e-4 / 5, beta=0.75)
        x = Unit(64, 1, 1, self.config, name="conv2")(x, train)
        x = Unit(192, 3, 1, self.config, name="conv3")(x, train)
        if not self.batch_norm:
            x = layers.local_response_norm(x, size=5, k=1.0, alpha=1e-4 / 5, beta=0.75)
        return layers.max_pool(x, 3, 2, ceil=True)


def googlenet(
    classes: int,
    *,
    form: str = "batch_norm",
    auxiliary: bool = True,
    stem: str = "paper",
    dropout: float | None = None,
    auxiliary_dropout: float = 0.7,
    batch_norm_axis: str | None = None,
    dtype: str = "float32",
) -> GoogLeNet:
    """Return GoogLeNet.

    Args:
        classes: outputs.
        form: batch_norm is torchvision's (6,624,904 parameters for 1000 classes without the
            auxiliary heads), 2014 the paper's.
        auxiliary: whether there are auxiliary heads, which answer in training alone.
        stem: paper, or small for images of 28 to 64 pixels.
        dropout: rate in front of the last layer; by default the form's: 0.2, and 0.4 in the paper.
        auxiliary_dropout: rate in the auxiliary heads; 0.7 in the paper.
        batch_norm_axis: "data" shares BatchNorm's statistics over the devices.
        dtype: of the computation, float32 or bfloat16.
    """
    if str(form) not in ("batch_norm", "2014"):
        raise UserError(f"model.form={form} is unknown; choose batch_norm or 2014.")
    if stem not in ("paper", "small"):
        raise UserError(f"model.stem={stem} is unknown; choose paper or small.")
    batch_norm = str(form) == "batch_norm"
    default = 0.2 if batch_norm else 0.4
    return GoogLeNet(
        classes=classes,
        batch_norm=batch_norm,
        auxiliary=auxiliary,
        small=stem == "small",
        dropout=default if dropout is None else dropout,
        auxiliary_dropout=auxiliary_dropout,
        config=UnitConfig(batch_norm, batch_norm_axis, jnp.dtype(dtype)),
    )
