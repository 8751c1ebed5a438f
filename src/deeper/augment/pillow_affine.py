"""Geometric (affine) operations on one packed image, with Pillow's coordinates and rounding."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int

from deeper.augment.op_table import KINDS
from deeper.augment.packed_pixels import Scalar, Words, join, split

FIXED = 16  # fractional bits of Pillow's fixed-point coordinates


def warp(
    kind: Array, strength: Scalar, words: Words, *, channels: int, fill: int, bilinear: bool
) -> Words:
    """Apply a geometric operation: read each output pixel at its place under the inverse map.

    Args:
        kind: number of the operation in `op_table.KINDS`.
        strength: in the unit of `op_table.STRENGTHS`.
        words: packed image.
        channels: number of channels.
        fill: packed colour of pixels from outside the image.
        bilinear: interpolate; otherwise take the nearest pixel.
    """
    height, width = words.shape
    a, b, c, d, e, f = _inverse(kind, strength, height, width)
    y, x = jnp.arange(height)[:, None], jnp.arange(width)[None]
    if not bilinear:
        # Coordinates of pixel centres, in Pillow's fixed point.
        column = (_fixed(c + 0.5 * a + 0.5 * b) + x * _fixed(a) + y * _fixed(b)) >> FIXED
        row = (_fixed(f + 0.5 * d + 0.5 * e) + x * _fixed(d) + y * _fixed(e)) >> FIXED
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        place = jnp.where(inside, row * width + column, 0)
        pixels = words.reshape(-1).at[place].get(mode="promise_in_bounds")
        return jnp.where(inside, pixels, jnp.uint32(fill))

    column = a * (x + 0.5) + b * (y + 0.5) + c
    row = d * (x + 0.5) + e * (y + 0.5) + f
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    left, top = jnp.floor(column - 0.5), jnp.floor(row - 0.5)
    dx, dy = column - 0.5 - left, row - 0.5 - top
    left, top = left.astype(jnp.int32), top.astype(jnp.int32)

    def corner(down, right):
        rows, columns = jnp.clip(top + down, 0, height - 1), jnp.clip(left + right, 0, width - 1)
        place = jnp.where(inside, rows * width + columns, 0)
        pixels = words.reshape(-1).at[place].get(mode="promise_in_bounds")
        return [value.astype(jnp.float32) for value in split(pixels, channels)]

    corners = [corner(down, right) for down in (0, 1) for right in (0, 1)]
    mixed = []
    for nw, ne, sw, se in zip(*corners, strict=True):
        upper, lower = nw + dx * (ne - nw), sw + dx * (se - sw)
        mixed.append((upper + dy * (lower - upper)).astype(jnp.int32))
    return jnp.where(inside, join(mixed), jnp.uint32(fill))


def _fixed(value: Scalar) -> Int[Array, ""]:
    return jnp.floor(value * (1 << FIXED) + 0.5).astype(jnp.int32)


def _inverse(kind: Array, strength: Scalar, height: int, width: int) -> tuple[Scalar, ...]:
    """Return the coefficients (a, b, c, d, e, f) of the inverse affine map.

    The output pixel at (x, y) is read at (a x + b y + c, d x + e y + f). Shears keep the upper left
    corner in place, as the code of Cubuk et al. 2018 does; rotation and scale keep the centre.
    """

    def where(name, value, otherwise):
        return jnp.where(kind == KINDS.index(name), value, otherwise)

    angle = jnp.deg2rad(strength)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    shrink = 1.0 / jnp.where(kind == KINDS.index("scale"), strength, 1.0)
    a = where("rotate", cos, shrink)
    b = where("rotate", -sin, where("shear_x", strength, 0.0))
    d = where("rotate", sin, where("shear_y", strength, 0.0))
    # Rotation and scale are about the centre; shears are about the upper left corner.
    about_centre = (kind == KINDS.index("rotate")) | (kind == KINDS.index("scale"))
    cx = jnp.where(about_centre, width / 2, 0.0)
    cy = jnp.where(about_centre, height / 2, 0.0)
    pixels = jnp.trunc(strength)
    c = cx - a * cx - b * cy - where("translate_x", pixels, 0.0)
    f = cy - d * cx - a * cy - where("translate_y", pixels, 0.0)
    return a, b, c, d, a, f


def shift_rows(kind: Array, strength: Scalar, words: Words, *, fill: int) -> Words:
    """Apply an operation of `op_table.WHOLE_ROWS` as `warp` does, by copying whole rows."""
    height, width = words.shape
    a, b, c, _, _, f = _inverse(kind, strength, height, width)
    rows = jnp.arange(height)
    shifts = (_fixed(c + 0.5 * a + 0.5 * b) + rows * _fixed(b)) >> FIXED
    sources = rows + f.astype(jnp.int32)
    shifts = jnp.where((sources >= 0) & (sources < height), shifts, width)
    wide = jnp.pad(words, ((0, 0), (width, width)), constant_values=np.uint32(fill))

    def row(source, shift):
        return lax.dynamic_slice(wide, (source, shift + width), (1, width))[0]

    return jax.vmap(row)(sources, jnp.clip(shifts, -width, width))
