"""Formulations of convolution, BatchNorm and max pooling that XLA:CPU runs well.

They are used where a program is lowered for the CPU and nowhere else, and `use(False)` turns them
off there too. What is wrong with the plain ones on XLA:CPU, as measured:

* Inside a loop a convolution is fast only if its dimension numbers are canonical (NHWC, HWIO) and
  it has no dilation of its input; the gradients that autodiff makes are neither, and fall to code
  that is 30 times slower. So `conv` writes its two gradients as canonical convolutions.
* A map smaller than the kernel takes the same slow path: there the patches are gathered and
  multiplied (im2col).
* BatchNorm and its rectifier, left to autodiff, pass over the map more often than they need to.
* 2x2 max pooling is faster as a maximum over a reshaped axis.

Values and gradients equal the plain formulations' up to float32 rounding.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Maps = Float[Array, "batch height width channels"]
Pair = tuple[int, int]
Padding = tuple[Pair, Pair]

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")
_enabled = True


def use(enabled: bool) -> None:
    """Turn the CPU formulations on or off for everything that is traced from now on."""
    global _enabled
    _enabled = enabled


def _choose(cpu: Callable[..., Any], plain: Callable[..., Any], *arguments: Any) -> Any:
    """Take one formulation for the CPU and the other elsewhere; decided when lowered."""
    return lax.platform_dependent(*arguments, cpu=cpu, default=plain)


# --- convolution --------------------------------------------------------------------------------


def conv(
    x: Maps,
    kernel: Float[Array, "kh kw in_channels out_channels"],
    *,
    stride: Pair,
    padding: Padding,
    groups: int = 1,
) -> Maps:
    """Cross-correlate maps with a kernel, as every net's "convolution" does.

    Args:
        x: the maps.
        kernel: its third axis has the channels of one group.
        stride: rows, columns.
        padding: zeros above and below, left and right.
        groups: the channels fall into so many independent groups.
    """
    plain = partial(_plain_conv, stride=stride, padding=padding, groups=groups)
    if not _enabled or groups != 1:
        return plain(x, kernel)
    return _conv(stride, padding, x, kernel)


def _plain_conv(x, kernel, *, stride, padding, groups=1):
    return lax.conv_general_dilated(
        x,
        kernel,
        stride,
        padding,
        dimension_numbers=_DIMENSIONS,
        feature_group_count=groups,
    )


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _conv(stride, padding, x, kernel):
    plain = partial(_plain_conv, stride=stride, padding=padding)
    return _choose(partial(_cpu_conv, stride=stride, padding=padding), plain, x, kernel)


def _conv_forward(stride, padding, x, kernel):
    return _conv(stride, padding, x, kernel), (x, kernel)


def _conv_backward(stride, padding, saved, dy):
    def plain(x, kernel, dy):
        return jax.vjp(partial(_plain_conv, stride=stride, padding=padding), x, kernel)[1](dy)

    def canonical(x, kernel, dy):
        if _is_small(x, kernel):
            return jax.vjp(partial(_im2col_conv, stride=stride, padding=padding), x, kernel)[1](dy)
        return (
            _input_gradient(x, kernel, dy, stride, padding),
            _kernel_gradient(x, kernel, dy, stride, padding),
        )

    return _choose(canonical, plain, *saved, dy)


_conv.defvjp(_conv_forward, _conv_backward)


def _is_small(x, kernel) -> bool:
    """Whether the map is smaller than the kernel."""
    return x.shape[1] < kernel.shape[0] or x.shape[2] < kernel.shape[1]


def _cpu_conv(x, kernel, *, stride, padding):
    if _is_small(x, kernel):
        return _im2col_conv(x, kernel, stride=stride, padding=padding)
    return _plain_conv(x, kernel, stride=stride, padding=padding)


def _im2col_conv(x, kernel, *, stride, padding):
    """Gather the patches under the kernel and multiply."""
    kh, kw, c, k = kernel.shape
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    rows = (x.shape[1] - kh) // stride[0] + 1
    columns = (x.shape[2] - kw) // stride[1] + 1
    taps = [
        lax.slice(
            x,
            (0, i, j, 0),
            (x.shape[0], i + (rows - 1) * stride[0] + 1, j + (columns - 1) * stride[1] + 1, c),
            (1, *stride, 1),
        )
        for i in range(kh)
        for j in range(kw)
    ]
    patches = jnp.concatenate(taps, axis=-1).reshape(-1, kh * kw * c)
    return (patches @ kernel.reshape(-1, k)).reshape(x.shape[0], rows, columns, k)


def _input_gradient(x, kernel, dy, stride, padding):
    """Spread dy out by the stride, then convolve with the kernel turned by half a turn."""
    if stride != (1, 1):
        zero = jnp.zeros((), dy.dtype)
        inside = ((0, 0, 0), (0, 0, stride[0] - 1), (0, 0, stride[1] - 1), (0, 0, 0))
        dy = lax.optimization_barrier(lax.pad(dy, zero, inside))
    low = [kernel.shape[i] - 1 - padding[i][0] for i in (0, 1)]
    # What the high side needs so that the result has the input's size.
    high = [x.shape[i + 1] - dy.shape[i + 1] - low[i] + kernel.shape[i] - 1 for i in (0, 1)]
    turned = lax.optimization_barrier(jnp.flip(kernel, (0, 1)).swapaxes(2, 3))
    return _plain_conv(dy, turned, stride=(1, 1), padding=((low[0], high[0]), (low[1], high[1])))


def _kernel_gradient(x, kernel, dy, stride, padding):
    """Correlate the input with dy: channels take the place of examples, and back."""
    if kernel.shape[:2] == (1, 1) and padding == ((0, 0), (0, 0)):
        x = x[:, :: stride[0], :: stride[1]]
        product = x.reshape(-1, x.shape[-1]).T @ dy.reshape(-1, dy.shape[-1])
        return product.reshape(kernel.shape)
    x_by_channel = lax.optimization_barrier(x.transpose(3, 1, 2, 0))
    dy_as_kernel = lax.optimization_barrier(dy.transpose(1, 2, 0, 3))
    high = [
        kernel.shape[i] + stride[i] * (dy.shape[i + 1] - 1) - x.shape[i + 1] - padding[i][0]
        for i in (0, 1)
    ]
    by_channel = lax.conv_general_dilated(
        x_by_channel,
        dy_as_kernel,
        (1, 1),
        ((padding[0][0], high[0]), (padding[1][0], high[1])),
        rhs_dilation=stride,
        dimension_numbers=_DIMENSIONS,
    )
    return by_channel.transpose(1, 2, 0, 3)


# --- BatchNorm ----------------------------------------------------------------------------------


def batch_norm(
    x: Maps,
    scale: Float[Array, " channels"],
    bias: Float[Array, " channels"],
    *,
    eps: float,
    relu: bool,
) -> tuple[Maps, Float[Array, " channels"], Float[Array, " channels"]]:
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
    if not _enabled:
        return _plain_batch_norm(x, scale, bias, eps=eps, relu=relu)
    y, mean, variance = _batch_norm(eps, relu, x, scale, bias)
    return y, lax.stop_gradient(mean), lax.stop_gradient(variance)


def _plain_batch_norm(x, scale, bias, *, eps, relu):
    x32 = x.astype(jnp.float32)
    mean = x32.mean((0, 1, 2))
    variance = jnp.maximum(0.0, (x32 * x32).mean((0, 1, 2)) - mean * mean)
    y = normalise(x, mean, variance, scale, bias, eps=eps, relu=relu)
    return y, lax.stop_gradient(mean), lax.stop_gradient(variance)


def normalise(x, mean, variance, scale, bias, *, eps: float, relu: bool) -> Maps:
    """Scale and shift maps by given statistics, in x's own type, and rectify if asked."""
    factor = scale * lax.rsqrt(variance + eps)
    offset = bias - mean * factor
    y = x.astype(jnp.float32) * factor.reshape(1, 1, 1, -1) + offset.reshape(1, 1, 1, -1)
    return (jnp.maximum(y, 0) if relu else y).astype(x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _batch_norm(eps, relu, x, scale, bias):
    return _batch_norm_forward(eps, relu, x, scale, bias)[0]


def _batch_norm_forward(eps, relu, x, scale, bias):
    plain = partial(_plain_batch_norm, eps=eps, relu=relu)
    cpu = partial(_cpu_batch_norm, eps=eps, relu=relu)
    y, mean, variance = _choose(cpu, plain, x, scale, bias)
    return (y, mean, variance), (x, scale, bias, mean, variance, y)


def _cpu_batch_norm(x, scale, bias, *, eps, relu):
    flat = x.reshape(-1, x.shape[-1]).astype(jnp.float32)
    mean = flat.mean(0)
    variance = jnp.maximum(0.0, (flat * flat).mean(0) - mean * mean)
    y = normalise(x, mean, variance, scale, bias, eps=eps, relu=relu)
    return y, mean, variance


def _batch_norm_backward(eps, relu, saved, cotangents):
    def plain(x, scale, bias, mean, variance, y, dy):
        def normalised(x, scale, bias):
            return _plain_batch_norm(x, scale, bias, eps=eps, relu=relu)[0]

        return jax.vjp(normalised, x, scale, bias)[1](dy)

    return _choose(partial(_batch_norm_gradients, eps, relu), plain, *saved, cotangents[0])


def _batch_norm_gradients(eps, relu, x, scale, bias, mean, variance, y, dy):
    del bias
    channels = x.shape[-1]
    dy = dy.reshape(-1, channels).astype(jnp.float32)
    if relu:
        dy = jnp.where(y.reshape(-1, channels) > 0, dy, 0.0)
    inverse = lax.rsqrt(variance + eps)[None]
    centred = (x.reshape(-1, channels).astype(jnp.float32) - mean[None]) * inverse
    d_bias = dy.sum(0)
    d_scale = (dy * centred).sum(0)
    n = dy.shape[0]
    dx = scale[None] * inverse * (dy - (d_bias[None] + centred * d_scale[None]) / n)
    return dx.astype(x.dtype).reshape(x.shape), d_scale, d_bias


_batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)


