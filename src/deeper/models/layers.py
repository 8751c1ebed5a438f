"""The layers that the nets share. Maps are NHWC; conventions are the papers' and PyTorch's.

Convolution, BatchNorm and pooling take sequences (batch, length, channels) as well: a layer has as
many spatial axes as its input, and the same size along each of them.

Padding is explicit and symmetric (``kernel // 2``), never ``SAME``, which pads a stride-2 layer on
one side more than on the other. Parameters and statistics are float32, whatever ``dtype`` a layer
computes in.
"""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from deeper import rows
from deeper.errors import UserError
from deeper.kernels import cpu_dispatch
from deeper.kernels.precision import at_least_float32
from deeper.models import valid_region
from deeper.models.initializers import ONES, ZEROS, FanInUniform, HeNormal, Normal, Rule, by

Maps = Float[Array, "batch *places channels"]  # places: height and width, or length
Vectors = Float[Array, "batch features"]
DATA_AXIS = "data"
EMBEDDING_TABLE = "table"  # of `Embedding`, among its variables


class Conv(nn.Module):
    """Convolution.

    Attributes:
        features: output channels.
        kernel: side of the square kernel, or its length; or its sides by spatial axis.
        stride: of all spatial axes.
        padding: on all sides; half of the kernel by default, which keeps an odd kernel's map.
        groups: of channels, independent of each other.
        use_bias: whether a bias is added.
        rule: of the kernel's first values.
        bias_rule: of the bias's first values; uniform within 1 / sqrt(fan in) by default, as
            PyTorch.
        dtype: of the computation.
    """

    features: int
    kernel: int | tuple[int, ...]
    stride: int = 1
    padding: int | None = None
    groups: int = 1
    use_bias: bool = False
    rule: Rule = HeNormal("out")
    bias_rule: Rule | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        """Return maps of ``features`` channels."""
        axes = x.ndim - 2
        sides = (self.kernel,) * axes if isinstance(self.kernel, int) else self.kernel
        around = tuple(k // 2 if self.padding is None else self.padding for k in sides)
        # An odd kernel, padded by its half, looks as far beyond the map on each axis.
        [reach] = {k - 2 * p for k, p in zip(sides, around, strict=True)}
        require_size(x, reach, "/".join(self.path))
        shape = (*sides, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", by(self.rule), shape).astype(self.dtype)
        y = cpu_dispatch.conv(
            valid_region.fill_padding(x).astype(self.dtype),
            kernel,
            stride=(self.stride,) * axes,
            padding=tuple((p, p) for p in around),
            groups=self.groups,
        )
        valid_region.record_size(x, y, lambda size: (size - reach) // self.stride + 1)
        if self.use_bias:
            rule = self.bias_rule or FanInUniform(math.prod(shape[:-1]))
            bias = self.param("bias", by(rule), (self.features,)).astype(self.dtype)
            y += bias.reshape(*[1] * (axes + 1), -1)
        return y


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy 2015), optionally with the rectifier after it.

    The running variance takes in the unbiased one, as PyTorch's does. Of sequences that are padded
    (see `valid_region`) the statistics are those of the valid positions.

    Attributes:
        relu: rectify the result.
        axis: mesh axis over which the statistics are shared; None keeps them per device.
        momentum: share of the old running statistics that stays (PyTorch's 0.1 is 0.9 here).
        eps: added to the variance.
        scale_rule: of gamma's first values.
    """

    relu: bool = False
    axis: str | None = None
    momentum: float = 0.9
    eps: float = 1e-5
    scale_rule: Rule = ONES

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Maps:
        """Normalise by the batch's statistics in training, by the running ones otherwise."""
        shape = (x.shape[-1],)
        scale = self.param("scale", by(self.scale_rule), shape)
        bias = self.param("bias", by(ZEROS), shape)
        mean = self.variable("batch_stats", "mean", by(ZEROS), None, shape)
        variance = self.variable("batch_stats", "var", by(ONES), None, shape)
        if not train:
            return cpu_dispatch.normalise(
                x, mean.value, variance.value, scale, bias, eps=self.eps, relu=self.relu
            )
        count: Any = math.prod(x.shape[:-1])
        if valid_region.valid_size(x) is not None:
            batch_mean, batch_variance, count = valid_region.moments_of_valid(x, self.axis)
            y = cpu_dispatch.normalise(
                x, batch_mean, batch_variance, scale, bias, eps=self.eps, relu=self.relu
            )
        elif self.axis is None:
            y, batch_mean, batch_variance = cpu_dispatch.batch_norm(
                x, scale, bias, eps=self.eps, relu=self.relu
            )
        else:
            count *= lax.axis_size(self.axis)
            # The variance of all is the mean of the devices' variances plus that of their means.
            moments = jnp.stack(cpu_dispatch.moments(x))
            each_mean, each_variance = jnp.moveaxis(lax.all_gather(moments, self.axis), 1, 0)
            batch_mean = each_mean.mean(0)
            batch_variance = each_variance.mean(0) + each_mean.var(0)
            y = cpu_dispatch.normalise(
                x, batch_mean, batch_variance, scale, bias, eps=self.eps, relu=self.relu
            )
        if not self.is_initializing():
            keep = self.momentum
            fewer = max(1, count - 1) if isinstance(count, int) else jnp.maximum(1, count - 1)
            unbiased = batch_variance * (count / fewer)
            mean.value = keep * mean.value + (1 - keep) * lax.stop_gradient(batch_mean)
            variance.value = keep * variance.value + (1 - keep) * lax.stop_gradient(unbiased)
        return y


class Dense(nn.Module):
    """A layer in which every output sees every input; of maps, at each place for itself.

    Attributes:
        features: outputs.
        rule: of the kernel's first values; uniform within 1 / sqrt(fan in) by default, as PyTorch.
        bias_rule: of the bias's first values.
        dtype: of the computation; the input's by default.
    """

    features: int
    rule: Rule | None = None
    bias_rule: Rule | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "batch *places features"]) -> Array:
        """Return vectors of ``features`` values."""
        default = FanInUniform(x.shape[-1])
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", by(self.rule or default), shape)
        bias = self.param("bias", by(self.bias_rule or default), (self.features,))
        dtype = self.dtype or x.dtype
        return x.astype(dtype) @ kernel.astype(dtype) + bias.astype(dtype).reshape(
            *[1] * (x.ndim - 1), -1
        )


class LayerNorm(nn.Module):
    """Layer normalisation over the channels of each place (Ba et al. 2016, arXiv:1607.06450).

    Attributes:
        eps: added to the variance.
    """

    eps: float = 1e-6

    @nn.compact
    def __call__(self, x: Float[Array, "batch *places channels"]) -> Array:
        """Return values of mean zero and variance one at each place, scaled and shifted."""
        shape = (x.shape[-1],)
        by_channel = (*[1] * (x.ndim - 1), -1)
        scale = self.param("scale", by(ONES), shape).reshape(by_channel)
        bias = self.param("bias", by(ZEROS), shape).reshape(by_channel)
        values = at_least_float32(x)
        centred = values - values.mean(-1, keepdims=True)
        variance = (centred * centred).mean(-1, keepdims=True)
        return (centred * lax.rsqrt(variance + self.eps) * scale + bias).astype(x.dtype)


class Embedding(nn.Module):
    """A vector for each token; token 0 is padding, whose vector is zero.

    One-hot rows are taken too, so that gradients reach each position: a row of zeros is padding.

    Attributes:
        tokens: that there are, padding counted.
        features: of a vector.
        rule: of the table's first values; the standard normal by default, as PyTorch.
        trained: whether the table is a parameter; otherwise it stays as the run begins with it.
        dtype: of the computation.
    """

    tokens: int
    features: int
    rule: Rule = Normal(1.0)
    trained: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Any) -> Maps:
        """Return vectors (batch, length, features).

        Args:
            x: tokens (batch, length), integers; or one-hot rows (batch, length, tokens), floats.
        """
        shape = (self.tokens, self.features)
        if self.trained:
            table = self.param(EMBEDDING_TABLE, by(self.rule), shape).astype(self.dtype)
        else:  # no parameter, which weight decay would change
            table = self.variable("batch_stats", EMBEDDING_TABLE, by(self.rule), None, shape).value
            table = table.astype(self.dtype)
        if not jnp.issubdtype(x.dtype, jnp.integer):
            if x.ndim != 3 or x.shape[-1] != self.tokens:
                raise UserError(
                    f"This net takes tokens (batch, length), integers, or one-hot rows (batch, "
                    f"length, {self.tokens}), and gets {x.dtype} of shape {x.shape}."
                )
            return x.astype(self.dtype) @ table
        vectors = jnp.take(table, x, axis=0, mode="clip")
        return jnp.where((x != 0)[..., None], vectors, 0)


