"""The operations of augmentation policies on one image, with Pillow's arithmetic.

The policies' papers and torchvision work with Pillow, so its integer arithmetic, rounding and fill
are the reference; `tests/augment/test_image.py` holds every operation against it.

An image travels as one 32-bit word a pixel, channel c in byte c. A warp then moves one word instead
of three bytes, and channel arithmetic runs along whole rows. `transform` is the one way in: it takes
a batch with an operation and a strength for each image, and differs by platform in form alone:

- On a CPU it goes through the images one by one and branches, so that each costs what its own
  operations cost and stays in the cache between them.
- Elsewhere it is batched: a branch under ``vmap`` computes every operation for every image. What
  that would make dear is kept to one of a kind: one gather for all geometric operations, one
  histogram and look-up for equalisation, one 3x3 stencil; the rest is pointwise and fuses.
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, UInt8, UInt32

Words = UInt32[Array, "height width"]
Scalar = Float[Array, ""]
Channels = list[Int[Array, "height width"]]

# name -> what its strength means
STRENGTHS = {
    "identity": "none",
    "shear_x": "pixels a row moves for each row above it, times -1",
    "shear_y": "pixels a column moves for each column to its left, times -1",
    "translate_x": "pixels to the right, without their fraction",
    "translate_y": "pixels downwards, without their fraction",
    "rotate": "degrees counter-clockwise about the centre",
    "scale": "magnification about the centre",
    "brightness": "factor; 0 is black, 1 the image",
    "contrast": "factor; 0 is the mean grey, 1 the image",
    "saturation": "factor; 0 is grey, 1 the image",
    "sharpness": "factor; 0 is smoothed, 1 the image",
    "hue": "part of the colour circle, -0.5 to 0.5",
    "posterize": "bits kept, 0 to 8",
    "solarize": "values from this one on are inverted, 0 to 256",
    "autocontrast": "none",
    "equalize": "none",
    "invert": "none",
    "greyscale": "none",
}
KINDS = tuple(STRENGTHS)
GEOMETRIC = KINDS[1:7]
WHOLE_ROWS = ("shear_x", "translate_x", "translate_y")  # move rows as they are
COLOUR = ("saturation", "hue", "greyscale")  # no effect on a grey image
# name -> lowest and highest strength that means anything
LIMITS = {
    "shear_x": (-10.0, 10.0),
    "shear_y": (-10.0, 10.0),
    "translate_x": (-4096.0, 4096.0),
    "translate_y": (-4096.0, 4096.0),
    "rotate": (-360.0, 360.0),
    "scale": (0.01, 100.0),
    "brightness": (0.0, 100.0),
    "contrast": (0.0, 100.0),
    "saturation": (0.0, 100.0),
    "sharpness": (0.0, 100.0),
    "hue": (-0.5, 0.5),
    "posterize": (0.0, 8.0),
    "solarize": (0.0, 256.0),
}
FIXED = 16  # bits behind the point of Pillow's coordinates
HISTOGRAMS = 4  # counted in turn: a count that was just raised takes a while to be raised again


def transform(
    kinds: Int[Array, "batch layers"],
    strengths: Float[Array, "batch layers"],
    images: UInt8[Array, "batch height width channels"],
    *,
    fill: Sequence[int] = (),
    bilinear: bool = False,
) -> UInt8[Array, "batch height width channels"]:
    """Apply to each image its own operations, one after the other.

    Args:
        kinds: numbers in `KINDS`.
        strengths: as `STRENGTHS` has it.
        images: of 1 to 4 channels.
        fill: what geometric operations bring in, a value a channel; black by default.
        bilinear: interpolate in geometric operations; the nearest pixel otherwise.
    """
    channels = images.shape[-1]
    branches = _branches(channels, _packed_fill(fill, channels), bilinear)
    chosen = jnp.asarray(np.array([_branch_of(kind, channels, bilinear) for kind in KINDS]))

    layers = range(kinds.shape[1])

    def batched(kinds, strengths, words):
        def one(kinds, strengths, words):
            for layer in layers:
                kind = kinds[layer]
                words = lax.switch(chosen[kind], branches, kind, strengths[layer], words)
            return words

        return jax.vmap(one)(kinds, strengths, words)

    def in_turn(kinds, strengths, words):
        def in_place(branch):
            def change(i, kind, strength, words):
                return words.at[i].set(branch(kind, strength, words[i]))

            return change

        changes = [branch if branch is _identity else in_place(branch) for branch in branches]

        def body(i, words):
            for layer in layers:
                kind = kinds[i, layer]
                words = lax.switch(chosen[kind], changes, i, kind, strengths[i, layer], words)
            return words

        return lax.fori_loop(0, len(words), body, words)

    words = lax.platform_dependent(kinds, strengths, pack(images), cpu=in_turn, default=batched)
    return unpack(words, channels)


def pack(images: UInt8[Array, "... channels"]) -> UInt32[Array, "..."]:
    """Return each pixel's channels as one word."""
    return _join([images[..., c] for c in range(images.shape[-1])])


