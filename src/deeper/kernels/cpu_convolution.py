"""Convolution and its gradients as XLA:CPU runs them well; see `deeper.kernels.cpu_dispatch`.

Which formulation is taken follows from the shapes alone:

* One group a channel: a sum of shifted maps, see `deeper.kernels.cpu_depthwise`.
* A map smaller than the kernel, or float64: gather the patches and multiply (im2col).
* 3x3 at many channels, with zeros around: Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray
  2015), a quarter of the multiplications. Its rounding error is four to five times PyTorch's for
  the result and the input's gradient and up to twelve times for the kernel's gradient, yet VGG-11's
  weights after two steps are as near to float64 as PyTorch's. F(2x2, 3x3) rounds as PyTorch does,
  but makes a step of VGG-16 1.24 times as long (experiments/bench/README.md).
* Few output channels: several columns of the result at once.
* The input's gradient at a stride: one convolution for each remainder of row and column.
* The kernel's gradient: one product for 1x1, else a convolution with channels for examples, of as
  many examples at a time as the caches hold where there are few channels.

Inside a loop XLA:CPU is fast only at convolutions whose dimension numbers are NHWC, HWIO, NHWC and
whose input is not dilated, so all of them are written that way, and barriers keep XLA from fusing
the preparation of their operands into other operations.

Sequences (batch, length, channels) are maps of one row.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from deeper.kernels import cpu_depthwise

Maps = Float[Array, "batch height width channels"]
Kernel = Float[Array, "kh kw in_channels out_channels"]
# Of sequences too, whose one spatial axis is the length.
AnyMaps = Float[Array, "batch *places channels"]
AnyKernel = Float[Array, "*sides in_channels out_channels"]
Pair = tuple[int, int]
Padding = tuple[Pair, Pair]

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")
_DIMENSIONS_OF_SEQUENCES = ("NWC", "WIO", "NWC")
_FEW = 32  # channels; below, moving the maps takes longer than the multiplications
_AT_ONCE = 2**18  # values of a map of few channels whose copies stay in the caches


class Window(NamedTuple):
    """How a kernel moves over the maps, by spatial axis; rows before columns."""

    stride: tuple[int, ...] = (1, 1)
    padding: tuple[Pair, ...] = ((0, 0), (0, 0))
    groups: int = 1
    dilation: int = 1


def plain(window: Window, x: AnyMaps, kernel: AnyKernel) -> AnyMaps:
    """Cross-correlate by XLA's own operation."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window.stride,
        window.padding,
        rhs_dilation=(window.dilation,) * len(window.stride),
        dimension_numbers=_DIMENSIONS if x.ndim == 4 else _DIMENSIONS_OF_SEQUENCES,
        feature_group_count=window.groups,
    )


def convolve(window: Window, x: AnyMaps, kernel: AnyKernel) -> AnyMaps:
    """Cross-correlate by the formulation that suits the shapes."""
    if x.ndim == 3:
        return convolve(_of_one_row(window), x[:, None], kernel[None])[:, 0]
    if cpu_depthwise.suits(window.groups, kernel, window.dilation):
        return cpu_depthwise.convolve(window, x, kernel)
    return _by_group(partial(_convolve, window._replace(groups=1)), window.groups)(x, kernel)


def gradients(
    window: Window, x: AnyMaps, kernel: AnyKernel, dy: AnyMaps
) -> tuple[AnyMaps, AnyKernel]:
    """Return the gradients with respect to x and kernel, given that with respect to the result."""
    if x.ndim == 3:
        dx, dk = gradients(_of_one_row(window), x[:, None], kernel[None], dy[:, None])
        return dx[:, 0], dk[0]
    if cpu_depthwise.suits(window.groups, kernel, window.dilation):
        return cpu_depthwise.gradients(window, x, kernel, dy)
    return _by_group(partial(_gradients, window._replace(groups=1)), window.groups)(x, kernel, dy)


def _of_one_row(window: Window) -> Window:
    """Return the window of a sequence over the map of one row that the sequence is."""
    return window._replace(stride=(1, *window.stride), padding=((0, 0), *window.padding))


def _by_group(function, groups: int):
    """Apply a function of arrays to each group of their last axis.

    By a loop: the program is that of one group, however many there are.
    """

    def apply(*arrays):
        by_group = (jnp.moveaxis(v.reshape(*v.shape[:-1], groups, -1), -2, 0) for v in arrays)
        results = lax.map(lambda of: function(*of), tuple(by_group))
        return jax.tree.map(
            lambda y: jnp.moveaxis(y, 0, -2).reshape(*y.shape[1:-1], groups * y.shape[-1]), results
        )

    return function if groups == 1 else apply


def _convolve(window, x, kernel):
    if _suits_im2col(window, x, kernel):
        return _im2col(window, x, kernel)
    if _suits_winograd(window, x, kernel):
        return _winograd(x, kernel)
    if window.dilation == 1 and 2 * kernel.shape[3] <= _FEW:
        return _several_columns(window, x, kernel)
    return plain(window, x, kernel)


