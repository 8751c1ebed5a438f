"""The operations of augmentation policies, with Pillow's arithmetic.

The papers of the policies and torchvision use Pillow, so its integer arithmetic, rounding and fill
are the reference; `tests/augment/test_pillow_ops.py` compares every operation with it.

The entry point is `transform`. It takes a batch, with operations and strengths for each image. The
result is the same on every platform, but it is computed in two ways:

- On a CPU, a loop over the images branches by operation, so that each image costs what its own
  operations cost and stays in the cache between them.
- Elsewhere, images are batched. Under ``vmap`` every branch runs for every image, so expensive work
  is shared: one gather for all geometric operations, one histogram and look-up for equalisation,
  one 3x3 stencil. The rest is pointwise and fuses.
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, UInt8

from deeper.augment.op_table import COLOUR, GEOMETRIC, KINDS, WHOLE_ROWS
from deeper.augment.packed_pixels import Channels, Scalar, Words, join, pack, split, unpack
from deeper.augment.pillow_affine import shift_rows, warp

HISTOGRAMS = 4  # partial histograms, used in turn: updating a counter again has to wait for memory


def transform(
    kinds: Int[Array, "batch layers"],
    strengths: Float[Array, "batch layers"],
    images: UInt8[Array, "batch height width channels"],
    *,
    fill: Sequence[int] = (),
    bilinear: bool = False,
) -> UInt8[Array, "batch height width channels"]:
    """Apply to each image its own sequence of operations.

    Args:
        kinds: numbers of the operations in `op_table.KINDS`.
        strengths: in the units of `op_table.STRENGTHS`.
        images: with 1 to 4 channels.
        fill: colour that geometric operations bring in, one value (0 to 255) per channel; black by
            default.
        bilinear: interpolate in geometric operations; otherwise take the nearest pixel.
    """
    channels = images.shape[-1]
    branches = _branches(channels, _packed_fill(fill, channels), bilinear)
    branch_of = np.array([_branch_of(kind, channels, bilinear) for kind in KINDS])
    words = lax.platform_dependent(
        jnp.asarray(branch_of)[kinds],
        kinds,
        strengths,
        pack(images),
        cpu=partial(_one_by_one, branches),
        default=partial(_batched, branches),
    )
    return unpack(words, channels)


def _batched(branches: "list[Branch]", chosen: Array, kinds: Array, strengths: Array, words: Array):
    """Apply the operations under ``vmap``: every branch runs for every image."""

    def transform_image(chosen, kinds, strengths, words):
        for layer in range(len(chosen)):
            words = lax.switch(chosen[layer], branches, kinds[layer], strengths[layer], words)
        return words

    return jax.vmap(transform_image)(chosen, kinds, strengths, words)


def _one_by_one(
    branches: "list[Branch]", chosen: Array, kinds: Array, strengths: Array, words: Array
):
    """Apply the operations in a loop over the images, in place: one branch runs for each image."""

    def in_place(branch):
        def change(i, kind, strength, words):
            return words.at[i].set(branch(kind, strength, words[i]))

        return change

    changes = [branch if branch is _identity else in_place(branch) for branch in branches]

    def body(i, words):
        for layer in range(chosen.shape[1]):
            kind, strength = kinds[i, layer], strengths[i, layer]
            words = lax.switch(chosen[i, layer], changes, i, kind, strength, words)
        return words

    return lax.fori_loop(0, len(words), body, words)


def _packed_fill(fill: Sequence[int], channels: int) -> int:
    return sum(int(value) << 8 * c for c, value in enumerate(tuple(fill)[:channels]))


def _luma(channels: Channels) -> Int[Array, "height width"]:
    """Return the luma of each pixel (ITU-R 601-2 in 16-bit fixed point, as in Pillow)."""
    if len(channels) < 3:
        return channels[0]
    red, green, blue = channels[:3]
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16


def _blend(base: Array | int, channel: Array, factor: Scalar) -> Array:
    """Interpolate, or extrapolate, from the base to the channel; truncate, as Pillow does."""
    base = jnp.asarray(base, jnp.float32)
    mixed = base + factor * (channel.astype(jnp.float32) - base)
    return jnp.clip(mixed, 0.0, 255.0).astype(jnp.int32)


# --- branches: (kind, strength, words) -> words -------------------------------------------------

Branch = Callable[[Int[Array, ""], Scalar, Words], Words]
POINTWISE = tuple(kind for kind in KINDS[1:] if kind not in GEOMETRIC)
BRANCHES = ("identity", "warp", "shift rows", *POINTWISE)


def _branch_of(kind: str, channels: int, bilinear: bool) -> int:
    if kind in COLOUR and channels < 3:
        return 0
    if kind in WHOLE_ROWS and not bilinear:
        return BRANCHES.index("shift rows")
    return BRANCHES.index("warp" if kind in GEOMETRIC else kind)


def _branches(channels: int, fill: int, bilinear: bool) -> list[Branch]:
    """Return the branches in the order of `BRANCHES`."""

    def pointwise(function: Callable[[Channels, Scalar], Channels]) -> Branch:
        return lambda kind, strength, words: join(function(split(words, channels), strength))

    return [
        _identity,
        partial(warp, channels=channels, fill=fill, bilinear=bilinear),
        partial(shift_rows, fill=fill),
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
        pointwise(_solarize_add),
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


def _solarize_add(channels: Channels, added: Scalar) -> Channels:
    most = jnp.floor(added).astype(jnp.int32)
    return [jnp.where(c < 128, jnp.minimum(c + most, 255), c) for c in channels]


def _invert(channels: Channels, strength: Scalar) -> Channels:
    return [255 - channel for channel in channels]


def _autocontrast(channels: Channels, strength: Scalar) -> Channels:
    def stretch(channel):
        # Reduce over rows first, which XLA:CPU vectorises along a row; without the barrier it
        # would fuse both reductions.
        lows, highs = lax.optimization_barrier((channel.min(axis=0), channel.max(axis=0)))
        low, high = lows.min(), highs.max()
        span = jnp.maximum(high - low, 1)
        # The products are exact in float32; adding 0.5 keeps the quotient from being one too low.
        wide = ((channel - low) * 255).astype(jnp.float32) + 0.5
        stretched = (wide * (1.0 / span.astype(jnp.float32))).astype(jnp.int32)
        return jnp.where(high > low, stretched, channel)

    return [stretch(channel) for channel in channels]


def _equalize(kind: Array, strength: Scalar, words: Words, *, channels: int) -> Words:
    """Equalise the histogram of each channel, by the look-up table that Pillow uses."""

    def table_of(number, channel):
        size, places = channel.size, channel.reshape(-1)
        places += 256 * (jnp.arange(size) % HISTOGRAMS)
        partial_counts = jnp.zeros(HISTOGRAMS * 256, jnp.int32)
        partial_counts = partial_counts.at[places].add(1, mode="promise_in_bounds")
        counts = partial_counts.reshape(HISTOGRAMS, 256).sum(axis=0)
        below = jnp.cumsum(counts) - counts
        brightest = counts[jnp.where(counts > 0, jnp.arange(256), 0).max()]
        step = (size - brightest) // 255
        table = jnp.minimum((step // 2 + below) // jnp.maximum(step, 1), 255)
        return jnp.where(step > 0, table, jnp.arange(256)).astype(jnp.uint32) << (8 * number)

    bands = split(words, channels)
    # Without the barrier XLA computes the tables again for every pixel.
    tables = lax.optimization_barrier([table_of(*numbered) for numbered in enumerate(bands)])
    equalised = [
        table.at[channel].get(mode="promise_in_bounds")
        for table, channel in zip(tables, bands, strict=True)
    ]
    return reduce(jnp.bitwise_or, equalised)


def _hue(channels: Channels, shift: Scalar) -> Channels:
    """Rotate the hue by a share of the colour circle, in Pillow's 8-bit HSV."""
    red, green, blue = channels[:3]
    high = jnp.maximum(jnp.maximum(red, green), blue)
    low = jnp.minimum(jnp.minimum(red, green), blue)
    span = (high - low).astype(jnp.float32)
    r, g, b = ((high - channel) / jnp.maximum(span, 1.0) for channel in (red, green, blue))
    sixths = jnp.where(high == red, b - g, jnp.where(high == green, r - b + 2.0, g - r + 4.0))
    turn = jnp.where(sixths < 0.0, sixths / 6.0 + 1.0, sixths / 6.0)
    hue = jnp.where(span > 0.0, _floor_255(turn), 0)
    saturation = _floor_255(span / jnp.maximum(high, 1))

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