def unpack(words: UInt32[Array, "..."], channels: int) -> UInt8[Array, "... channels"]:
    """Return the words' bytes as channels."""
    return lax.bitcast_convert_type(words, jnp.uint8)[..., :channels]


def _packed_fill(fill: Sequence[int], channels: int) -> int:
    return sum(int(value) << 8 * c for c, value in enumerate(tuple(fill)[:channels]))


def _split(words: Words, channels: int) -> Channels:
    return [((words >> (8 * c)) & 255).astype(jnp.int32) for c in range(channels)]


def _join(channels: Channels) -> Words:
    out = channels[0].astype(jnp.uint32)
    for c, channel in enumerate(channels[1:], 1):
        out |= channel.astype(jnp.uint32) << (8 * c)
    return out


def _luma(channels: Channels) -> Int[Array, "height width"]:
    """Return the grey value of each pixel (Pillow's ITU-R 601-2 in 16-bit fixed point)."""
    if len(channels) < 3:
        return channels[0]
    red, green, blue = channels[:3]
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16


def _blend(base: Array | int, channel: Array, factor: Scalar) -> Array:
    """Go from the base towards the channel, or beyond; fractions are cut off, as Pillow does."""
    base = jnp.asarray(base, jnp.float32)
    mixed = base + factor * (channel.astype(jnp.float32) - base)
    return jnp.clip(mixed, 0.0, 255.0).astype(jnp.int32)


# --- branches: (kind, strength, words) -> words -------------------------------------------------

Branch = Callable[[Int[Array, ""], Scalar, Words], Words]
BRANCHES = ("identity", "warp", "shift rows", *(kind for kind in KINDS[1:] if kind not in GEOMETRIC))


def _branch_of(kind: str, channels: int, bilinear: bool) -> int:
    if kind in COLOUR and channels < 3:
        return 0
    if kind in WHOLE_ROWS and not bilinear:
        return BRANCHES.index("shift rows")
    return BRANCHES.index("warp" if kind in GEOMETRIC else kind)


def _branches(channels: int, fill: int, bilinear: bool) -> list[Branch]:
    """Return the branches in the order of `BRANCHES`."""

    def pointwise(function: Callable[[Channels, Scalar], Channels]) -> Branch:
        return lambda kind, strength, words: _join(function(_split(words, channels), strength))

    return [
        _identity,
        partial(_warp, channels=channels, fill=fill, bilinear=bilinear),
        partial(_shift_rows, fill=fill),
        pointwise(_brightness),
        pointwise(_contrast),
        pointwise(_saturation),
        partial(_sharpness, channels=channels),
        _identity if channels < 3 else pointwise(_hue),
        pointwise(_posterize),
        pointwise(_solarize),
        pointwise(_autocontrast),
        partial(_equalize, channels=channels),
        pointwise(_invert),
        pointwise(_greyscale),
    ]


def _identity(*arguments: Any) -> Words:
    return arguments[-1]


def _brightness(channels: Channels, factor: Scalar) -> Channels:
    return [_blend(0, channel, factor) for channel in channels]


def _contrast(channels: Channels, factor: Scalar) -> Channels:
    grey = _luma(channels)
    mean = jnp.floor(grey.sum().astype(jnp.float32) / grey.size + 0.5)
    return [_blend(mean, channel, factor) for channel in channels]


def _saturation(channels: Channels, factor: Scalar) -> Channels:
    grey = _luma(channels)
    return [_blend(grey, channel, factor) for channel in channels]


def _greyscale(channels: Channels, strength: Scalar) -> Channels:
    return [_luma(channels)] * len(channels)


