"""Maps of fixed size for regions of any size: RoIAlign and RoI pooling.

RoIAlign (He et al. 2017, arXiv:1703.06870) in the form of torchvision's ``roi_align`` with
``aligned=False`` and two samples a side of each cell; the level of a feature pyramid that a region
is taken from is that of Lin et al. 2017 (arXiv:1612.03144), equation 1. RoI pooling (Girshick 2015,
arXiv:1504.08083) is torchvision's ``roi_pool``.

Bilinear interpolation and the mean over a cell are linear along each axis, so that a region's
result is ``R_y @ map @ R_x^T`` with small matrices. That has a gradient without a scatter. Those
matrices are zero outside of the region: on a CPU only a window of the map is multiplied, region by
region. Elsewhere places are gathered, and for the gradient many regions of a level are multiplied
into its whole map at a time.
"""

import itertools
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int32

from deeper.models.detection.boxes import area

SAMPLES = 2  # along each side of a cell
CANONICAL_SIDE, CANONICAL_LEVEL = 224, 4  # a region of 224x224 pixels is taken from stride 16
# Windows (rows, columns) of a map that are multiplied on a CPU: the first that holds the region.
# Each takes a tenth of a second to compile.
WINDOWS = sorted(
    ((h, w) for h, w in itertools.product((8, 16, 24, 32, 64), repeat=2) if h * w <= 1024),
    key=math.prod,
)
AT_ONCE = 128  # regions that add to a whole map at once on other devices

Maps = Sequence[Float[Array, "batch height width channels"]]
Regions = Float[Array, "batch regions 4"]


def levels_of(regions: Regions, strides: Sequence[int]) -> Int32[Array, "batch regions"]:
    """Return the map that each region is taken from, by its area.

    Args:
        regions: in pixels of the images.
        strides: of the maps, each twice that of the one before.
    """
    first = round(math.log2(strides[0]))
    sides = jnp.sqrt(jnp.maximum(area(regions), 0))
    level = jnp.floor(CANONICAL_LEVEL + jnp.log2(sides / CANONICAL_SIDE) + 1e-6)
    return (jnp.clip(level, first, first + len(strides) - 1) - first).astype(jnp.int32)


def align(
    maps: Maps,
    regions: Regions,
    sizes: Int32[Array, "batch 2"],
    strides: Sequence[int],
    side: int,
) -> Float[Array, "batch regions side side channels"]:
    """Return the mean of the bilinearly interpolated map over each cell of each region (RoIAlign).

    No gradient goes to the regions.

    Args:
        maps: of one stride or several; of several, a region is taken from one, see `levels_of`.
        regions: in pixels of the images.
        sizes: (height, width) of the images in pixels; beyond, maps hold padding.
        strides: pixels a place of each map.
        side: cells along each side of the result.
    """
    regions = lax.stop_gradient(regions)
    of_regions = in_maps(regions, levels_of(regions, strides), sizes, strides)
    return _align(side, tuple(maps), of_regions)


