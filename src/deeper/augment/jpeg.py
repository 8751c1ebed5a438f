"""JPEG compression on the device: the image that libjpeg would decode from the file it writes.

All arithmetic is libjpeg's, in integers (its default methods: islow DCT, fancy upsampling, colour
at half the resolution), so that the result is Pillow's ``save(quality=...)`` and ``open`` to the
bit. The entropy coding loses nothing and is left out.
"""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt8

# The quantisation tables of the JPEG standard, annex K (ITU-T T.81).
LUMINANCE = """
16 11 10 16 24 40 51 61  12 12 14 19 26 58 60 55  14 13 16 24 40 57 69 56  14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77  24 35 55 64 81 104 113 92  49 64 78 87 103 121 120 101
72 92 95 98 112 100 103 99
"""
CHROMINANCE = """
17 18 24 47 99 99 99 99  18 21 26 66 99 99 99 99  24 26 56 99 99 99 99 99  47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99
"""
CONSTANT_BITS, PASS_BITS = 13, 2
COLOUR_BITS = 16

Plane = Int[Array, "height width"]


def jpeg(
    image: UInt8[Array, "height width channels"], quality: int
) -> UInt8[Array, "height width channels"]:
    """Return the image after JPEG compression; one channel is grey, three are RGB.

    Args:
        image: of any size.
        quality: 1 to 100, libjpeg's scale.
    """
    height, width, channels = image.shape
    pixels = image.astype(jnp.int32)
    if channels == 1:
        return _compressed(pixels[..., 0], _table(LUMINANCE, quality))[..., None].astype(jnp.uint8)
    luminance, blue, red = _to_ycc(pixels)
    luminance = _compressed(luminance, _table(LUMINANCE, quality))
    chrominance = _table(CHROMINANCE, quality)
    half = -(-width // 2)
    blue, red = (
        _upsampled(_compressed(_downsampled(plane), chrominance)[:, :half])[:height, :width]
        for plane in (blue, red)
    )
    return _to_rgb(luminance, blue, red)


def _table(standard: str, quality: int) -> Int[np.ndarray, "8 8"]:
    """Return the quantisation table of a quality (jpeg_quality_scaling)."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    table = np.array(standard.split(), np.int32).reshape(8, 8)
    return np.clip((table * scale + 50) // 100, 1, 255).astype(np.int32)


def _fix(value: float, bits: int = COLOUR_BITS) -> int:
    return int(value * (1 << bits) + 0.5)


def _to_ycc(pixels: Int[Array, "height width 3"]) -> tuple[Plane, Plane, Plane]:
    r, g, b = (pixels[..., i] for i in range(3))
    half, centre = 1 << (COLOUR_BITS - 1), 128 << COLOUR_BITS
    y = _fix(0.299) * r + _fix(0.587) * g + _fix(0.114) * b + half
    cb = -_fix(0.168735892) * r - _fix(0.331264108) * g + _fix(0.5) * b + centre + half - 1
    cr = _fix(0.5) * r - _fix(0.418687589) * g - _fix(0.081312411) * b + centre + half - 1
    return y >> COLOUR_BITS, cb >> COLOUR_BITS, cr >> COLOUR_BITS


def _to_rgb(y: Plane, cb: Plane, cr: Plane) -> UInt8[Array, "height width 3"]:
    half, cb, cr = 1 << (COLOUR_BITS - 1), cb - 128, cr - 128
    r = y + ((_fix(1.402) * cr + half) >> COLOUR_BITS)
    g = y + ((-_fix(0.34414) * cb - _fix(0.71414) * cr + half) >> COLOUR_BITS)
    b = y + ((_fix(1.772) * cb + half) >> COLOUR_BITS)
    return jnp.clip(jnp.stack([r, g, b], axis=-1), 0, 255).astype(jnp.uint8)


def _downsampled(plane: Plane) -> Plane:
    """Average 2x2 pixels; what is rounded alternates between columns (h2v2_downsample)."""
    height, width = plane.shape
    # The right edge is repeated before averaging, the lower one after it, by `_compressed`.
    half = -(-width // 2)
    plane = jnp.pad(plane, ((0, height % 2), (0, -width % 16)), mode="edge")
    total = plane[::2, ::2] + plane[::2, 1::2] + plane[1::2, ::2] + plane[1::2, 1::2]
    bias = 1 + jnp.arange(total.shape[1]) % 2
    return ((total + bias[None]) >> 2)[:, : half + -half % 8]


def _upsampled(plane: Plane) -> Plane:
    """Double both sides by triangular interpolation (h2v2_fancy_upsample)."""
    rows = jnp.pad(plane, ((1, 1), (0, 0)), mode="edge")
    sums = jnp.stack([3 * plane + rows[:-2], 3 * plane + rows[2:]], axis=1)
    sums = sums.reshape(-1, plane.shape[1])
    columns = jnp.pad(sums, ((0, 0), (1, 1)), mode="edge")
    both = [(3 * sums + columns[:, :-2] + 8) >> 4, (3 * sums + columns[:, 2:] + 7) >> 4]
    return jnp.stack(both, axis=2).reshape(len(sums), -1)


def _compressed(plane: Plane, table: Int[np.ndarray, "8 8"]) -> Plane:
    """Quantise the coefficients of each block of 8x8 pixels."""
    height, width = plane.shape
    padded = jnp.pad(plane, ((0, -height % 8), (0, -width % 8)), mode="edge") - 128
    blocks = padded.reshape(padded.shape[0] // 8, 8, -1, 8).transpose(0, 2, 1, 3)
    forward, inverse = _transforms()
    near, far = CONSTANT_BITS - PASS_BITS, CONSTANT_BITS + PASS_BITS
    coefficients = _scaled(forward @ _scaled(blocks @ forward.T, near), far)
    divisor = jnp.broadcast_to(8 * table, coefficients.shape)
    size = (jnp.abs(coefficients) + divisor // 2) // divisor
    restored = jnp.sign(coefficients) * size * jnp.broadcast_to(table, coefficients.shape)
    decoded = _scaled(_scaled(inverse @ restored, near) @ inverse.T, far + 3)
    pixels = jnp.clip(decoded + 128, 0, 255).transpose(0, 2, 1, 3).reshape(padded.shape)
    return pixels[:height, :width]


def _scaled(value: Any, bits: int) -> Any:
    return (value + (1 << (bits - 1))) >> bits


@functools.cache
def _transforms() -> tuple[Int[np.ndarray, "8 8"], Int[np.ndarray, "8 8"]]:
    """Return the matrices of libjpeg's DCT and inverse DCT (jfdctint.c, jidctint.c), in 1/2**13.

    Their steps are sums and products with integers up to the rounding at the end, so that one
    product with an integer matrix has the same result.
    """
    x = np.eye(8, dtype=np.int32)
    plus, minus = x[:4] + x[:3:-1], x[:4] - x[:3:-1]
    a, b, c, d = plus[0] + plus[3], plus[1] + plus[2], plus[1] - plus[2], plus[0] - plus[3]
    z = _times(c + d, 0.541196100)
    two, six = z + _times(d, 0.765366865), z - _times(c, 1.847759065)
    seven, five, three, one = _rotated(*minus[::-1])
    unit = 1 << CONSTANT_BITS
    forward = np.stack([(a + b) * unit, one, two, three, (a - b) * unit, five, six, seven])

    z = _times(x[2] + x[6], 0.541196100)
    c, d = z - _times(x[6], 1.847759065), z + _times(x[2], 0.765366865)
    a, b = (x[0] + x[4]) * unit, (x[0] - x[4]) * unit
    even = np.stack([a + d, b + c, b - c, a - d])
    odd = np.stack(_rotated(x[7], x[5], x[3], x[1])[::-1])
    return forward, np.concatenate([even + odd, (even - odd)[::-1]])


def _times(value: Any, factor: float) -> Any:
    return value * _fix(factor, CONSTANT_BITS)


def _rotated(a: Any, b: Any, c: Any, d: Any) -> list[Any]:
    """Return the odd part that both transforms share (Loeffler, Ligtenberg and Moschytz 1989)."""
    both = _times(a + c + b + d, 1.175875602)
    z1, z2 = -_times(a + d, 0.899976223), -_times(b + c, 2.562915447)
    z3, z4 = both - _times(a + c, 1.961570560), both - _times(b + d, 0.390180644)
    return [
        _times(a, 0.298631336) + z1 + z3,
        _times(b, 2.053119869) + z2 + z4,
        _times(c, 3.072711026) + z2 + z3,
        _times(d, 1.501321110) + z1 + z4,
    ]
