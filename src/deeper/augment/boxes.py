"""Augmentation of photographs with boxes: what moves pixels moves boxes with them.

A photograph fills the upper left part of its canvas; what is below and at the right of it stays
zero. Operations of `crops_and_colour` that move no pixel work here as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Num

from deeper.augment.crops_and_colour import Blur, Cutout, Lighting, RandomErasing
from deeper.augment.pipeline import Operation
from deeper.augment.policy_base import ColourJitter
from deeper.data.box_tables import NO_OBJECT
from deeper.errors import UserError

STILL = (Lighting, Blur, Cutout, RandomErasing, ColourJitter)  # these move no pixel


class Scenes(NamedTuple):
    """A batch of photographs with boxes.

    Attributes:
        images: uint8 or float32, 0 to 255.
        size: height and width of each photograph on its canvas.
        boxes: x1, y1, x2, y2 in pixels of the canvas, x2 and y2 exclusive.
        labels: -1 where there is no box.
    """

    images: Num[Array, "batch height width 3"]
    size: Float[Array, "batch 2"]
    boxes: Float[Array, "batch most 4"]
    labels: Int[Array, "batch most"]


@runtime_checkable
class MovesBoxes(Protocol):
    """An operation on photographs and boxes; example i draws from ``keys[i]`` alone."""

    @property
    def on_scenes(self) -> bool:
        """Tells it from an operation on images; its value does not matter."""

    def __call__(self, keys: Key[Array, " batch"], scenes: Scenes) -> Scenes: ...


def augment(
    operations: Sequence[MovesBoxes | Operation],
    key: Key[Array, ""],
    rows: Int[Array, " batch"],
    batch: Mapping[str, Any],
) -> dict[str, Any]:
    """Apply operations in turn to a batch of photographs with boxes.

    Args:
        operations: those here, and those of `STILL`.
        key: of (seed, purpose, step).
        rows: each example's row in the global batch, which is folded into its keys.
        batch: with ``image``, ``size``, ``boxes`` and ``labels`` as of `Scenes`.

    Returns:
        The batch, these four changed. Boxes keep their places; one that is dropped is zero and has
        the label -1.

    Raises:
        UserError: an operation moves pixels and no boxes, or mixes photographs.
    """
    scenes = Scenes(batch["image"], batch["size"], batch["boxes"], batch["labels"])
    for number, operation in enumerate(operations):
        op_key = jax.random.fold_in(key, number)
        keys = jax.vmap(lambda row, op_key=op_key: jax.random.fold_in(op_key, row))(rows)
        if isinstance(operation, MovesBoxes):
            scenes = operation(keys, scenes)
        elif isinstance(operation, STILL):
            scenes = scenes._replace(images=_within(operation(keys, scenes.images), scenes.size))
        else:
            raise UserError(
                f"{type(operation).__name__} moves or mixes pixels, and would leave the boxes "
                "where they are: choose operations of deeper.augment.boxes (augment=detection)."
            )
    names = ("image", "size", "boxes", "labels")
    return {**batch, **dict(zip(names, scenes, strict=True))}


def _within(images: Array, size: Array) -> Array:
    """Return images that are zero outside of the photograph."""
    height, width = images.shape[1:3]
    rows = jnp.arange(height)[None] < size[:, :1]
    columns = jnp.arange(width)[None] < size[:, 1:]
    inside = rows[:, :, None, None] & columns[:, None, :, None]
    return jnp.where(inside, images, jnp.zeros((), images.dtype))


@dataclass(frozen=True)
class Flip:
    """Mirror left and right with a probability (Ren et al. 2015, section 3.3: 0.5).

    Attributes:
        probability: of mirroring a photograph.
    """

    probability: float = 0.5
    on_scenes = True

    def __post_init__(self):
        """Check the value."""
        _check_share(self, "probability")

    def __call__(self, keys: Key[Array, " batch"], scenes: Scenes) -> Scenes:
        mirrored = jax.vmap(lambda key: jax.random.uniform(key) < self.probability)(keys)
        width = scenes.size[:, 1:]  # (batch, 1)
        columns = jnp.arange(scenes.images.shape[2], dtype=jnp.float32)[None]
        source = jnp.where((columns < width) & mirrored[:, None], width - 1 - columns, columns)
        images = jax.vmap(lambda image, places: image[:, places])(
            scenes.images, source.astype(jnp.int32)
        )
        x1, y1, x2, y2 = jnp.moveaxis(scenes.boxes, -1, 0)
        turned = jnp.stack([width - x2, y1, width - x1, y2], axis=-1)
        moved = mirrored[:, None, None] & (scenes.labels >= 0)[..., None]
        return scenes._replace(images=images, boxes=jnp.where(moved, turned, scenes.boxes))


@dataclass(frozen=True)
class ScaleJitter:
    """Resize by a random factor; of what exceeds the canvas a random part is kept.

    As "large scale jittering" (Ghiasi et al. 2020, arXiv:2012.07177, section 3): the factor is
    uniform, smaller photographs leave more of the canvas empty.

    Attributes:
        low: least factor; 0.1 in the paper, 0.8 in its standard jittering.
        high: largest factor; 2.0 in the paper, 1.25 in its standard jittering.
        kept: a box of which less than this share of its area is left is dropped.
    """

    low: float
    high: float
    kept: float = 0.3
    on_scenes = True

    def __post_init__(self):
        """Check the values."""
        if not 0 < self.low <= self.high:
            raise UserError(
                f"ScaleJitter's low={self.low:g} high={self.high:g}: give two rising factors above "
                "0."
            )
        _check_share(self, "kept")

    def __call__(self, keys: Key[Array, " batch"], scenes: Scenes) -> Scenes:
        room = jnp.array(scenes.images.shape[1:3], jnp.float32)

        def rectangle(key, size):
            scale_key, place_key = jax.random.split(key)
            factor = jax.random.uniform(scale_key, minval=self.low, maxval=self.high)
            whole = jnp.maximum(jnp.round(factor * size), 1.0)
            out = jnp.minimum(whole, room)
            # Of the resized photograph; whole pixels, so that a factor of 1 changes none.
            corner = jnp.floor(jax.random.uniform(place_key, (2,)) * (whole - out + 1.0))
            back = size / whole
            return corner * back, out * back, out

        return _cut(scenes, jax.vmap(rectangle)(keys, scenes.size), self.kept)


@dataclass(frozen=True)
class Crop:
    """Cut out a rectangle of random area and shape, and enlarge it to what fits the canvas.

    Attributes:
        probability: of cropping a photograph.
        scale: least and largest area, as a share of the photograph's.
        ratio: least and largest ratio of the sides, width to height, against the photograph's.
        kept: a box of which less than this share of its area is left is dropped.
    """

    probability: float = 0.5
    scale: tuple[float, float] = (0.3, 1.0)
    ratio: tuple[float, float] = (0.75, 1.3333333)
    kept: float = 0.3
    on_scenes = True

    def __post_init__(self):
        """Make tuples of lists, as a config gives them, and check the values."""
        object.__setattr__(self, "scale", tuple(self.scale))
        object.__setattr__(self, "ratio", tuple(self.ratio))
        _check_share(self, "probability")
        if not 0 < self.scale[0] <= self.scale[1] <= 1 or not 0 < self.ratio[0] <= self.ratio[1]:
            raise UserError(
                f"Crop's scale={list(self.scale)} ratio={list(self.ratio)}: give two rising "
                "numbers above 0, the scale's at most 1."
            )
        _check_share(self, "kept")

    def __call__(self, keys: Key[Array, " batch"], scenes: Scenes) -> Scenes:
        room = jnp.array(scenes.images.shape[1:3], jnp.float32)

        def rectangle(key, size):
            chance, area_key, ratio_key, place_key = jax.random.split(key, 4)
            area = jax.random.uniform(area_key, minval=self.scale[0], maxval=self.scale[1])
            low, high = np.log(self.ratio)
            shape = jnp.exp(jax.random.uniform(ratio_key, minval=low, maxval=high))
            shares = jnp.minimum(
                jnp.sqrt(area * jnp.array([1.0, 1.0]) * jnp.stack([1 / shape, shape])), 1.0
            )
            used = jax.random.uniform(chance) < self.probability
            cut = jnp.where(used, jnp.maximum(jnp.round(shares * size), 1.0), size)
            corner = jnp.floor(jax.random.uniform(place_key, (2,)) * (size - cut + 1.0))
            fitted = jnp.maximum(jnp.round(cut * (room / cut).min()), 1.0)
            out = jnp.where(used, jnp.minimum(fitted, room), size)
            return corner, cut, out

        return _cut(scenes, jax.vmap(rectangle)(keys, scenes.size), self.kept)


def _check_share(operation: Any, key: str) -> None:
    share = getattr(operation, key)
    if not 0 <= share <= 1:
        name = type(operation).__name__
        raise UserError(f"{name}'s {key}={share:g}: give a share from 0 to 1.")


def _cut(
    scenes: Scenes,
    rectangles: tuple[Float[Array, "batch 2"], Float[Array, "batch 2"], Float[Array, "batch 2"]],
    kept: float,
) -> Scenes:
    """Resize a rectangle of each photograph to the upper left part of its canvas.

    Args:
        scenes: the photographs.
        rectangles: top and left of the rectangle, which lies inside of the photograph; its height
            and width; and those that it is resized to, whole numbers.
        kept: share of a box's area that has to be left of it.
    """
    corner, cut, out = rectangles
    images = jax.vmap(_resized)(scenes.images, corner, cut, out)
    factor = (out / cut)[:, None, [1, 0, 1, 0]]
    start, end = corner[:, None, [1, 0, 1, 0]], out[:, None, [1, 0, 1, 0]]
    moved = (scenes.boxes - start) * factor
    clipped = jnp.clip(moved, 0.0, end)
    sides = clipped[..., 2:] - clipped[..., :2]
    whole = moved[..., 2:] - moved[..., :2]
    enough = sides.prod(axis=-1) >= kept * whole.prod(axis=-1)
    there = (scenes.labels >= 0) & enough & (sides >= 1.0).all(axis=-1)
    return Scenes(
        images,
        out,
        jnp.where(there[..., None], clipped, 0.0),
        jnp.where(there, scenes.labels, NO_OBJECT),
    )


def _resized(
    image: Num[Array, "height width 3"], corner: Array, cut: Array, out: Array
) -> Num[Array, "height width 3"]:
    """Resize a rectangle by a triangle filter, widened where it shrinks; zeros beside it."""

    def weights(start, length, size, total):
        scale = length / size
        places = jnp.arange(total, dtype=jnp.float32)
        centre = start + (places[:, None] + 0.5) * scale
        near = 1.0 - jnp.abs(places[None] + 0.5 - centre) / jnp.maximum(scale, 1.0)
        # Pixels of which a part lies in the rectangle, but for rounding.
        inside = (places[None] > start - 0.999) & (places[None] < start + length - 0.001)
        near = jnp.where(inside & (places[:, None] < size), jnp.maximum(near, 0.0), 0.0)
        return near / jnp.maximum(near.sum(axis=1, keepdims=True), 1e-6)

    height, width, _ = image.shape
    exact = jax.lax.Precision.HIGHEST
    down = weights(corner[0], cut[0], out[0], height)
    across = weights(corner[1], cut[1], out[1], width)
    values = jnp.einsum("xw,hwc->hxc", across, image.astype(jnp.float32), precision=exact)
    values = jnp.einsum("yh,hxc->yxc", down, values, precision=exact)
    if image.dtype == jnp.uint8:
        values = jnp.clip(jnp.floor(values + 0.5), 0.0, 255.0)
    return values.astype(image.dtype)
