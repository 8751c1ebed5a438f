"""Detection: boxes of objects in photographs, by a net such as `models.detection.faster_rcnn`.

The columns of the data set are those of `data.detection`. Losses are those of Ren et al. 2015
(arXiv:1506.01497) as torchvision computes them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from deeper.augment.boxes import augment
from deeper.augment.pipeline import Normalise
from deeper.config.instantiate import build
from deeper.data.detection import tables_of
from deeper.models.detection.faster_rcnn import Answers, Detections, Scenes
from deeper.tasks import average_precision as ap
from deeper.tasks.classification import AUGMENT
from deeper.tasks.coco_results import coco_results
from deeper.tasks.task import Batch, Keys, Rows

DRAWS = 4  # purpose of a random key, see `deeper.train.step`
KNEE = 1 / 9  # where the loss of boxes turns from a parabola into a line
NUMBERS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar_100", "voc07_ap50",
           "voc_ap50")  # fmt: skip


@dataclass(frozen=True)
class Detection:
    """Detection of objects.

    Attributes:
        classes: of the objects.
        operations: the augmentation, see `augment.boxes`.
        normalise: stored photographs -> inputs of the net.
        padded: whether some photographs fill their canvas in part.
    """

    classes: int
    operations: Sequence[Any]
    normalise: Callable[[Any], Any]
    padded: bool
    metric: str = "ap"
    less_is_better: bool = False
    percent: tuple[str, ...] = NUMBERS
    streams: Mapping[str, int] = field(default_factory=dict)

    def inputs(self, keys: Keys, rows: Rows, batch: Batch, train: bool) -> tuple[Any, Any, Rows]:
        """Return what the net takes; in training augmented, with the objects that are trained on.

        Crowds and difficult objects are not, nor are they background: no more than torchvision does
        the net know of them.
        """
        if not train:
            size = batch["size"] if self.padded else None
            return Scenes(self.normalise(batch["image"]), size), None, rows
        left_out = batch["crowd"] | batch["difficult"]
        batch = {**batch, "labels": jnp.where(left_out, -1, batch["labels"])}
        batch = augment(self.operations, keys(AUGMENT), rows, batch)
        key = keys(DRAWS)
        return (
            Scenes(
                self.normalise(batch["image"]),
                batch["size"] if self.padded else None,
                batch["boxes"],
                batch["labels"],
                jax.vmap(lambda row: jax.random.fold_in(key, row))(rows),
            ),
            None,
            rows,
        )

    def loss(
        self, outputs: Answers, targets: None, progress: Float[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Return the sum of the four losses, and each of them.

        Each is a mean over images of a mean over the anchors or proposals that were drawn. (It is
        torchvision's mean over those of all images if as many were drawn in each.)
        """
        del targets, progress
        losses = jax.tree.map(jnp.mean, losses_by_image(outputs))
        total = sum(losses.values(), start=jnp.zeros(()))
        return total, {"loss": total} | losses

    def predict(self, outputs: Detections, batch: Batch) -> dict[str, Array]:
        """Return detections and objects in pixels of the photographs.

        Returns:
            found_boxes, found_scores and found_labels, by falling score, with label -1 for padding;
            boxes, labels, crowd, difficult, area and number as the data set has them.
        """
        scale = (batch["original"] / batch["size"])[:, None, jnp.asarray([1, 0, 1, 0])]
        return {
            "found_boxes": outputs.boxes * scale,
            "found_scores": outputs.scores,
            "found_labels": outputs.labels,
            "boxes": batch["boxes"] * scale,
        } | {name: batch[name] for name in ("labels", "crowd", "difficult", "area", "number")}

    def summarise(self, rows: Mapping[str, np.ndarray]) -> dict[str, float | int]:
        """Return average precision by COCO's and VOC's rules, in per cent."""
        return dict(self._precision(rows).numbers())

    def details(self, rows: Mapping[str, np.ndarray], class_names: Sequence[str]) -> dict[str, Any]:
        """Return average precision by class, in per cent, and how many objects there are."""
        return dict(self._precision(rows).by_class(class_names))

    def results(
        self, rows: Mapping[str, np.ndarray], data: Mapping[str, Any], split: str
    ) -> list[dict[str, Any]]:
        """Return the detections in COCO's format, with the data set's own numbers.

        Args:
            rows: predictions of all examples.
            data: arguments of `data.detection.detection`.
            split: that they are of.
        """
        tables, classes = tables_of(**{k: v for k, v in data.items() if not k.startswith("_")})
        # What was held out for validation is counted in the table of the training split.
        ids = tables[split if split in tables else "train"].ids[rows["number"]]
        found = rows["found_boxes"], rows["found_scores"], rows["found_labels"]
        return coco_results(*found, ids.tolist(), classes.ids)

    def examples(
        self, batch: Batch, rows: Mapping[str, np.ndarray], class_names: Sequence[str]
    ) -> dict[str, Any]:
        """Return a few photographs with true objects and detections, in pixels of the canvas."""
        images = batch["image"]
        shown = len(images)
        scale = (batch["size"] / batch["original"])[:, None][..., [1, 0, 1, 0]]
        return {
            "images": images,
            "boxes": batch["boxes"],
            "labels": batch["labels"],
            "found_boxes": rows["found_boxes"][:shown] * scale,
            "found_scores": rows["found_scores"][:shown],
            "found_labels": rows["found_labels"][:shown],
            "class_names": tuple(class_names),
        }

    def _precision(self, rows: Mapping[str, np.ndarray]) -> ap.AveragePrecision:
        found = ap.Detections(rows["found_boxes"], rows["found_scores"], rows["found_labels"])
        names = ("boxes", "labels", "crowd", "difficult", "area")
        return ap.average_precision(found, ap.Truth(*map(rows.__getitem__, names)), self.classes)


