"""The region proposal network of Ren et al. 2015 (arXiv:1506.01497), as torchvision has it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32

from deeper.models.detection import anchors as at
from deeper.models.detection import boxes as on
from deeper.models.detection.suppression import keep_sorted
from deeper.models.initializers import ZEROS, Normal
from deeper.models.layers import Conv, Maps

WEIGHTS = (1.0, 1.0, 1.0, 1.0)  # of the coded boxes
LEAST_SIDE = 1e-3  # pixels of a proposal


@dataclass(frozen=True)
class Settings:
    """Numbers of the proposals; the defaults are torchvision's and those of He et al. 2017.

    Attributes:
        sizes: of the anchors of each map, square roots of areas in pixels.
        ratios: of the anchors, height to width.
        before: proposals of a map that suppression looks at, (training, evaluation).
        after: proposals of an image that are left, (training, evaluation).
        threshold: of suppression.
        high: overlap from which an anchor has an object.
        low: overlap below which it has none.
        sampled: anchors of an image in the loss.
        positive: share of them with an object, at most.
    """

    sizes: tuple[tuple[float, ...], ...]
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    before: tuple[int, int] = (2000, 1000)
    after: tuple[int, int] = (2000, 1000)
    threshold: float = 0.7
    high: float = 0.7
    low: float = 0.3
    sampled: int = 256
    positive: float = 0.5


class ProposalHead(nn.Module):
    """Convolutions that are the same for all maps: a score and four numbers for each anchor.

    Attributes:
        anchors: at each place.
        convolutions: 3x3, in front of the outputs.
        dtype: of the computation.
    """

    anchors: int
    convolutions: int
    dtype: Any

    @nn.compact
    def __call__(self, maps: Sequence[Maps]) -> tuple[list[Array], list[Array]]:
        """Return of each map the anchors' scores (batch, n) and coded boxes (batch, n, 4)."""

        def conv(name: str, features: int, kernel: int) -> Conv:
            return Conv(
                features, kernel, use_bias=True, rule=Normal(0.01), bias_rule=ZEROS,
                dtype=self.dtype, name=name,
            )  # fmt: skip

        hidden = [conv(f"conv{i}", maps[0].shape[-1], 3) for i in range(1, self.convolutions + 1)]
        score, box = conv("score", self.anchors, 1), conv("box", 4 * self.anchors, 1)
        scores, coded = [], []
        for values in maps:
            x = values
            for layer in hidden:
                x = nn.relu(layer(x))
            scores.append(score(x).reshape(x.shape[0], -1).astype(jnp.float32))
            coded.append(box(x).reshape(x.shape[0], -1, 4).astype(jnp.float32))
        return scores, coded