def _gradients(window, x, kernel, dy):
    # Without barriers XLA recomputes x and dy from their operands at each use.
    x, dy = lax.optimization_barrier(x), lax.optimization_barrier(dy)
    if _suits_im2col(window, x, kernel):
        return jax.vjp(partial(_im2col, window), x, kernel)[1](dy)
    return _input_gradient(window, x, kernel, dy), _kernel_gradient(window, x, kernel, dy)


# --- forward ------------------------------------------------------------------------------------


def _suits_im2col(window, x, kernel) -> bool:
    """Whether the map is smaller than the kernel, or float64: XLA has no fast convolution then."""
    smaller = x.shape[1] < kernel.shape[0] or x.shape[2] < kernel.shape[1]
    return (smaller or x.dtype == jnp.float64) and window.dilation == 1


def _im2col(window, x, kernel):
    kh, kw, _, k = kernel.shape
    x = pad(x, window.padding)
    patches = jnp.concatenate(taps(x, (kh, kw), window.stride), axis=-1)
    product = patches.reshape(-1, patches.shape[-1]) @ kernel.reshape(-1, k)
    return product.reshape(*patches.shape[:-1], k)


def pad(x: Maps, padding: Padding, value: float = 0.0) -> Maps:
    """Pad maps with a value; negative padding crops."""
    around = [(0, 0, 0), *((*side, 0) for side in padding), (0, 0, 0)]
    return lax.pad(x, jnp.array(value, x.dtype), around)


def taps(x: Maps, window: Pair, stride: Pair) -> list[Maps]:
    """Return one strided slice for each place of a window, row by row."""
    (b, h, w, c), (kh, kw) = x.shape, window
    return [
        lax.slice(x, (0, i, j, 0), (b, h - kh + i + 1, w - kw + j + 1, c), (1, *stride, 1))
        for i in range(kh)
        for j in range(kw)
    ]