def detection(
    config: Any, mean: Sequence[float], std: Sequence[float], padded: bool = True
) -> Detection:
    """Return the task that a run's config states (``conf/task/detection.yaml``).

    Args:
        config: the run's.
        mean: of the pixels, on the scale 0 to 1.
        std: their deviation.
        padded: see `Detection`.
    """
    operations = tuple(build(operation) for operation in config.augment)
    normalise = Normalise(tuple(mean), tuple(std))
    return Detection(config.data.classes, operations, normalise, padded)


def losses_by_image(outputs: Answers) -> dict[str, Float[Array, " batch"]]:
    """Return each image's four losses.

    Args:
        outputs: of the net in training.

    Returns:
        loss_objectness: binary cross-entropy of the drawn anchors; loss_anchor_box: of those with
        an object, divided by the number drawn. loss_class: cross-entropy of the drawn proposals;
        loss_box: of those with an object, for its class alone, divided by the number drawn.
    """
    label = outputs.anchor_label
    objectness = optax.sigmoid_binary_cross_entropy(outputs.anchor_score, label.clip(0))
    drawn = jnp.maximum((label >= 0).sum(1), 1)
    anchor_box = _smooth(outputs.anchor_box - outputs.anchor_target)
    own = outputs.class_label
    of_class = optax.softmax_cross_entropy_with_integer_labels(outputs.class_score, own.clip(0))
    sampled = jnp.maximum((own >= 0).sum(1), 1)
    is_own = jnp.arange(outputs.class_score.shape[-1])[None, None] == own[..., None]
    box = jnp.where(is_own[..., None], outputs.class_box, 0).sum(2)  # without a gather's gradient
    box = _smooth(box - outputs.class_target)

    def total(values: Array, counted: Array, number: Array) -> Array:
        return jnp.where(counted, values, 0).sum(1) / number

    return {
        "loss_objectness": total(objectness, label >= 0, drawn),
        "loss_anchor_box": total(anchor_box, label > 0, drawn),
        "loss_class": total(of_class, own >= 0, sampled),
        "loss_box": total(box, own > 0, sampled),
    }


def _smooth(difference: Float[Array, "*shape 4"]) -> Float[Array, "*shape"]:
    """Return Huber's loss, divided by its knee (``smooth_l1``), summed over the coordinates."""
    size = jnp.abs(difference)
    parabola = 0.5 * difference * difference / KNEE
    return jnp.where(size < KNEE, parabola, size - 0.5 * KNEE).sum(-1)