class Dropout(nn.Module):
    """Drop values in training and scale up the others (Srivastava et al. 2014).

    An example's mask is a function of its row in the global batch (see `deeper.rows`), so that it
    depends neither on the number of devices nor on that of micro-batches.

    Attributes:
        rate: share that is dropped.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Vectors, train: bool) -> Vectors:
        """Return x, in training with values dropped."""
        if not train or self.rate == 0.0:
            return x
        shape = x.shape[1:]
        keep = random_by_row(
            self, x.shape[0], lambda key: jax.random.bernoulli(key, 1.0 - self.rate, shape)
        )
        return jnp.where(keep, x / (1.0 - self.rate), 0).astype(x.dtype)


def random_by_row(module: nn.Module, count: int, draw: Callable[[Array], Array]) -> Array:
    """Return a draw for each example, a function of its row in the global batch.

    Args:
        module: that draws, in training; its path is part of the seed.
        count: examples.
        draw: key -> what is drawn for one example.
    """
    key = module.make_rng(rows.BY_ROW if module.has_rng(rows.BY_ROW) else "dropout")
    return jax.vmap(lambda row: draw(jax.random.fold_in(key, row)))(_rows_of(count))


def _rows_of(count: int) -> Any:
    """Return the global numbers of so many rows: counted from 0 outside of a training step."""
    of_step = rows.current_rows()
    if of_step is not None and len(of_step) == count:
        return of_step
    return jnp.arange(count) + _first_row(count)


def _first_row(count: int) -> Any:
    """Return the global number of the first row: 0 outside of a data-parallel step."""
    try:
        return lax.axis_index(DATA_AXIS) * count
    except NameError:  # JAX's way to say that no such axis is bound here
        return 0


def max_pool(x: Maps, window: int, stride: int, padding: int = 0, ceil: bool = False) -> Maps:
    """Largest value under a square window, or along the length.

    Args:
        x: the maps.
        window: side.
        stride: of all spatial axes.
        padding: on all sides.
        ceil: keep a last, partial window (torchvision's GoogLeNet does).
    """
    # In ceil mode the only window may reach out of the map by less than a stride.
    least = window - 2 * padding - (stride - 1 if ceil else 0)
    require_size(x, least, f"{_sides(x, window)} max pooling")
    sides = tuple(
        (padding, padding + (_missing(size, window, stride, padding) if ceil else 0))
        for size in x.shape[1:-1]
    )
    cleared = valid_region.fill_padding(x, -jnp.inf)
    axes = len(sides)
    y = cpu_dispatch.max_pool(cleared, (window,) * axes, (stride,) * axes, sides)
    outputs = _outputs_with_partial if ceil else _outputs
    valid_region.record_size(x, y, lambda size: outputs(size, window, stride, padding))
    return y


def _outputs(size: Any, window: int, stride: int, padding: int) -> Any:
    """Return how many windows fit."""
    return (size + 2 * padding - window) // stride + 1


def _outputs_with_partial(size: Any, window: int, stride: int, padding: int) -> Any:
    """Return how many windows begin inside the map and its near padding."""
    outputs = -(-(size + 2 * padding - window) // stride) + 1
    return outputs - ((outputs - 1) * stride >= size + padding)


def _missing(size: int, window: int, stride: int, padding: int) -> int:
    """Return what the far side lacks for a last window that begins inside the map."""
    outputs = _outputs_with_partial(size, window, stride, padding)
    return max(0, (outputs - 1) * stride + window - size - 2 * padding)


def avg_pool(x: Maps, window: int, stride: int, *, padding: int = 0, ceil: bool = False) -> Maps:
    """Mean under a square window, or along the length.

    Args:
        x: maps.
        window: side of the window.
        stride: of all axes.
        padding: zeros on all sides, which count (PyTorch's ``count_include_pad=True``).
        ceil: without padding: keep a last, partial window, whose mean is taken over what it holds
            (PyTorch's ``ceil_mode=True, count_include_pad=False``).
    """
    least = 1 if ceil else window - 2 * padding
    require_size(x, least, f"{_sides(x, window)} average pooling")
    axes = x.ndim - 2
    cleared = valid_region.fill_padding(x)
    if ceil:
        held = valid_region.fill_padding(jnp.ones((*x.shape[:-1], 1), x.dtype))
        counts = jnp.maximum(_window_sums(held, window, stride), 1)
        y = _window_sums(cleared, window, stride) / counts
    else:
        # By keyword, as the ONNX converter that replaces this function expects.
        y = nn.avg_pool(
            cleared,
            window_shape=(window,) * axes,
            strides=(stride,) * axes,
            padding=((padding, padding),) * axes if padding else "VALID",
        )
    outputs = _outputs_with_partial if ceil else _outputs
    valid_region.record_size(x, y, lambda size: outputs(size, window, stride, padding))
    return y


def _window_sums(x: Maps, window: int, stride: int) -> Maps:
    """Return the sums under a window, including a last one that reaches out of the map."""
    axes = x.ndim - 2
    far = tuple((0, _missing(size, window, stride, 0)) for size in x.shape[1:-1])
    shape, steps = (1, *(window,) * axes, 1), (1, *(stride,) * axes, 1)
    return lax.reduce_window(x, 0.0, lax.add, shape, steps, ((0, 0), *far, (0, 0)))


def k_max_pool(x: Maps, k: int, share: int | None = None) -> Maps:
    """Keep the largest values of each channel along the length, in the order in which they stand.

    Kalchbrenner et al. 2014 (arXiv:1404.2188), section 3.2. Of padded sequences only valid
    positions are kept; places that are left over are zero.

    Args:
        x: sequences (batch, length, channels).
        k: positions of the result.
        share: keep of each sequence one in so many of its own positions, rounded up; by default k.
    """
    require_size(x, k, f"{k}-max pooling")

    def kept(size: Any) -> Any:
        most = size if share is None else -(-size // share)
        return most - (most > k) * (most - k)

    size = valid_region.valid_size(x)
    values = valid_region.fill_padding(x, -jnp.inf).swapaxes(1, 2)
    _, places = lax.top_k(values, k)
    beyond = x.shape[1]
    if size is not None:
        is_kept = jnp.arange(k)[None] < kept(size[0])[:, None]
        places = jnp.where(is_kept[:, None], places, beyond)
    places = jnp.sort(places, axis=-1)
    padded = jnp.pad(x.swapaxes(1, 2), ((0, 0), (0, 0), (0, 1)))
    y = jnp.take_along_axis(padded, places, axis=2).swapaxes(1, 2)
    valid_region.record_size(x, y, kept)
    return y


def adaptive_avg_pool(x: Maps, size: int) -> Maps:
    """Mean over ``size`` cells along each spatial axis, which overlap as PyTorch's do.

    A map of just that size stays as it is; a smaller one is repeated.
    """
    for axis in range(1, x.ndim - 1):
        length = x.shape[axis]
        if length == size:
            continue
        cells = [(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]
        means = [
            lax.slice_in_dim(x, low, high, axis=axis).mean(axis, keepdims=True)
            for low, high in cells
        ]
        x = jnp.concatenate(means, axis=axis)
    return x


def global_avg_pool(x: Maps) -> Vectors:
    """Mean over each map, in float32 (Lin et al. 2013); over all axes but the first and last."""
    size = valid_region.valid_size(x)
    if size is None:
        return at_least_float32(x).mean(tuple(range(1, x.ndim - 1)))
    return valid_region.mean_of_valid(at_least_float32(x), *size)


def global_max_pool(x: Maps) -> Vectors:
    """Largest value of each map, over all axes but the first and last."""
    return valid_region.fill_padding(x, -jnp.inf).max(tuple(range(1, x.ndim - 1)))


def local_response_norm(x: Maps, size: int, k: float, alpha: float, beta: float) -> Maps:
    """Divide by the energy of neighbouring channels (Krizhevsky et al. 2012, section 3.3).

    b_i = a_i / (k + alpha * sum of a_j^2 over the ``size`` channels around i) ^ beta.
    """
    squares = at_least_float32(x) ** 2
    others = x.ndim - 1
    around = (*[(0, 0)] * others, (size // 2, size - 1 - size // 2))
    window = (*[1] * others, size)
    energy = lax.reduce_window(squares, 0.0, lax.add, window, (1,) * x.ndim, around)
    return (x / (k + alpha * energy) ** beta).astype(x.dtype)


def flatten(x: Maps) -> Vectors:
    """Return each example's values in one vector, in the order height, width, channel."""
    return x.reshape(x.shape[0], -1)


def require_images(images: Maps, least: int, net: str, advice: str) -> None:
    """Raise a UserError if images are smaller than a net needs.

    Args:
        images: what the net gets.
        least: smallest height and width in pixels that leave every layer one value.
        net: what the message calls it.
        advice: what takes smaller images.
    """
    height, width = images.shape[1:3]
    if min(height, width) < least:
        raise UserError(
            f"The images are too small for {net}: {height}x{width} pixels, and it needs at least "
            f"{least}x{least}. Take {advice}."
        )


def require_size(x: Maps, least: int, layer: str) -> None:
    """Raise a UserError if a map is smaller than a layer needs, or is none."""
    if x.ndim < 3:
        raise UserError(
            f"{layer} takes images (batch, height, width, channels) or sequences (batch, length, "
            f"channels), and gets an input of shape {x.shape}: tokens and vectors need another net."
        )
    if min(x.shape[1:-1]) >= max(1, least):
        return
    if x.ndim == 3:
        raise UserError(
            f"The input is too short for this net: {layer} gets {x.shape[1]} positions and needs "
            f"{max(1, least)}. Take longer sequences, or a net that shortens them less."
        )
    raise UserError(
        f"The input is too small for this net: {layer} gets maps of "
        f"{'x'.join(map(str, x.shape[1:-1]))} and needs {_sides(x, max(1, least))}. Take larger "
        "images, or a stem that keeps more of them where the model has the option."
    )


def _sides(x: Maps, side: int) -> str:
    """Return the size of a window over maps in words: 3x3, or 3 along a sequence."""
    return "x".join([str(side)] * (x.ndim - 2))
