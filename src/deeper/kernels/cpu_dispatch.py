"""Formulations of convolution, BatchNorm and max pooling that XLA runs well.

Those of convolution are used where a program is lowered for the CPU, that of max pooling's gradient
also for GPUs, and that of BatchNorm's on every platform; `use(False)` turns all of them off. The
plain formulations have these faults on XLA:CPU, as measured:

* Inside a loop a convolution is fast only if its dimension numbers are canonical (NHWC, HWIO) and
  it has no dilation of its input; the gradients that autodiff makes are neither, and fall to code
  that is 30 times slower. `deeper.kernels.cpu_convolution` writes them as canonical convolutions,
  and chooses faster formulations for the shapes that have one.
* BatchNorm and its rectifier, left to autodiff, pass over the map more often than they need to.
* The gradient of max pooling is a scatter, which runs value by value.

And on XLA:GPU, by the programs that it makes of the steps (`experiments/bench/README.md`):

* With deterministic operations the scatter is a sort of all of the map's values: 120 kernels and
  15 % of the memory traffic of ResNet-50's step, three quarters of GoogLeNet's.
* BatchNorm, left to autodiff, writes a float32 map for its sums, and the rectifier's mask beside.

Values and gradients equal the plain formulations' up to float32 rounding.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from deeper.kernels import cpu_convolution
from deeper.kernels.cpu_convolution import AnyKernel, AnyMaps, Pair, Window
from deeper.kernels.precision import at_least_float32

# Both are read while a net is traced. As contexts of JAX they are part of jit's cache keys: a
# function that was traced with one value is traced again with another.
_enabled = jax.make_user_context(default_value=True)
_joins_padding = jax.make_user_context(default_value=False)


def use(enabled: bool) -> None:
    """Turn the CPU formulations on or off, in all threads, for what is traced from now on."""
    _enabled.set_global(enabled)


@contextmanager
def turned_off() -> Iterator[None]:
    """Trace without the CPU formulations: each convolution is one equation, whatever the batch."""
    with _enabled(False):
        yield


@contextmanager
def turned_on() -> Iterator[None]:
    """Trace with the formulations: what their gradients keep is what training keeps."""
    with _enabled(True):
        yield


@contextmanager
def joined_padding() -> Iterator[None]:
    """Trace with max pooling's padding joined to the map, for converters that leave it out."""
    with _joins_padding(True):
        yield


def _choose(cpu: Callable[..., Any], plain: Callable[..., Any], *arguments: Any) -> Any:
    """Apply one formulation on the CPU and the other elsewhere, decided at lowering."""
    return lax.platform_dependent(*arguments, cpu=cpu, default=plain)


# --- convolution --------------------------------------------------------------------------------


def conv(
    x: AnyMaps,
    kernel: AnyKernel,
    *,
    stride: tuple[int, ...],
    padding: tuple[Pair, ...],
    groups: int = 1,
    dilation: int = 1,
) -> AnyMaps:
    """Cross-correlate maps or sequences with a kernel, as every net's "convolution" does.

    Args:
        x: (batch, height, width, channels), or (batch, length, channels).
        kernel: its last axis but one has the channels of one group.
        stride: rows, columns; or of the length alone.
        padding: zeros above and below, left and right; or before and after.
        groups: the channels fall into so many independent groups.
        dilation: distance of the kernel's taps, in all axes.
    """
    window = Window(stride, padding, groups, dilation)
    formulation = _conv if _enabled.value else cpu_convolution.plain
    return formulation(window, x, kernel)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _conv(window, x, kernel):
    cpu, plain = (partial(f, window) for f in (cpu_convolution.convolve, cpu_convolution.plain))
    return _choose(cpu, plain, x, kernel)


def _conv_forward(window, x, kernel):
    return _conv(window, x, kernel), (x, kernel)


def _conv_backward(window, saved, dy):
    def plain(x, kernel, dy):
        return jax.vjp(partial(cpu_convolution.plain, window), x, kernel)[1](dy)

    return _choose(partial(cpu_convolution.gradients, window), plain, *saved, dy)


_conv.defvjp(_conv_forward, _conv_backward)


# --- BatchNorm ----------------------------------------------------------------------------------