def in_maps(regions: Regions, level: Array, sizes: Array, strides: Sequence[int]) -> Any:
    """Return of each region its level, start and extent in places, and the level's valid places."""
    scale = 1 / jnp.asarray(strides, regions.dtype)[level]
    valid = jnp.stack([-(-sizes // stride) for stride in strides], axis=1)
    limits = jnp.take_along_axis(valid, level[..., None], axis=1)
    start = regions[..., :2] * scale[..., None]
    extent = jnp.maximum(regions[..., 2:] * scale[..., None] - start, 1)
    return level, start, extent, limits


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _align(side: int, maps: Any, of_regions: Any) -> Array:
    cpu, other = (partial(form, side) for form in (by_window, by_gathering))
    return lax.platform_dependent(maps, of_regions, cpu=cpu, default=other)


def _align_forward(side: int, maps: Any, of_regions: Any) -> Any:
    return _align(side, maps, of_regions), (maps, of_regions)


def _align_backward(side: int, saved: Any, given: Array) -> Any:
    cpu, other = (partial(form, side) for form in (gradient_by_window, gradient_by_level))
    return lax.platform_dependent(*saved, given, cpu=cpu, default=other), None


_align.defvjp(_align_forward, _align_backward)


def _samples(start: Array, extent: Array, cells: int) -> Float[Array, "*regions samples"]:
    """Return where along an axis a region's samples are, in places."""
    number = np.arange(cells * SAMPLES, dtype=np.float32)
    cell = np.floor(number / SAMPLES)
    within = (number - SAMPLES * cell + np.float32(0.5)) / SAMPLES
    lead, size = (1,) * start.ndim, (extent / cells)[..., None]
    sample = start[..., None] + cell.reshape(*lead, -1) * size
    return sample + within.reshape(*lead, -1) * size


def _weights(
    start: Array, extent: Array, limit: Array, origin: Any, places: int, cells: int
) -> Float[Array, "*regions cells places"]:
    """Return what each place along an axis counts for each cell.

    Args:
        start: of the region, in places.
        extent: of the region, in places.
        limit: valid places of the map.
        origin: the first place that is asked about.
        places: how many are.
        cells: of the result.
    """
    lead = (1,) * start.ndim
    sample = _samples(start, extent, cells)
    limit = limit[..., None].astype(start.dtype)
    is_inside = (sample >= -1) & (sample <= limit)
    at = jnp.clip(sample, 0, limit - 1) - jnp.asarray(origin, start.dtype)[..., None]
    distance = jnp.abs(at[..., None] - jnp.arange(places, dtype=start.dtype).reshape(*lead, 1, -1))
    weight = jnp.where(is_inside[..., None], jnp.maximum(0, 1 - distance), 0)
    return weight.reshape(*weight.shape[:-2], cells, SAMPLES, places).mean(-2)


def by_gathering(side: int, maps: Any, of_regions: Any) -> Array:
    """Gather four places for each sample, and take the mean over the samples of a cell."""
    level, start, extent, limits = of_regions
    batch, channels = len(level), maps[0].shape[3]
    widths = jnp.asarray([m.shape[2] for m in maps])[level]
    sizes = [m.shape[1] * m.shape[2] for m in maps]
    firsts = jnp.asarray([sum(sizes[:i]) for i in range(len(sizes))])[level]
    flat = jnp.concatenate([m.reshape(batch, -1, channels) for m in maps], axis=1)

    def along(axis: int) -> tuple[list[Array], list[Array]]:
        """Return the two places of each sample, and what each counts."""
        most = limits[..., 1 - axis, None]
        sample = _samples(start[..., axis], extent[..., axis], side)
        is_inside = (sample >= -1) & (sample <= most)
        at = jnp.clip(sample, 0, most - 1)
        low = jnp.floor(at).astype(jnp.int32)
        share = at - low
        counts = [jnp.where(is_inside, part, 0) / SAMPLES for part in (1 - share, share)]
        return [low, jnp.minimum(low + 1, most - 1)], counts

    (rows, row_counts), (columns, column_counts) = along(1), along(0)
    total = jnp.zeros((), flat.dtype)
    for row, row_count in zip(rows, row_counts, strict=True):
        for column, column_count in zip(columns, column_counts, strict=True):
            place = row[..., :, None] * widths[..., None, None] + column[..., None, :]
            place += firsts[..., None, None]
            found = jax.vmap(lambda values, places: values[places])(flat, place)
            weight = row_count[..., :, None] * column_count[..., None, :]
            total += weight[..., None].astype(flat.dtype) * found
    cells = total.reshape(*level.shape, side, SAMPLES, side, SAMPLES, channels)
    return cells.sum((3, 5))


def gradient_by_level(side: int, maps: Any, of_regions: Any, given: Array) -> Any:
    """Return the gradient with respect to the maps: regions add to the whole map of their level.

    `AT_ONCE` regions of an image and a level are multiplied at a time. The first product has the
    axes of the second's contraction in front, so that none of the large arrays is transposed.
    """

    def of_image(one: Any) -> Any:
        (level, start, extent, limits), given = one
        order = jnp.argsort(level)  # regions of a level after each other

        def of_level(number: int, values: Array) -> Array:
            height, width, channels = values.shape
            first, end = (level < number).sum(), (level <= number).sum()

            def add(chunk: Any, total: Array) -> Array:
                place = first + chunk * AT_ONCE + jnp.arange(AT_ONCE)
                region = order[jnp.minimum(place, len(order) - 1)]
                rows, columns = (
                    _weights(start[region, axis], extent[region, axis], limits[region, 1 - axis],
                             jnp.zeros_like(region), places, side)
                    for axis, places in ((1, height), (0, width))
                )  # fmt: skip
                rows = jnp.where((place < end)[:, None, None], rows, 0).astype(given.dtype)
                by_row = (AT_ONCE, side, side, width)
                columns = jnp.broadcast_to(columns[:, None], by_row).astype(given.dtype)
                wide = jnp.einsum("rpqw,rpqc->rpwc", columns, given[region], precision="highest")
                return total + jnp.einsum(
                    "rph,rpwc->hwc", rows, wide, precision="highest",
                    preferred_element_type=jnp.float32,
                )  # fmt: skip

            begin = jnp.zeros((height, width, channels), jnp.float32)
            chunks = -(-(end - first) // AT_ONCE)
            return lax.fori_loop(0, chunks, add, begin).astype(values.dtype)

        return tuple(of_level(number, values[0]) for number, values in enumerate(maps))

    return lax.map(of_image, (of_regions, given))


class _Windows(NamedTuple):
    """Where the regions lie in all levels below each other in one array.

    Attributes:
        order: regions of all images, those of the same window after each other.
        ends: how many there are up to and with each window; the last is of whole maps.
        corners: (image, row, column) of each region's window.
        region: start, extent and limits of each region, and the origin of its window.
    """

    order: Array
    ends: Array
    corners: Array
    region: tuple[Array, Array, Array, Array]


def _windows(side: int, maps: Any, of_regions: Any) -> _Windows:
    level, start, extent, limits = of_regions
    heights = [values.shape[1] for values in maps]
    tops = jnp.asarray([sum(heights[:i]) for i in range(len(heights))], jnp.int32)[level]
    # First places that any sample touches, and how many lie from there to the last.
    step = extent / (side * SAMPLES)
    most = limits[..., ::-1].astype(start.dtype) - 1  # x, y
    low = jnp.floor(jnp.clip(start + 0.5 * step, 0, most))
    high = jnp.floor(jnp.clip(start + extent - 0.5 * step, 0, most)) + 2
    span = high - low
    windows = _useful_windows(maps)
    fits = [(span[..., 1] <= h) & (span[..., 0] <= w) for h, w in windows]
    form = jnp.argmax(jnp.stack([*fits, jnp.ones(level.shape, bool)]), axis=0)
    origin = jnp.where((form < len(windows))[..., None], low, 0).astype(jnp.int32)
    image = jnp.broadcast_to(jnp.arange(len(level))[:, None], level.shape)
    corners = jnp.stack([image, tops + origin[..., 1], origin[..., 0]], axis=-1)
    flat = form.reshape(-1)
    ends = (flat[:, None] <= jnp.arange(len(windows) + 1)[None]).sum(0)
    region = jax.tree.map(
        lambda leaf: leaf.reshape(-1, leaf.shape[-1]), (start, extent, limits, origin)
    )
    return _Windows(jnp.argsort(flat), ends, corners.reshape(-1, 3), region)


def _below_each_other(maps: Any) -> Array:
    """Return all levels in one array, with room for a window that begins at the last place."""
    height, width = _whole(maps)
    wide = [jnp.pad(m, ((0, 0), (0, 0), (0, width - m.shape[2]), (0, 0))) for m in maps]
    windows = _useful_windows(maps)
    below, right = (max(side, *(w[axis] for w in windows)) if windows else side
                    for axis, side in enumerate((height, 0)))  # fmt: skip
    return jnp.pad(jnp.concatenate(wide, axis=1), ((0, 0), (0, below), (0, right), (0, 0)))


def _whole(maps: Any) -> tuple[int, int]:
    """Return the window that holds every map."""
    return max(m.shape[1] for m in maps), max(m.shape[2] for m in maps)


def _useful_windows(maps: Any) -> list[tuple[int, int]]:
    """Return the windows that are smaller than the largest map."""
    height, width = _whole(maps)
    return [(h, w) for h, w in WINDOWS if h <= height and w <= width and h * w < height * width]


def _over_windows(side: int, maps: Any, of_regions: Any, begin: Any, body: Any) -> Any:
    """Go through the regions by window: ``body(carry, region, corner, window, rows, columns)``."""
    found = _windows(side, maps, of_regions)
    windows = (*_useful_windows(maps), _whole(maps))
    start, extent, limits, origin = found.region
    carry, done = begin, jnp.zeros((), found.ends.dtype)
    for number, window in enumerate(windows):

        def one(place: Any, carry: Any, window: tuple[int, int] = window) -> Any:
            region = found.order[place]
            rows, columns = (
                _weights(start[region, axis], extent[region, axis], limits[region, 1 - axis],
                         origin[region, axis], window[1 - axis], side).astype(maps[0].dtype)
                for axis in (1, 0)
            )  # fmt: skip
            image, row, column = found.corners[region]
            return body(carry, region, (image, row, column, 0), window, rows, columns)

        carry = lax.fori_loop(done, found.ends[number], one, carry)
        done = found.ends[number]
    return carry


def by_window(side: int, maps: Any, of_regions: Any) -> Array:
    """Multiply the smallest of `WINDOWS` that holds the region, one region after the other."""
    stacked = _below_each_other(maps)
    channels = stacked.shape[-1]

    def body(out, region, corner, window, rows, columns):
        patch = lax.dynamic_slice(stacked, corner, (1, *window, channels))
        down = (rows @ patch.reshape(window[0], -1)).reshape(side, window[1], channels)
        cells = jnp.stack([columns @ down[row] for row in range(side)])
        return lax.dynamic_update_slice(out, cells[None], (region, 0, 0, 0))

    shape = of_regions[0].shape
    begin = jnp.zeros((math.prod(shape), side, side, channels), stacked.dtype)
    out = _over_windows(side, maps, of_regions, begin, body)
    return out.reshape(*shape, side, side, channels)


def gradient_by_window(side: int, maps: Any, of_regions: Any, given: Array) -> Any:
    """Return the gradient with respect to the maps: each region adds to its window."""
    whole = _below_each_other(maps)
    channels = whole.shape[-1]
    flat = given.reshape(-1, *given.shape[2:])

    def body(total, region, corner, window, rows, columns):
        down = jnp.stack([columns.T @ flat[region, row] for row in range(side)])
        patch = (rows.T @ down.reshape(side, -1)).reshape(1, *window, channels)
        old = lax.dynamic_slice(total, corner, patch.shape)
        return lax.dynamic_update_slice(total, old + patch, corner)

    total = _over_windows(side, maps, of_regions, jnp.zeros_like(whole), body)
    gradients, top = [], 0
    for values in maps:
        gradients.append(total[:, top : top + values.shape[1], : values.shape[2]])
        top += values.shape[1]
    return tuple(gradients)


def pool(
    values: Float[Array, "batch height width channels"],
    regions: Regions,
    sizes: Int32[Array, "batch 2"],
    stride: int,
    side: int,
) -> Float[Array, "batch regions side side channels"]:
    """Return the largest value in each cell of each region (RoI pooling); of an empty cell 0.

    Regions and cells are rounded to whole places. No gradient goes to the regions.

    Args:
        values: maps.
        regions: in pixels of the images.
        sizes: (height, width) of the images in pixels; beyond, maps hold padding.
        stride: pixels a place of the map.
        side: cells along each side of the result.
    """
    limits = -(-sizes // stride)
    first, last = (_rounded(lax.stop_gradient(part) * (1 / stride))
                   for part in (regions[..., :2], regions[..., 2:]))  # fmt: skip
    sides = jnp.maximum(last - first + 1, 1)

    def bounds(axis: int) -> tuple[Array, Array]:  # of each cell, (batch, regions, side)
        number = jnp.arange(side)[None, None]
        start, size = first[..., axis, None], sides[..., axis, None]
        most = limits[:, 1 - axis, None, None]
        low, high = number * size // side, -(-(number + 1) * size // side)
        return jnp.clip(low + start, 0, most), jnp.clip(high + start, 0, most)

    @jax.checkpoint
    def of_region(image: Array, y: Any, x: Any) -> Array:
        below = jnp.asarray(-jnp.inf, values.dtype)
        whole = values[image]
        rows, columns = (_between(ends, whole.shape[axis]) for axis, ends in enumerate((y, x)))
        down = jnp.where(rows[..., None, None], whole[None], below).max(1)
        cells = jnp.where(columns[None, ..., None], down[:, None], below).max(2)
        return jnp.where(jnp.isfinite(cells), cells, 0)

    image = jnp.broadcast_to(jnp.arange(len(values))[:, None], regions.shape[:2])
    flat = jax.tree.map(
        lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), (image, bounds(1), bounds(0))
    )
    found = lax.map(lambda given: of_region(*given), flat)
    return found.reshape(*regions.shape[:2], *found.shape[1:])


def _rounded(values: Array) -> Array:
    """Round to int32 as C's ``round`` does: halves away from zero."""
    return (jnp.sign(values) * jnp.floor(jnp.abs(values) + 0.5)).astype(jnp.int32)


def _between(ends: tuple[Array, Array], places: int) -> Array:
    """Return which places lie from the first end to before the second, (cells, places)."""
    low, high = ends
    place = jnp.arange(places, dtype=low.dtype)[None]
    return (place >= low[:, None]) & (place < high[:, None])
