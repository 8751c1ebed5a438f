"""ConvNeXt: Liu et al. 2022, "A ConvNet for the 2020s" (arXiv:2201.03545), section 3.

Names, padding and first values follow torchvision and the authors' code: LayerNorm with an epsilon
of 1e-6, the exact GELU, and layer scale (Touvron et al. 2021, arXiv:2103.17239).
"""

from itertools import islice
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from deeper.errors import UserError
from deeper.models import layers
from deeper.models.initializers import ZEROS, Constant, Normal, by
from deeper.models.layers import Conv, Dense, LayerNorm, Maps
from deeper.models.stochastic_depth import Factors, StochasticDepth, require_rate, scaled

# Size -> (blocks a stage, channels a stage, rate of stochastic depth), section 3 and appendix A.1.
SIZES: dict[str, tuple[tuple[int, ...], tuple[int, ...], float]] = {
    "tiny": ((3, 3, 9, 3), (96, 192, 384, 768), 0.1),
    "small": ((3, 3, 27, 3), (96, 192, 384, 768), 0.4),
    "base": ((3, 3, 27, 3), (128, 256, 512, 1024), 0.5),
    "large": ((3, 3, 27, 3), (192, 384, 768, 1536), 0.5),
}
EXPANSION = 4  # of the dense layers in a block
PATCH, SMALL_PATCH = 4, 2  # side and stride of the stem
# Drawn as trunc_normal_(std=0.02) in the authors' code, which truncates at 2, not at 2 deviations.
KERNELS = Normal(0.02)


class Block(nn.Module):
    """A depthwise 7x7, LayerNorm and two dense layers at each place, beside a shortcut (figure 4).

    Attributes:
        layer_scale: first value of the factors of the branch's channels.
        dtype: of the computation.
    """

    layer_scale: float
    dtype: Any

    @nn.compact
    def __call__(self, x: Maps, factors: Factors | None) -> Maps:
        """Return maps of the same shape.

        Args:
            x: the maps.
            factors: of the branch, by stochastic depth.
        """
        width, dtype = x.shape[-1], self.dtype
        y = Conv(
            width, 7, groups=width, use_bias=True, rule=KERNELS, bias_rule=ZEROS, dtype=dtype,
            name="depthwise",
        )(x)  # fmt: skip
        y = LayerNorm(name="norm")(y)
        y = Dense(EXPANSION * width, rule=KERNELS, bias_rule=ZEROS, dtype=dtype, name="expand")(y)
        y = jax.nn.gelu(y, approximate=False)
        y = Dense(width, rule=KERNELS, bias_rule=ZEROS, dtype=dtype, name="project")(y)
        scale = self.param("layer_scale", by(Constant(self.layer_scale)), (width,))
        y = y * scale.reshape(*[1] * (x.ndim - 1), -1).astype(dtype)
        return x + scaled(y, factors)


class Stage(nn.Module):
    """Blocks of one width.

    Attributes:
        drop_rates: of stochastic depth, of each block.
        layer_scale: see `Block`.
        dtype: of the computation.
        remat: compute a block's activations again in the backward pass instead of keeping them.
    """

    drop_rates: tuple[float, ...]
    layer_scale: float
    dtype: Any
    remat: bool

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Maps:
        """Return the maps after the last block."""
        make: Any = nn.remat(Block) if self.remat else Block
        for i, rate in enumerate(self.drop_rates, 1):
            factors = StochasticDepth(rate, name=f"drop{i}")(x.shape[0], train)
            x = make(self.layer_scale, self.dtype, name=f"block{i}")(x, factors)
        return x


class Downsampling(nn.Module):
    """LayerNorm and a 2x2 convolution of stride 2, between two stages.

    Attributes:
        width: channels of the result.
        dtype: of the computation.
    """

    width: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        """Return maps of half the size."""
        return _patches(self.width, 2, self.dtype, "conv")(LayerNorm(name="norm")(x))


def _patches(width: int, side: int, dtype: Any, name: str) -> Conv:
    """Return a convolution of patches that do not overlap."""
    return Conv(
        width, side, side, padding=0, use_bias=True, rule=KERNELS, bias_rule=ZEROS, dtype=dtype,
        name=name,
    )  # fmt: skip


class ConvNeXt(nn.Module):
    """A stem of patches, four stages, the mean over each map, LayerNorm and a dense layer.

    Attributes:
        blocks: a stage.
        widths: channels a stage.
        classes: outputs.
        patch: side of the stem's patches in pixels.
        stochastic_depth: rate of the last block; it rises linearly from zero at the first.
        layer_scale: see `Block`.
        dtype: of the computation.
        remat: see `Stage`.
    """

    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    classes: int
    patch: int
    stochastic_depth: float
    layer_scale: float
    dtype: Any
    remat: bool

    @nn.compact
    def __call__(self, images: Maps, *, train: bool) -> Float[Array, "batch classes"]:
        """Return logits."""
        least = self.patch * 2 ** (len(self.blocks) - 1)
        advice = "larger ones" if self.patch < PATCH else "model.stem=small, or larger ones"
        layers.require_images(images, least, "this form of ConvNeXt", advice)
        last = max(1, sum(self.blocks) - 1)
        rates = iter(self.stochastic_depth * i / last for i in range(sum(self.blocks)))
        x = _patches(self.widths[0], self.patch, self.dtype, "conv1")(images)
        x = LayerNorm(name="norm1")(x)
        for i, (blocks, width) in enumerate(zip(self.blocks, self.widths, strict=True), 1):
            if i > 1:
                x = Downsampling(width, self.dtype, name=f"downsampling{i}")(x)
            of_stage = tuple(islice(rates, blocks))
            stage = Stage(of_stage, self.layer_scale, self.dtype, self.remat, name=f"stage{i}")
            x = stage(x, train)
            self.sow("intermediates", f"stage{i}_out", x)
        x = LayerNorm(name="norm_last")(layers.global_avg_pool(x))
        return Dense(self.classes, rule=KERNELS, bias_rule=ZEROS, name="fc")(x)


def convnext(
    variant: str,
    classes: int,
    *,
    stem: str = "paper",
    stochastic_depth: float | None = None,
    layer_scale: float = 1e-6,
    remat: bool = False,
    dtype: str = "float32",
) -> ConvNeXt:
    """Return a ConvNeXt.

    Args:
        variant: tiny, small, base or large.
        classes: outputs.
        stem: paper, patches of 4x4; or small, of 2x2, for images of 28 to 64 pixels.
        stochastic_depth: share of the last block's branches that are left out in training; by
            default the paper's for ImageNet-1K: 0.1, 0.4, 0.5, 0.5.
        layer_scale: first value of the factors of each branch's channels; 1e-6 in the paper.
        remat: recompute the blocks' activations in the backward pass.
        dtype: of the computation, float32 or bfloat16.

    Raises:
        UserError: no such net.
    """
    if variant not in SIZES:
        known = ", ".join(SIZES)
        raise UserError(f"There is no ConvNeXt of model.variant={variant}; there are {known}.")
    if stem not in ("paper", "small"):
        raise UserError(f"model.stem={stem} is unknown; choose paper or small.")
    blocks, widths, usual = SIZES[variant]
    rate = usual if stochastic_depth is None else stochastic_depth
    require_rate(rate)
    return ConvNeXt(
        blocks=blocks,
        widths=widths,
        classes=classes,
        patch=SMALL_PATCH if stem == "small" else PATCH,
        stochastic_depth=rate,
        layer_scale=layer_scale,
        dtype=jnp.dtype(dtype),
        remat=remat,
    )