# --- max pooling --------------------------------------------------------------------------------


def max_pool(x: Maps, window: Pair, stride: Pair, padding: Padding) -> Maps:
    """Take the largest value under a window; the gradient goes to the first of equals.

    Args:
        x: the maps.
        window: rows, columns.
        stride: rows, columns.
        padding: minus infinity above and below, left and right.
    """
    plain = partial(_plain_max_pool, window=window, stride=stride, padding=padding)
    tiles = window == stride == (2, 2) and padding == ((0, 0), (0, 0))
    if not (_enabled and tiles):
        return plain(x)
    return _max_pool_2x2(x)


_TILES = {"window": (2, 2), "stride": (2, 2), "padding": ((0, 0), (0, 0))}


def _plain_max_pool(x, *, window, stride, padding):
    return lax.reduce_window(
        x,
        -jnp.inf,
        lax.max,
        (1, *window, 1),
        (1, *stride, 1),
        ((0, 0), *padding, (0, 0)),
    )


@jax.custom_vjp
def _max_pool_2x2(x):
    return _choose(lambda x: _corners(x).max(0), partial(_plain_max_pool, **_TILES), x)


def _corners(x):
    """Return the four values of each 2x2 tile along a new first axis; an odd edge is dropped."""
    x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
    b, h, w, c = x.shape
    tiles = x.reshape(b, h // 2, 2, w // 2, 2, c)
    return jnp.stack([tiles[:, :, i, :, j] for i in (0, 1) for j in (0, 1)])


def _max_pool_2x2_forward(x):
    y = _max_pool_2x2(x)
    return y, (x, y)


def _max_pool_2x2_backward(saved, dy):
    def plain(x, y, dy):
        return jax.vjp(partial(_plain_max_pool, **_TILES), x)[1](dy)

    return (_choose(_first_of_equals, lambda *given: plain(*given)[0], *saved, dy),)


def _first_of_equals(x, y, dy):
    taken = jnp.zeros(y.shape, bool)
    gradients = []
    for corner in _corners(x):
        hit = (corner == y) & ~taken
        taken |= hit
        gradients.append(jnp.where(hit, dy, 0))
    top = jnp.stack(gradients[:2], axis=3)  # (B, H/2, W/2, 2 columns, C)
    bottom = jnp.stack(gradients[2:], axis=3)
    b, h, w, c = y.shape
    both = jnp.stack([top, bottom], axis=2).reshape(b, 2 * h, 2 * w, c)
    edge = ((0, 0), (0, x.shape[1] - 2 * h), (0, x.shape[2] - 2 * w), (0, 0))
    return jnp.pad(both, edge)


_max_pool_2x2.defvjp(_max_pool_2x2_forward, _max_pool_2x2_backward)