def _several_columns(window, x, kernel):
    """Widen the kernel so that its output channels are those of n neighbouring columns.

    XLA:CPU gathers the patches under a kernel and multiplies them by it. At few output channels
    the gathering takes most of the time, and neighbouring columns share most of a patch.
    """
    (_, kw, _, k), stride, padding = kernel.shape, window.stride, window.padding
    n = max(2, 24 // k)
    width = (x.shape[2] + sum(padding[1]) - kw) // stride[1] + 1
    places = [(i * stride[1], (n - 1 - i) * stride[1]) for i in range(n)]
    wide = jnp.concatenate([jnp.pad(kernel, ((0, 0), p, (0, 0), (0, 0))) for p in places], -1)
    right = (-(-width // n) * n - 1) * stride[1] + kw - x.shape[2] - padding[1][0]
    window = Window((stride[0], n * stride[1]), (padding[0], (padding[1][0], right)))
    y = plain(window, x, lax.optimization_barrier(wide))
    return y.reshape(*y.shape[:2], n * y.shape[2], k)[:, :, :width]


# --- gradients ----------------------------------------------------------------------------------


def _input_gradient(window, x, kernel, dy):
    """Convolve dy with the kernel turned by half a turn.

    At a stride s, the rows of x with one remainder modulo s meet only every s-th row of the kernel.
    Computed apart, they avoid the multiplications by zero of a dilated dy.
    """
    if _suits_winograd(window, x, kernel):
        return _winograd(dy, kernel, turned=True)
    stride, spread = window.stride, (0, 0, window.dilation - 1)
    none = (0, 0, 0)
    kernel = lax.pad(kernel, jnp.zeros((), kernel.dtype), (spread, spread, none, none))
    size = [-(-x.shape[i + 1] // stride[i]) for i in (0, 1)]

    def part(*remainder: int):
        place = [divmod(remainder[i] + window.padding[i][0], stride[i]) for i in (0, 1)]
        seen = kernel[place[0][1] :: stride[0], place[1][1] :: stride[1]]
        if 0 in seen.shape:
            return jnp.zeros((x.shape[0], *size, x.shape[3]), x.dtype)
        low = [seen.shape[i] - 1 - place[i][0] for i in (0, 1)]
        high = [size[i] + place[i][0] - dy.shape[i + 1] for i in (0, 1)]
        turned = lax.optimization_barrier(jnp.flip(seen, (0, 1)).swapaxes(2, 3))
        return _convolve(Window(padding=((low[0], high[0]), (low[1], high[1]))), dy, turned)

    return interleave(part, stride)[:, : x.shape[1], : x.shape[2]]


def interleave(part: Callable[[int, int], Maps], stride: Pair) -> Maps:
    """Assemble maps from their parts, one for each remainder of row and column by the stride."""
    if stride == (1, 1):
        return part(0, 0)
    rows = [jnp.stack([part(i, j) for j in range(stride[1])], axis=3) for i in range(stride[0])]
    b, h, sh, w, sw, c = (y := jnp.stack(rows, axis=2)).shape
    return y.reshape(b, h * sh, w * sw, c)


def _kernel_gradient(window, x, kernel, dy):
    (stride, padding, _, _), (kh, kw, c, k) = window, kernel.shape
    if (kh, kw) == (1, 1) and padding == ((0, 0), (0, 0)):
        x = x[:, :: stride[0], :: stride[1]]
        # Maps with more pixels than channels: image by image, which is a product for each core.
        images = x.shape[0] if x.shape[1] * x.shape[2] >= c else 1
        x, dy = x.reshape(images, -1, c), dy.reshape(images, -1, k)
        return lax.dot_general(x, dy, (((1,), (1,)), ((0,), (0,)))).sum(0).reshape(kernel.shape)
    if _suits_winograd(window, x, kernel):
        return jax.linear_transpose(partial(_winograd, x), kernel)(dy)[0]
    correlate = partial(_channels_for_examples, window, kernel.shape)
    groups = math.gcd(max(1, x.size // _AT_ONCE), len(x)) if max(c, k) <= _FEW else 1
    if groups == 1:
        return correlate(x, dy)
    pairs = tuple(v.reshape(groups, -1, *v.shape[1:]) for v in (x, dy))
    return sum(correlate(*pair) for pair in zip(*pairs))


def _channels_for_examples(window, shape, x, dy):
    """Correlate the input with dy: channels take the place of examples, and back."""
    stride, padding, _, dilation = window
    high = [
        dilation * (shape[i] - 1)
        + stride[i] * (dy.shape[i + 1] - 1)
        + 1
        - x.shape[i + 1]
        - padding[i][0]
        for i in (0, 1)
    ]
    sides = ((padding[0][0], high[0]), (padding[1][0], high[1]))
    if math.prod(dy.shape[1:3]) > math.prod(x.shape[1:3]):
        # XLA would move the smaller one over the larger one, for which it has only a slow loop.
        x, sides = lax.optimization_barrier(pad(x, sides)), ((0, 0), (0, 0))
    by_channel = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),
        dy.transpose(1, 2, 0, 3),
        (dilation, dilation),
        sides,
        rhs_dilation=stride,
        dimension_numbers=_DIMENSIONS,
    )
    return by_channel.transpose(1, 2, 0, 3)


# --- Winograd's minimal filtering ---------------------------------------------------------------

# B^T, G and A^T of F(4, 3): four results of three taps from six inputs (Lavin and Gray 2015,
# section 4.3). The Kronecker products serve two dimensions, (36, 36), (36, 9) and (16, 36).
_B = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
_G = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
_A = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])
_INPUT, _KERNEL, _RESULT = (np.kron(m, m).astype(np.float32) for m in (_B, _G, _A))


def _suits_winograd(window, x, kernel) -> bool:
    """Whether it is faster: the products must outweigh the transformations around them."""
    (b, h, w, _), (kh, kw, c, k) = x.shape, kernel.shape
    tiles = b * -(-h // 4) * -(-w // 4)
    shaped = (kh, kw) == (3, 3) and window == Window(padding=((1, 1), (1, 1)))
    return shaped and x.dtype == jnp.float32 and min(c, k) >= 64 and c * k >= 8192 and tiles >= 64


def _winograd(x, kernel, turned: bool = False):
    """Convolve; with the kernel turned by half a turn and its channels swapped, if asked."""
    b, h, w, c = x.shape
    rows, columns = -(-h // 4), -(-w // 4)
    # Tiles of 4x4, one more than results in each direction, then the overlapping tiles of 6x6.
    x = pad(x, ((1, 4 * rows + 3 - h), (1, 4 * columns + 3 - w)))
    x = x.reshape(b, rows + 1, 4, columns + 1, 4, c).transpose(2, 4, 0, 1, 3, 5)
    x = lax.optimization_barrier(x)
    tiles = [
        x[i % 4, j % 4, :, i // 4 : i // 4 + rows, j // 4 : j // 4 + columns]
        for i in range(6)
        for j in range(6)
    ]
    seen = _INPUT @ lax.optimization_barrier(jnp.stack(tiles).reshape(36, -1))
    weights = (_KERNEL[:, ::-1] if turned else _KERNEL) @ kernel.reshape(9, -1)
    weights = weights.reshape(36, *kernel.shape[2:])
    over = (((2,), (2 if turned else 1,)), ((0,), (0,)))
    product = lax.dot_general(seen.reshape(36, -1, c), weights, over)
    y = (_RESULT @ product.reshape(36, -1)).reshape(4, 4, b, rows, columns, -1)
    return y.transpose(2, 3, 0, 4, 1, 5).reshape(b, 4 * rows, 4 * columns, -1)[:, :h, :w]
