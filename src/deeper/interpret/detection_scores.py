"""The score of a detection as a function of the image, for the methods of `attribution`.

A detection's class score is what the head says of one proposal. Here the proposal stays where it is
while the image changes: the score is of the place, and gradients reach it through the pooled maps
alone, as in training.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from deeper.models.detection.faster_rcnn import Detections, FasterRCNN, Judged, Scenes
from deeper.models.layers import Maps

REGION = "region"  # collection of variables: the region that is judged, and the image's size
BACKGROUND = "background"  # the class behind all others


class ScoreOfRegion(nn.Module):
    """A detector's class logits of one region of an image, as those of a net that classifies.

    The region and the size of the image are variables, so that one program serves all of them.

    Attributes:
        detector: whose variables are this net's.
    """

    detector: FasterRCNN

    def setup(self) -> None:
        """Take the detector's variables as they are named, and the region's beside them."""
        nn.share_scope(self, self.detector)
        self.place = self.variable(REGION, "place", jnp.zeros, (4,))
        self.extent = self.variable(REGION, "extent", jnp.zeros, (2,))

    def __call__(self, images: Maps, *, train: bool) -> Float[Array, "batch classes"]:
        """Return logits, of background the last."""
        count = len(images)
        scenes = Scenes(images, jnp.broadcast_to(self.extent.value, (count, 2)))
        regions = jnp.broadcast_to(self.place.value, (count, 1, 4))
        judged = self.detector(scenes, train=train, regions=regions)
        assert isinstance(judged, Judged)
        return jnp.roll(judged.logits[:, 0], -1, axis=-1)


def with_region(
    variables: Any, region: Float[np.ndarray, " 4"], size: Float[np.ndarray, " 2"]
) -> dict[str, Any]:
    """Return a detector's variables with a region and the image's size, for `ScoreOfRegion`."""
    given = {"place": jnp.asarray(region, jnp.float32), "extent": jnp.asarray(size, jnp.float32)}
    return {**variables, REGION: given}


def regions_of(
    detector: FasterRCNN, variables: Any, scenes: Scenes
) -> tuple[Detections, Float[np.ndarray, "batch found 4"]]:
    """Return what a detector finds, and the proposal that each detection was made of.

    Args:
        detector: the net.
        variables: params and batch_stats.
        scenes: images, and their sizes.
    """

    @jax.jit
    def answer(variables: Any, scenes: Scenes) -> Any:
        found, sown = detector.apply(variables, scenes, train=False, mutable=["intermediates"])
        (proposed,) = sown["intermediates"]["proposals"]
        judged = detector.apply(variables, scenes, train=False, regions=proposed)
        assert isinstance(found, Detections) and isinstance(judged, Judged)

        def of_image(found: Detections, proposed: Any, boxes: Any, logits: Any) -> Any:
            label = jnp.maximum(found.labels, 0)
            made = boxes[:, label].swapaxes(0, 1)  # of each detection's class, by proposal
            share = jax.nn.softmax(logits)[:, 1 + label].T
            off = jnp.abs(made - found.boxes[:, None]).max(-1)
            off += jnp.abs(share - found.scores[:, None])  # two proposals may give one box
            return proposed[off.argmin(1)]

        return found, jax.vmap(of_image)(found, proposed, judged.boxes, judged.logits)

    found, regions = answer(variables, scenes)
    return jax.tree.map(np.asarray, found), np.asarray(regions)