def batch_norm(
    x: AnyMaps,
    scale: Float[Array, " channels"],
    bias: Float[Array, " channels"],
    *,
    eps: float,
    relu: bool,
) -> tuple[AnyMaps, Float[Array, " channels"], Float[Array, " channels"]]:
    """Normalise by the batch's own statistics (Ioffe and Szegedy 2015, algorithm 1).

    Args:
        x: the maps.
        scale: gamma, float32.
        bias: beta, float32.
        eps: added to the variance.
        relu: rectify the result.

    Returns:
        The maps, and the batch's mean and biased variance in float32, through which no gradient
        goes.
    """
    if not _enabled.value:
        return _plain_batch_norm(x, scale, bias, eps=eps, relu=relu)
    y, mean, variance = _batch_norm(eps, relu, x, scale, bias)
    return y, lax.stop_gradient(mean), lax.stop_gradient(variance)


def _plain_batch_norm(x, scale, bias, *, eps, relu):
    mean, variance = moments(x)
    y = normalise(x, mean, variance, scale, bias, eps=eps, relu=relu)
    return y, lax.stop_gradient(mean), lax.stop_gradient(variance)


def moments(x: AnyMaps) -> tuple[Float[Array, " channels"], Float[Array, " channels"]]:
    """Return each channel's mean and biased variance, in float32 at least.

    Both are computed in one pass, relative to one of the map's values: E[x^2] - E[x]^2 itself
    cancels where a channel's mean is many times its deviation (Chan, Golub and LeVeque 1983).
    """
    flat = at_least_float32(x.reshape(-1, x.shape[-1]))
    shift = lax.stop_gradient(flat[0])
    shifted = flat - shift[None]
    mean = shifted.mean(0)
    return shift + mean, jnp.maximum(0.0, (shifted * shifted).mean(0) - mean * mean)


def normalise(x, mean, variance, scale, bias, *, eps: float, relu: bool) -> AnyMaps:
    """Scale and shift maps by given statistics, in x's own type, and rectify if asked."""
    factor = scale * lax.rsqrt(variance + eps)
    offset = bias - mean * factor
    by_channel = (*[1] * (x.ndim - 1), -1)
    y = at_least_float32(x) * factor.reshape(by_channel) + offset.reshape(by_channel)
    return (jnp.maximum(y, 0) if relu else y).astype(x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _batch_norm(eps, relu, x, scale, bias):
    return _batch_norm_forward(eps, relu, x, scale, bias)[0]


def _batch_norm_forward(eps, relu, x, scale, bias):
    y, mean, variance = _plain_batch_norm(x, scale, bias, eps=eps, relu=relu)
    # The output tells the rectifier's mask; without one it is not kept.
    return (y, mean, variance), (x, scale, bias, mean, variance, y if relu else None)


def _batch_norm_backward(eps, relu, saved, cotangents):
    cpu, other = (partial(batch_norm_gradients, eps, relu, keeps) for keeps in (True, False))
    return _choose(cpu, other, *saved, cotangents[0])


def batch_norm_gradients(eps, relu, keeps_output, x, scale, bias, mean, variance, y, dy):
    """Return the gradients with respect to x, scale and bias.

    Args:
        eps: added to the variance.
        relu: whether the result was rectified.
        keeps_output: tell from y where the rectifier passed, which is cheap on a CPU; otherwise
            from x, which has to be read in any case.
        x: the maps.
        scale: gamma.
        bias: beta.
        mean: of the batch.
        variance: of the batch.
        y: the result; it may be None where it was not rectified.
        dy: the gradient with respect to y.
    """
    channels = x.shape[-1]
    flat, dy = (at_least_float32(v.reshape(-1, channels)) for v in (x, dy))

    def rectified(factor, offset):
        if not relu:
            return dy
        seen = y.reshape(-1, channels) if keeps_output else flat * factor[None] + offset[None]
        return jnp.where(seen > 0, dy, 0.0)

    inverse = lax.rsqrt(variance + eps)
    factor = scale * inverse
    line = factor, bias - mean * factor  # y = factor * x + offset, as `normalise` has it
    dy_of_sums = rectified(*line)
    d_bias = dy_of_sums.sum(0)
    d_scale = ((dy_of_sums * flat).sum(0) - mean * d_bias) * inverse
    # XLA would write the mask out for its second use: behind a barrier it is computed again.
    dy_of_x = dy_of_sums if keeps_output else rectified(*lax.optimization_barrier(line))
    # dx = scale * inverse * (dy - (d_bias + (x - mean) * inverse * d_scale) / n), sorted by powers
    # of x, so that the map is read and written once.
    slope = -factor * d_scale * inverse / len(dy)
    offset = -factor * d_bias / len(dy) - slope * mean
    dx = factor[None] * dy_of_x + slope[None] * flat + offset[None]
    return dx.astype(x.dtype).reshape(x.shape), d_scale, d_bias


_batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)


