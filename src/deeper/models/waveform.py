"""Nets of raw waveforms: Dai, Dai, Qu, Li and Das 2017, "Very deep convolutional neural networks
for raw waveforms" (arXiv:1610.00087), table 1: M3, M5, M11, M18 and M34-res.

The depth counts the layers with weights. The first convolution is 80 samples long with a stride of
4, all others are 3 long; the length is quartered by max pooling and never by them. The table does
not say how M34-res matches channels at a shortcut between stages: here new ones are zeros (option A
of He et al. 2015), so that the net has no layers but the table's.
"""

import flax.linen as nn
from jaxtyping import Array, Float

from deeper.errors import UserError
from deeper.models import layers
from deeper.models.layers import BatchNorm, Conv, Dense, Maps
from deeper.models.residual_blocks import BlockConfig, Stage, basic_blocks

# Depth -> channels of the first stage, convolutions of 3 in each stage.
TABLE = {
    3: (256, (1,)),
    5: (128, (1, 1, 1)),
    11: (64, (2, 2, 3, 2)),
    18: (64, (4, 4, 4, 4)),
    34: (48, (6, 8, 12, 6)),
}
KERNEL, STRIDE = 80, 4  # of the first convolution, in samples
POOLED = 4  # positions that become one
POOLED_STAGES = 3  # the fourth stage has no pooling behind it


class WaveformNet(nn.Module):
    """A long convolution, stages of short ones with pooling between them, and a mean over time.

    Attributes:
        stages: convolutions of each stage.
        widths: channels of each stage; the first convolution has those of the first.
        classes: outputs.
        block: of residual stages, and BatchNorm and dtype of all.
    """

    stages: tuple[int, ...]
    widths: tuple[int, ...]
    classes: int
    block: BlockConfig

    @nn.compact
    def __call__(self, sounds: Maps, *, train: bool) -> Float[Array, "batch classes"]:
        """Return logits.

        Args:
            sounds: samples (batch, length, 1).
            train: by the batch's own statistics.
        """
        dtype, axis = self.block.dtype, self.block.batch_norm_axis
        padding = (KERNEL - STRIDE) // 2  # a quarter of the length comes out
        x = Conv(self.widths[0], KERNEL, STRIDE, padding, dtype=dtype, name="conv1")(sounds)
        x = _pooled(BatchNorm(relu=True, axis=axis, name="bn1")(x, train))
        for number, (count, width) in enumerate(zip(self.stages, self.widths, strict=True), 1):
            if self.block.residual:
                blocks = count // self.block.convolutions
                stage = Stage(
                    self.block, blocks, width, 1, False, False, False, name=f"stage{number}"
                )
                x = stage(x, train)
            else:
                for i in range(1, count + 1):
                    name = f"stage{number}_conv{i}"
                    x = Conv(width, 3, dtype=dtype, name=name)(x)
                    x = BatchNorm(relu=True, axis=axis, name=f"stage{number}_bn{i}")(x, train)
            self.sow("intermediates", f"stage{number}_out", x)
            if number <= POOLED_STAGES:
                x = _pooled(x)
        return Dense(self.classes, name="fc")(layers.global_avg_pool(x))


def _pooled(x: Maps) -> Maps:
    """Return a quarter of the positions, rounded up as in the table (125 become 32)."""
    return layers.max_pool(x, POOLED, POOLED, ceil=True)


def waveform(
    depth: int,
    classes: int,
    *,
    residual: bool = False,
    width_multiplier: float = 1.0,
    batch_norm_axis: str | None = None,
    dtype: str = "float32",
) -> WaveformNet:
    """Return a net of raw waveforms.

    Args:
        depth: layers with weights: 3, 5, 11, 18 or 34.
        classes: outputs.
        residual: with a shortcut around each two convolutions, at depths of 18 and 34; M34-res is
            the paper's.
        width_multiplier: channels of each stage as a share of the paper's.
        batch_norm_axis: "data" shares BatchNorm's statistics over the devices.
        dtype: of the computation, float32 or bfloat16.

    Raises:
        UserError: no such net.
    """
    if depth not in TABLE:
        known = ", ".join(map(str, TABLE))
        raise UserError(f"There is no waveform net of model.depth={depth}; the paper's: {known}.")
    first, stages = TABLE[depth]
    if residual and any(count % 2 for count in stages):
        raise UserError(
            f"model.residual=true: a shortcut spans two convolutions, and stages of model.depth="
            f"{depth} have {', '.join(map(str, stages))}. Take 18 or 34."
        )
    block = basic_blocks(residual, "A", batch_norm_axis, dtype)
    narrowest = round(first * width_multiplier)
    if narrowest < 1:
        raise UserError(f"model.width_multiplier={width_multiplier:g} leaves no channels.")
    widths = tuple(narrowest * 2**number for number in range(len(stages)))
    return WaveformNet(stages, widths, classes, block)