def _floor_255(x: Array) -> Int[Array, "height width"]:
    """Return floor(255 x) of float32 numbers, exactly as float64, which Pillow uses, gives it."""
    bits = lax.bitcast_convert_type(x, jnp.uint32)
    first = lax.bitcast_convert_type(bits & np.uint32(0xFFFFF000), jnp.float32)
    # Both products are exact: twelve bits times eight.
    most, rest = first * 255.0, (x - first) * 255.0
    floor = jnp.floor(most)
    return (floor + jnp.floor(most - floor + rest)).astype(jnp.int32)


def _sharpness(kind: Array, factor: Scalar, words: Words, *, channels: int) -> Words:
    """Blend with the image smoothed by (1 1 1, 1 5 1, 1 1 1) / 13; the border is not changed."""

    def weighted(two):  # two channels in one word, 16 bits each: sums stay below 13 x 256
        rows = two[:-2] + two[1:-1] + two[2:]
        return rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * two[1:-1, 1:-1]

    even, odd = weighted(words & 0xFF00FF), weighted((words >> 8) & 0xFF00FF)
    sums = [even & 0xFFFF, odd & 0xFFFF, even >> 16, odd >> 16]
    smooth = [((2 * total + 13) // 26).astype(jnp.int32) for total in sums[:channels]]
    inner = split(words[1:-1, 1:-1], channels)
    sharp = [_blend(s, c, factor) for s, c in zip(smooth, inner, strict=True)]
    # Without the barrier XLA:CPU computes the inner part pixel by pixel while it writes it.
    return words.at[1:-1, 1:-1].set(lax.optimization_barrier(join(sharp)))