def _posterize(channels: Channels, bits: Scalar) -> Channels:
    keep = 256 - (1 << (8 - bits.astype(jnp.int32)))
    return [channel & keep for channel in channels]


def _solarize(channels: Channels, threshold: Scalar) -> Channels:
    first = jnp.ceil(threshold).astype(jnp.int32)
    return [jnp.where(channel < first, channel, 255 - channel) for channel in channels]


def _invert(channels: Channels, strength: Scalar) -> Channels:
    return [255 - channel for channel in channels]


def _autocontrast(channels: Channels, strength: Scalar) -> Channels:
    def stretch(channel):
        # By columns first: XLA:CPU runs that along the rows, and fuses it away without a barrier.
        lows, highs = lax.optimization_barrier((channel.min(axis=0), channel.max(axis=0)))
        low, high = lows.min(), highs.max()
        span = jnp.maximum(high - low, 1)
        # In float32 the products are exact; the half keeps a quotient from falling short.
        wide = ((channel - low) * 255).astype(jnp.float32) + 0.5
        stretched = (wide * (1.0 / span.astype(jnp.float32))).astype(jnp.int32)
        return jnp.where(high > low, stretched, channel)

    return [stretch(channel) for channel in channels]


def _equalize(kind: Array, strength: Scalar, words: Words, *, channels: int) -> Words:
    """Spread each channel's values evenly, after Pillow's look-up table of its histogram."""

    def table_of(number, channel):
        size, places = channel.size, channel.reshape(-1)
        places += 256 * (jnp.arange(size) % HISTOGRAMS)
        several = jnp.zeros(HISTOGRAMS * 256, jnp.int32)
        several = several.at[places].add(1, mode="promise_in_bounds")
        counts = several.reshape(HISTOGRAMS, 256).sum(axis=0)
        below = jnp.cumsum(counts) - counts
        brightest = counts[jnp.where(counts > 0, jnp.arange(256), 0).max()]
        step = (size - brightest) // 255
        table = jnp.minimum((step // 2 + below) // jnp.maximum(step, 1), 255)
        return jnp.where(step > 0, table, jnp.arange(256)).astype(jnp.uint32) << (8 * number)

    split = _split(words, channels)
    # Without the barrier the tables are worked out anew for every pixel.
    tables = lax.optimization_barrier([table_of(*numbered) for numbered in enumerate(split)])
    found = [
        table.at[channel].get(mode="promise_in_bounds")
        for table, channel in zip(tables, split, strict=True)
    ]
    return reduce(jnp.bitwise_or, found)


def _hue(channels: Channels, shift: Scalar) -> Channels:
    """Turn the hue, by way of Pillow's 8-bit hue, saturation and value."""
    red, green, blue = channels[:3]
    high = jnp.maximum(jnp.maximum(red, green), blue)
    low = jnp.minimum(jnp.minimum(red, green), blue)
    span = jnp.maximum(high - low, 1)
    third = jnp.where(high == green, 2 * span + blue - red, 4 * span + red - green)
    sixths = jnp.where(high == red, green - blue, third)
    sixths += jnp.where(sixths < 0, 6 * span, 0)
    hue = sixths * 255 // (6 * span)
    saturation = ((high - low) * 255) // jnp.maximum(high, 1)

    hue = (hue + (shift * 255.0).astype(jnp.int32)) & 255
    position = hue * 6.0 / 255.0
    sector = jnp.floor(position)
    part, share = position - sector, saturation / 255.0
    p, q, t = (
        jnp.round(high * (1.0 - share * weight)).astype(jnp.int32)
        for weight in (1.0, part, 1.0 - part)
    )
    sector = sector.astype(jnp.int32) % 6
    v = high
    orders = ((v, q, p, p, t, v), (t, v, v, q, p, p), (p, p, t, v, v, q))
    return [lax.select_n(sector, *order) for order in orders] + channels[3:]


def _shift_rows(kind: Array, strength: Scalar, words: Words, *, fill: int) -> Words:
    """Do what `_warp` does where rows stay whole: they are copied, not fetched pixel by pixel."""
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


def _sharpness(kind: Array, factor: Scalar, words: Words, *, channels: int) -> Words:
    """Blend with the image smoothed by (1 1 1, 1 5 1, 1 1 1) / 13; the border stays."""

    def weighted(two):  # two channels at once, 16 bits each: their sums stay below 13 x 256
        rows = two[:-2] + two[1:-1] + two[2:]
        return rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * two[1:-1, 1:-1]

    even, odd = weighted(words & 0xFF00FF), weighted((words >> 8) & 0xFF00FF)
    sums = [even & 0xFFFF, odd & 0xFFFF, even >> 16, odd >> 16]
    smooth = [((2 * total + 13) // 26).astype(jnp.int32) for total in sums[:channels]]
    inner = _split(words[1:-1, 1:-1], channels)
    sharp = [_blend(s, c, factor) for s, c in zip(smooth, inner, strict=True)]
    # Without the barrier XLA:CPU works the inner part out a pixel at a time, as it writes it.
    return words.at[1:-1, 1:-1].set(lax.optimization_barrier(_join(sharp)))


def _warp(
    kind: Array, strength: Scalar, words: Words, *, channels: int, fill: int, bilinear: bool
) -> Words:
    """Fetch each pixel from where the inverse of the operation's affine map has it."""
    height, width = words.shape
    a, b, c, d, e, f = _inverse(kind, strength, height, width)
    y, x = jnp.arange(height)[:, None], jnp.arange(width)
    if not bilinear:
        # Coordinates of pixel centres, in Pillow's fixed point.
        column = (_fixed(c + 0.5 * a + 0.5 * b) + x * _fixed(a) + y * _fixed(b)) >> FIXED
        row = (_fixed(f + 0.5 * d + 0.5 * e) + x * _fixed(d) + y * _fixed(e)) >> FIXED
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        place = jnp.where(inside, row * width + column, 0)
        found = words.reshape(-1).at[place].get(mode="promise_in_bounds")
        return jnp.where(inside, found, jnp.uint32(fill))

    column = a * (x + 0.5) + b * (y + 0.5) + c
    row = d * (x + 0.5) + e * (y + 0.5) + f
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    left, top = jnp.floor(column - 0.5), jnp.floor(row - 0.5)
    dx, dy = column - 0.5 - left, row - 0.5 - top
    left, top = left.astype(jnp.int32), top.astype(jnp.int32)

    def corner(down, right):
        rows, columns = jnp.clip(top + down, 0, height - 1), jnp.clip(left + right, 0, width - 1)
        place = jnp.where(inside, rows * width + columns, 0)
        found = words.reshape(-1).at[place].get(mode="promise_in_bounds")
        return [value.astype(jnp.float32) for value in _split(found, channels)]

    corners = [corner(down, right) for down in (0, 1) for right in (0, 1)]
    mixed = []
    for nw, ne, sw, se in zip(*corners, strict=True):
        upper, lower = nw + dx * (ne - nw), sw + dx * (se - sw)
        mixed.append((upper + dy * (lower - upper)).astype(jnp.int32))
    return jnp.where(inside, _join(mixed), jnp.uint32(fill))


def _fixed(value: Scalar) -> Int[Array, ""]:
    return jnp.floor(value * (1 << FIXED) + 0.5).astype(jnp.int32)


def _inverse(kind: Array, strength: Scalar, height: int, width: int) -> tuple[Scalar, ...]:
    """Return the map from places in the result to places in the image: a x + b y + c, d x + e y + f.

    Shears keep the upper left corner in place, as the policies' first code has it (Cubuk et al.
    2018); rotation and scale keep the centre.
    """

    def where(name, value, otherwise):
        return jnp.where(kind == KINDS.index(name), value, otherwise)

    angle = jnp.deg2rad(strength)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    shrink = 1.0 / jnp.where(kind == KINDS.index("scale"), strength, 1.0)
    a = where("rotate", cos, shrink)
    b = where("rotate", -sin, where("shear_x", strength, 0.0))
    d = where("rotate", sin, where("shear_y", strength, 0.0))
    # What the centre is moved by; nothing for shears, whose fixed point is the corner.
    about_centre = (kind == KINDS.index("rotate")) | (kind == KINDS.index("scale"))
    cx = jnp.where(about_centre, width / 2, 0.0)
    cy = jnp.where(about_centre, height / 2, 0.0)
    whole = jnp.trunc(strength)
    c = cx - a * cx - b * cy - where("translate_x", whole, 0.0)
    f = cy - d * cx - a * cy - where("translate_y", whole, 0.0)
    return a, b, c, d, a, f
