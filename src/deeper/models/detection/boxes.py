"""Operations on boxes, with static shapes: sizes, overlaps, coding, matching and sampling.

A box is x1, y1, x2, y2 in pixels; x2 and y2 are exclusive, so that its width is x2 - x1. Values,
thresholds and their order are those of torchvision's ``models.detection._utils``, which follows Ren
et al. 2015 (arXiv:1506.01497).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32

Boxes = Float[Array, "*shape 4"]

# Largest logarithm of a decoded box's width over its anchor's, so that exp stays finite.
LARGEST_LOG = math.log(1000.0 / 16)
NOTHING, BETWEEN = -1, -2  # `match`: below the lower threshold; between the two


def area(boxes: Boxes) -> Float[Array, "*shape"]:
    """Return width times height."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def iou(one: Float[Array, "n 4"], other: Float[Array, "m 4"]) -> Float[Array, "n m"]:
    """Return each pair's intersection over its union; 0 where both are of no area."""
    low = jnp.maximum(one[:, None, :2], other[None, :, :2])
    high = jnp.minimum(one[:, None, 2:], other[None, :, 2:])
    sides = jnp.maximum(high - low, 0)
    common = sides[..., 0] * sides[..., 1]
    union = area(one)[:, None] + area(other)[None] - common
    return jnp.where(common > 0, common / jnp.where(common > 0, union, 1), 0)


def clip(boxes: Boxes, size: Float[Array, " 2"]) -> Boxes:
    """Return boxes without what lies outside an image of size (height, width)."""
    limits = jnp.stack([size[1], size[0], size[1], size[0]])
    return jnp.clip(boxes, 0, limits.reshape(*[1] * (boxes.ndim - 1), 4))


def _middle_and_sides(boxes: Boxes) -> tuple[Array, Array]:
    sides = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * sides, sides


def encode(
    boxes: Boxes, anchors: Boxes, weights: tuple[float, float, float, float]
) -> Float[Array, "*shape 4"]:
    """Return boxes relative to anchors: shifts by the anchor's sides, logarithms of the sides.

    Args:
        boxes: of positive width and height.
        anchors: one for each box, of positive width and height.
        weights: factors of the shifts in x and y and of the logarithms.
    """
    middle, sides = _middle_and_sides(boxes)
    anchor_middle, anchor_sides = _middle_and_sides(anchors)
    shift = (middle - anchor_middle) / anchor_sides
    factors = jnp.asarray(weights, boxes.dtype).reshape(*[1] * (boxes.ndim - 1), 4)
    return jnp.concatenate([shift, jnp.log(sides / anchor_sides)], axis=-1) * factors


def decode(
    deltas: Float[Array, "*shape 4"], anchors: Boxes, weights: tuple[float, float, float, float]
) -> Boxes:
    """Return the boxes that `encode` would code so; no side grows more than 62.5 times."""
    middle, sides = _middle_and_sides(anchors)
    factors = jnp.asarray(weights, deltas.dtype).reshape(*[1] * (deltas.ndim - 1), 4)
    relative = deltas / factors
    centre = relative[..., :2] * sides + middle
    half = 0.5 * jnp.exp(jnp.minimum(relative[..., 2:], LARGEST_LOG)) * sides
    return jnp.concatenate([centre - half, centre + half], axis=-1)


def match(
    overlaps: Float[Array, "objects boxes"],
    is_object: Bool[Array, " objects"],
    is_box: Bool[Array, " boxes"],
    *,
    low: float,
    high: float,
    also_best: bool,
) -> Int32[Array, " boxes"]:
    """Return for each box the object that it overlaps most, or `NOTHING` or `BETWEEN`.

    Args:
        overlaps: intersections over unions.
        is_object: False for rows that are padding.
        is_box: False for columns that are padding; they match nothing.
        low: a smaller largest overlap is a match with nothing.
        high: at least this overlap is a match with the object.
        also_best: match the boxes that overlap an object most, if less than ``high``, too: each
            with the object that it itself overlaps most.
    """
    counted = jnp.where(is_object[:, None] & is_box[None], overlaps, -1)
    best = counted.argmax(0).astype(jnp.int32)
    value = counted.max(0)
    matches = jnp.where(value >= high, best, jnp.where(value >= low, BETWEEN, NOTHING))
    if also_best:
        of_object = counted.max(1)
        is_best = (counted == of_object[:, None]) & (of_object >= 0)[:, None]
        matches = jnp.where(is_best.any(0), best, matches)
    return jnp.where(is_box, matches, NOTHING).astype(jnp.int32)


class Sample(NamedTuple):
    """Boxes that were drawn for the loss.

    Attributes:
        places: of each among all, (count,).
        positive: which of them have an object.
        drawn: False where there were not enough of them.
    """

    places: Int32[Array, " count"]
    positive: Bool[Array, " count"]
    drawn: Bool[Array, " count"]


def sample(
    positive: Bool[Array, " boxes"],
    negative: Bool[Array, " boxes"],
    draws: Float[Array, " boxes"],
    *,
    count: int,
    positives: int,
) -> Sample:
    """Choose ``count`` boxes: at most ``positives`` with an object, the rest without one.

    Of either kind those with the smallest draws are chosen, which is a uniform choice if the draws
    are uniform.

    Args:
        positive: boxes with an object.
        negative: boxes without one; others are never chosen.
        draws: numbers in [0, 1).
        count: boxes to choose, at most as many as there are.
        positives: at most so many with an object.
    """
    count, positives = min(count, len(draws)), min(positives, len(draws))
    kept, order = jax.lax.top_k(jnp.where(positive, -draws, -2), positives)
    chosen = jnp.zeros(len(draws), bool).at[order].set(kept > -2)
    # The chosen positives come first, then negatives by their draws.
    rank = jnp.where(chosen, 2, jnp.where(negative, -draws, -2))
    value, index = jax.lax.top_k(rank, count)
    return Sample(index.astype(jnp.int32), value > 1, value > -2)