def anchors_of(
    shapes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    sizes: Int32[Array, "batch 2"],
    settings: Settings,
) -> list[Float[Array, "batch n 4"]]:
    """Return the anchors of each map.

    They stand as far apart as an image has pixels a valid place, rounded down, as torchvision's do:
    on the coarsest map of a pyramid that may be less than its stride.

    Args:
        shapes: (height, width) of the maps.
        strides: of the maps.
        sizes: (height, width) of the images in pixels, filled up to the largest stride.
        settings: sizes and shapes of the anchors.
    """
    return [
        at.over_map(shape, sizes // -(-sizes // stride), of_map, settings.ratios)
        for shape, stride, of_map in zip(shapes, strides, settings.sizes, strict=True)
    ]


def inside(
    shapes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    sizes: Int32[Array, "batch 2"],
    per_place: int,
) -> list[Bool[Array, "batch n"]]:
    """Return which anchors of each map stand on an image, and not on its padding.

    Args:
        shapes: (height, width) of the maps.
        strides: of the maps.
        sizes: (height, width) of the images in pixels.
        per_place: anchors.
    """
    found = []
    for (height, width), stride in zip(shapes, strides, strict=True):
        valid = -(-sizes // stride)
        rows = jnp.arange(height)[None] < valid[:, :1]
        columns = jnp.arange(width)[None] < valid[:, 1:]
        places = (rows[:, :, None] & columns[:, None]).reshape(len(sizes), -1)
        found.append(jnp.repeat(places, per_place, axis=1))
    return found


def propose(
    scores: Sequence[Float[Array, "batch n"]],
    coded: Sequence[Float[Array, "batch n 4"]],
    anchors: Sequence[Float[Array, "batch n 4"]],
    is_anchor: Sequence[Bool[Array, "batch n"]],
    sizes: Float[Array, "batch 2"],
    settings: Settings,
    train: bool,
) -> tuple[Float[Array, "batch k 4"], Bool[Array, "batch k"]]:
    """Return the proposals of each image by falling score, and which of them there are.

    Args:
        scores: of each map's anchors.
        coded: their boxes.
        anchors: of each map.
        is_anchor: which anchors stand on the image.
        sizes: (height, width) of the images, to which boxes are clipped.
        settings: how many.
        train: as many as in training.
    """
    scores, coded = jax.lax.stop_gradient((list(scores), list(coded)))
    before, after = settings.before[not train], settings.after[not train]

    def of_image(scores: Any, coded: Any, anchors: Any, is_anchor: Any, size: Any) -> Any:
        boxes, values = [], []
        for score, code, place, there in zip(scores, coded, anchors, is_anchor, strict=True):
            ranked, order = jax.lax.top_k(
                jnp.where(there, score, -jnp.inf), min(before, len(score))
            )
            box = on.clip(on.decode(code[order], place[order], WEIGHTS), size)
            is_box = (box[:, 2:] - box[:, :2] >= LEAST_SIDE).all(1) & (ranked > -jnp.inf)
            kept = keep_sorted(box, is_box, settings.threshold)
            boxes.append(box)
            values.append(jnp.where(kept, ranked, -jnp.inf))
        box, value = jnp.concatenate(boxes), jnp.concatenate(values)
        best, order = jax.lax.top_k(value, min(after, len(value)))
        is_there = best > -jnp.inf
        return jnp.where(is_there[:, None], box[order], 0), is_there

    return jax.vmap(of_image)(scores, coded, list(anchors), list(is_anchor), sizes)


class AnchorTargets(NamedTuple):
    """What the anchors of the loss should answer.

    Attributes:
        label: 1 for an object, 0 for none, -1 for an anchor that is not in the loss.
        box: the coded box of the object; zero without one.
    """

    label: Int32[Array, "batch n"]
    box: Float[Array, "batch n 4"]


def anchor_targets(
    anchors: Float[Array, "batch n 4"],
    is_anchor: Bool[Array, "batch n"],
    boxes: Float[Array, "batch m 4"],
    is_object: Bool[Array, "batch m"],
    draws: Float[Array, "batch n"],
    settings: Settings,
) -> AnchorTargets:
    """Match all anchors with the objects, and draw those of the loss.

    Args:
        anchors: of all maps.
        is_anchor: which of them stand on the image.
        boxes: of the objects.
        is_object: False for padding.
        draws: in [0, 1), by which anchors are chosen.
        settings: thresholds and counts.
    """
    positives = int(settings.sampled * settings.positive)

    def of_image(
        anchors: Any, is_anchor: Any, boxes: Any, is_object: Any, draws: Any
    ) -> AnchorTargets:
        overlaps = on.iou(boxes, anchors)
        matches = on.match(
            overlaps, is_object, is_anchor, low=settings.low, high=settings.high, also_best=True
        )
        negative = (matches == on.NOTHING) & is_anchor
        chosen = on.sample(
            matches >= 0, negative, draws, count=settings.sampled, positives=positives
        )
        label = jnp.full(len(anchors), -1, jnp.int32)
        value = jnp.where(chosen.drawn, chosen.positive.astype(jnp.int32), -1)
        label = label.at[chosen.places].set(value)
        safe = jnp.where((matches >= 0)[:, None], boxes[jnp.maximum(matches, 0)], anchors)
        coded = on.encode(safe, anchors, WEIGHTS)
        return AnchorTargets(label, jnp.where((matches >= 0)[:, None], coded, 0))

    return jax.vmap(of_image)(anchors, is_anchor, boxes, is_object, draws)
