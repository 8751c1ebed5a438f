"""Depthwise convolution, one group a channel, as XLA:CPU runs it well.

XLA:CPU computes each group of a convolution by itself. Here a convolution is a sum of shifted maps,
each times the kernel's value there: one fused loop with neighbouring channels side by side. On two
busy cores a 7x7 over 16 maps of 32x32x96 takes 7 ms instead of 280, its gradients 50 ms instead of
470; a 3x3 of stride 2 over 144 channels 2 instead of 48, and 5 instead of 200.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from deeper.kernels.precision import at_least_float32

Maps = Float[Array, "batch height width channels"]
Kernel = Float[Array, "kh kw 1 channels"]


def suits(groups: int, kernel: Any, dilation: int) -> bool:
    """Whether a convolution has one group a channel, with one result each."""
    return groups > 1 and groups == kernel.shape[-1] and kernel.shape[-2] == 1 and dilation == 1


def convolve(window: Any, x: Maps, kernel: Kernel) -> Maps:
    """Cross-correlate each channel with its own kernel.

    Args:
        window: stride and padding, see `cpu_convolution.Window`.
        x: the maps.
        kernel: of one input channel a group.
    """
    kh, kw, _, channels = kernel.shape
    seen = _padded(x, window.padding)
    rows, columns = (
        (seen.shape[axis] - side) // step + 1
        for axis, side, step in zip((1, 2), (kh, kw), window.stride)
    )
    values = at_least_float32(kernel)
    total: Any = jnp.zeros((), values.dtype)
    for i in range(kh):
        for j in range(kw):
            value = values[i, j].reshape(1, 1, 1, channels)
            total += value * _shifted(seen, i, j, rows, columns, window.stride)
    return total.astype(x.dtype)


def gradients(window: Any, x: Maps, kernel: Kernel, dy: Maps) -> tuple[Maps, Kernel]:
    """Return the gradients with respect to x and kernel, given that with respect to the result."""
    x, dy = lax.optimization_barrier(x), lax.optimization_barrier(dy)
    return _input_gradient(window, x, kernel, dy), _kernel_gradient(window, x, kernel, dy)


def _padded(x: Maps, padding: Any) -> Maps:
    """Pad maps with zeros."""
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*p, 0) for p in padding), (0, 0, 0)])


def _shifted(x: Maps, i: int, j: int, rows: int, columns: int, stride: tuple[int, int]) -> Maps:
    """Return the places that a kernel's value at (i, j) meets."""
    down, along = stride
    ends = (i + (rows - 1) * down + 1, j + (columns - 1) * along + 1)
    return lax.slice(x, (0, i, j, 0), (len(x), *ends, x.shape[3]), (1, down, along, 1))


def _input_gradient(window, x, kernel, dy):
    sides = kernel.shape[:2]
    if window.stride == (1, 1) and all(max(p) < k for p, k in zip(window.padding, sides)):
        turned = tuple((k - 1 - low, k - 1 - high) for k, (low, high) in zip(sides, window.padding))
        return convolve(window._replace(padding=turned), dy, kernel[::-1, ::-1])
    return jax.vjp(lambda x: convolve(window, x, kernel), x)[1](dy)[0]


def _kernel_gradient(window, x, kernel, dy):
    """Add up over the examples, a row of the kernel at a time, so that caches hold what is read."""
    kh, kw, _, channels = kernel.shape
    rows, columns = dy.shape[1:3]
    down, along = window.stride
    seen = lax.optimization_barrier(_padded(x, window.padding))

    def of_row(x, dy, i):
        part = lax.dynamic_slice_in_dim(x, i, (rows - 1) * down + 1, axis=0)[None]
        taps = (_shifted(part, 0, j, rows, columns, (down, along)) for j in range(kw))
        return jnp.stack([(at_least_float32(tap[0]) * dy).sum((0, 1)) for tap in taps])

    def add_example(total, example):
        x, dy = example
        of_rows = lax.map(partial(of_row, x, at_least_float32(dy)), jnp.arange(kh))
        return total + of_rows, None

    begin = jnp.zeros((kh, kw, channels), at_least_float32(kernel).dtype)
    total, _ = lax.scan(add_example, begin, (seen, dy))
    return total.reshape(kernel.shape).astype(kernel.dtype)
