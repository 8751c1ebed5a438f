"""Non-maximum suppression, exact, with static shapes, on the device.

Greedy suppression keeps the box of the highest score, drops those that overlap it by more than a
threshold, and goes on with the next one that is left. Both functions return what that sequence of
decisions returns.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int32

from deeper.models.detection.boxes import iou


def keep_sorted(
    boxes: Float[Array, "n 4"], is_box: Bool[Array, " n"], threshold: float
) -> Bool[Array, " n"]:
    """Return which of some boxes, sorted by falling scores, greedy suppression keeps.

    Args:
        boxes: by falling score.
        is_box: False for padding, which is neither kept nor suppresses.
        threshold: of the intersection over the union.
    """
    cpu, other = (partial(form, threshold) for form in (one_by_one, all_at_once))
    return lax.platform_dependent(boxes, is_box, cpu=cpu, default=other)


def one_by_one(threshold: float, boxes: Array, is_box: Array) -> Array:
    """Decide box by box, as the rule is written: a CPU compares one with all in a microsecond."""
    places = jnp.arange(len(boxes))

    def decide(number, kept):
        def suppress(kept):
            overlaps = iou(boxes, lax.dynamic_slice_in_dim(boxes, number, 1))[:, 0] > threshold
            return kept & ~(overlaps & (places > number))

        return lax.cond(kept[number], suppress, lambda kept: kept, kept)

    return lax.fori_loop(0, len(boxes), decide, is_box)


def all_at_once(threshold: float, boxes: Array, is_box: Array) -> Array:
    """Decide in a few passes over all pairs.

    A box is kept if no kept box before it overlaps it. That is a fixed point with one solution,
    which is reached from any guess: a pass makes right whatever depends on boxes that are right.
    The passes are as many as the longest chain of decisions that depend on each other.
    """
    places = jnp.arange(len(boxes))
    overlaps = (iou(boxes, boxes) > threshold) & (places[:, None] < places[None])
    suppresses = overlaps.astype(jnp.float32)

    def unfinished(state):
        kept, last = state
        return (kept != last).any()

    def decide(state):
        kept, _ = state
        return is_box & ~(kept.astype(jnp.float32) @ suppresses > 0), kept

    return lax.while_loop(unfinished, decide, decide((is_box, is_box)))[0]


def best_by_class(
    boxes: Float[Array, "n classes 4"],
    scores: Float[Array, "n classes"],
    *,
    threshold: float,
    least: float,
    count: int,
) -> tuple[Float[Array, "count 4"], Float[Array, " count"], Int32[Array, " count"]]:
    """Return the best detections after suppression within each class.

    One detection is taken at a time: the best score of all. It suppresses boxes of its own class
    alone, so that only that class's best has to be looked for again.

    Args:
        boxes: of each proposal, one by class.
        scores: of each box; -1 where there is none.
        threshold: of the intersection over the union.
        least: scores have to be larger.
        count: detections to return.

    Returns:
        Boxes, scores and classes by falling score; where there are fewer, zeros and class -1.
    """
    scores = jnp.where(scores > least, scores, -1)
    columns, by_class = scores.T, boxes.transpose(1, 0, 2)

    def take(number, state):
        columns, best, found = state
        label = best.argmax().astype(jnp.int32)
        column, candidates = columns[label], by_class[label]
        place = column.argmax()
        box, score = candidates[place], column[place]
        overlaps = iou(candidates, box[None])[:, 0] > threshold
        column = jnp.where(overlaps, -1, column).at[place].set(-1)
        is_there = score > least
        one = (
            jnp.where(is_there, box, 0),
            jnp.where(is_there, score, 0),
            jnp.where(is_there, label, -1),
        )
        found = jax.tree.map(lambda all_, new: all_.at[number].set(new), found, one)
        return columns.at[label].set(column), best.at[label].set(column.max()), found

    nothing = (
        jnp.zeros((count, 4), boxes.dtype),
        jnp.zeros(count, scores.dtype),
        jnp.full(count, -1, jnp.int32),
    )
    state = (columns, columns.max(1), nothing)
    return lax.fori_loop(0, count, take, state)[2]
