"""LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998, "Gradient-based learning applied to document
recognition", section II.B), in today's common form and in the paper's own.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from deeper.errors import UserError
from deeper.kernels import cpu_dispatch
from deeper.kernels.precision import at_least_float32
from deeper.models import layers, valid_region
from deeper.models.initializers import FanInUniform, Rule, Uniform, by
from deeper.models.layers import Conv, Dense, Maps, Vectors

# Table I: which of the six maps of S2 each of the sixteen maps of C3 sees.
C3_INPUTS = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (4, 5, 0), (5, 0, 1)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5, 0), (4, 5, 0, 1), (5, 0, 1, 2)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (2, 3, 5, 0)),
    (0, 1, 2, 3, 4, 5),
)


class LeNet5(nn.Module):
    """Two convolutions and two subsamplings, then dense layers of 120, 84 and the classes.

    Images below 32 pixels are padded to that; the maps of larger ones are averaged to the 5x5
    cells that the dense layers expect.

    Attributes:
        classes: outputs.
        paper: the form of 1998: C3 sees S2 by table I, subsampling has a trained scale and bias a
            map, and the rectifier is 1.7159 tanh(2x/3). Its radial-basis output with fixed
            bitmaps is a dense layer here.
        dtype: of the computation.
        window: of the last map, which the dense layers look at one after the other; see
            `fully_convolutional.over_whole_images`. None: they look at the whole map.
    """

    classes: int
    paper: bool
    dtype: Any
    window: tuple[int, int] | None = None

    @nn.compact
    def __call__(self, images: Maps, *, train: bool) -> Float[Array, "batch classes"]:
        """Return logits."""
        del train
        squash = _scaled_tanh if self.paper else nn.relu
        x = _at_least_32(images) if self.window is None else images
        x = squash(self._conv(6, "conv1", x))
        x = self._subsample(x, "pool1")
        self.sow("intermediates", "stage1_out", x)
        if self.paper:
            x = squash(SparseConv(C3_INPUTS, 5, dtype=self.dtype, name="conv2")(x))
        else:
            x = squash(self._conv(16, "conv2", x))
        x = self._subsample(x, "pool2")
        self.sow("intermediates", "stage2_out", x)
        maps = x
        if self.window is not None:
            x = layers.windows(maps, self.window)
        x = layers.flatten(layers.adaptive_avg_pool(x, 5))
        x = squash(self._dense(120, "fc1", x))
        x = squash(self._dense(84, "fc2", x))
        logits = self._dense(self.classes, "fc3", at_least_float32(x))
        if self.window is None:
            return logits
        return layers.mean_of_windows(logits, maps, self.window)

    def _rules(self, fan_in: int) -> dict[str, Rule]:
        rule = _paper_rule(fan_in) if self.paper else FanInUniform(fan_in)
        return {"rule": rule, "bias_rule": rule}

    def _conv(self, features: int, name: str, x: Maps) -> Maps:
        rules: Any = self._rules(25 * x.shape[-1])
        conv = Conv(features, 5, padding=0, use_bias=True, **rules, dtype=self.dtype, name=name)
        return conv(x)

    def _dense(self, features: int, name: str, x: Vectors) -> Vectors:
        rules: Any = self._rules(x.shape[-1])
        return Dense(features, **rules, name=name)(x)

    def _subsample(self, x: Maps, name: str) -> Maps:
        if not self.paper:
            return layers.max_pool(x, 2, 2)
        return _scaled_tanh(Subsampling(name=name)(x))


class Subsampling(nn.Module):
    """The sum of a 2x2 window times a trained coefficient, plus a trained bias, a map."""

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        """Return maps of half the size."""
        shape = (x.shape[-1],)
        coefficient = self.param("coefficient", by(_paper_rule(4)), shape)
        bias = self.param("bias", by(_paper_rule(4)), shape)
        total = 4 * layers.avg_pool(x, 2, 2)
        return (total * coefficient[None, None, None] + bias[None, None, None]).astype(x.dtype)


class SparseConv(nn.Module):
    """A convolution whose output maps each see some of the input maps.

    The kernel holds only the connections that there are, one after the other.

    Attributes:
        inputs: for each output map the input maps that it sees.
        kernel: side of the kernel.
        dtype: of the computation.
    """

    inputs: tuple[tuple[int, ...], ...]
    kernel: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        """Return a map an entry of ``inputs``."""
        k, outputs = self.kernel, len(self.inputs)
        layers.require_size(x, k, "conv2")
        connections = [(i, o) for o, seen in enumerate(self.inputs) for i in seen]
        rule = _paper_rule(k * k * len(connections) // outputs)  # of the mean output map
        weights = self.param("kernel", by(rule), (k, k, len(connections)))
        bias = self.param("bias", by(rule), (outputs,))
        rows, columns = np.array(connections).T
        dense = jnp.zeros((k, k, x.shape[-1], outputs)).at[:, :, rows, columns].set(weights)
        y = cpu_dispatch.conv(
            valid_region.clear(x).astype(self.dtype),
            dense.astype(self.dtype),
            stride=(1, 1),
            padding=((0, 0), (0, 0)),
        )
        valid_region.note(x, y, lambda size: size - k + 1)
        return y + bias.astype(self.dtype)[None, None, None]


def _paper_rule(fan_in: int) -> Rule:
    """The paper's appendix A: uniform within 2.4 / fan in."""
    return Uniform(2.4 / fan_in)


def _scaled_tanh(x: Maps) -> Maps:
    """The paper's appendix A: f(1) = 1 and f(-1) = -1."""
    return 1.7159 * jnp.tanh(2.0 / 3.0 * x)


def _at_least_32(x: Maps) -> Maps:
    """Pad small images to the paper's 32x32, so that strokes can be centred under a kernel."""
    rows, columns = (max(0, 32 - size) for size in x.shape[1:3])
    sides = ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2))
    return jnp.pad(x, ((0, 0), *sides, (0, 0)))


def lenet5(classes: int, *, form: str = "dense", dtype: str = "float32") -> LeNet5:
    """Return LeNet-5.

    Args:
        classes: outputs.
        form: dense is the common form (rectifiers, max pooling, C3 sees all of S2; 61,706
            parameters for grey images and ten classes); 1998 is the paper's.
        dtype: of the computation, float32 or bfloat16.
    """
    if str(form) not in ("dense", "1998"):
        raise UserError(f"model.form={form} is unknown; choose dense or 1998.")
    return LeNet5(classes=classes, paper=str(form) == "1998", dtype=jnp.dtype(dtype))