# --- max pooling --------------------------------------------------------------------------------


def max_pool(
    x: AnyMaps, window: tuple[int, ...], stride: tuple[int, ...], padding: tuple[Pair, ...]
) -> AnyMaps:
    """Take the largest value under a window; the gradient goes to the first of equals.

    Args:
        x: (batch, height, width, channels), or (batch, length, channels).
        window: rows, columns; or of the length alone.
        stride: by axis.
        padding: minus infinity above and below, left and right; or before and after.
    """
    return (_max_pool if _enabled.value else _plain_max_pool)(window, stride, padding, x)


def _plain_max_pool(window, stride, padding, x):
    if _joins_padding.value:
        for axis, side in enumerate(padding, start=1):
            edges = (lax.slice_in_dim(x, 0, size, axis=axis) for size in side)
            low, high = (jnp.minimum(edge, -jnp.inf) for edge in edges)
            x = jnp.concatenate([low, x, high], axis)
        padding = ((0, 0),) * len(padding)
    # By keyword, as the ONNX converter that replaces this function expects.
    return nn.max_pool(x, window_shape=window, strides=stride, padding=padding)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _max_pool(window, stride, padding, x):
    plain = partial(_plain_max_pool, window, stride, padding)
    return _choose(partial(_cpu_max_pool, window, stride, padding), plain, x)


def _cpu_max_pool(window, stride, padding, x):
    if window != stride or any(map(any, padding)):
        return _plain_max_pool(window, stride, padding, x)
    if x.ndim == 3:
        return _cpu_max_pool((1, *window), (1, *stride), ((0, 0), *padding), x[:, None])[:, 0]
    return functools.reduce(jnp.maximum, cpu_convolution.taps(x, window, stride))


def _max_pool_forward(window, stride, padding, x):
    y = _max_pool(window, stride, padding, x)
    return y, (x, y)


def _max_pool_backward(window, stride, padding, saved, dy):
    def scattered(x, y, dy):
        del y
        return jax.vjp(partial(_plain_max_pool, window, stride, padding), x)[1](dy)[0]

    # A TPU has an instruction for it: half of the gathering's memory traffic.
    gathered = partial(_max_pool_gradient, window, stride, padding)
    return (lax.platform_dependent(*saved, dy, tpu=scattered, default=gathered),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _max_pool_gradient(window, stride, padding, x, y, dy):
    """Find each window's first maximum, then gather dy for each place of the input."""
    if x.ndim == 3:
        of_one_row = ((1, *window), (1, *stride), ((0, 0), *padding))
        return _max_pool_gradient(*of_one_row, x[:, None], y[:, None], dy[:, None])[:, 0]
    seen = cpu_convolution.taps(cpu_convolution.pad(x, padding, -jnp.inf), window, stride)
    first = jnp.full(y.shape, len(seen), jnp.uint8)
    for number, values in reversed(list(enumerate(seen))):
        first = jnp.where(values == y, jnp.uint8(number), first)
    reach = [-(-window[i] // stride[i]) - 1 for i in (0, 1)]
    if any(reach):  # several parts need it: compute it once
        first = lax.optimization_barrier(first)

    def part(row: int, column: int):
        """Gather dy for the padded map's rows and columns of one remainder."""
        total = jnp.zeros((), dy.dtype)
        for i in range(row, window[0], stride[0]):
            for j in range(column, window[1], stride[1]):
                mine = jnp.where(first == i * window[1] + j, dy, 0)
                down, right = i // stride[0], j // stride[1]
                around = ((down, reach[0] - down), (right, reach[1] - right))
                total += cpu_convolution.pad(mine, around)
        shape = (y.shape[0], y.shape[1] + reach[0], y.shape[2] + reach[1], y.shape[3])
        return jnp.broadcast_to(total, shape)

    dx = cpu_convolution.interleave(part, stride)
    low = [side[0] for side in padding]
    crop = [(-low[i], low[i] + x.shape[i + 1] - dx.shape[i + 1]) for i in (0, 1)]
    return cpu_convolution.pad(dx, (crop[0], crop[1]))
