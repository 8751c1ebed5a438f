"""Classification: one class an example, by cross-entropy or a yes or no for each class."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int32, Shaped

from deeper.augment.pipeline import Normalise, augment, mixes
from deeper.config.instantiate import build
from deeper.tasks.task import Batch, Keys, Rows
from deeper.train import losses

AUGMENT = 0  # purpose of a random key, see `deeper.train.step`

Predictions = Mapping[str, np.ndarray]  # as `Classification.predict` names them, every example's


@dataclass(frozen=True)
class Classification:
    """Images, or features, and their classes.

    Attributes:
        operations: the augmentation.
        normalise: stored inputs -> what the net takes.
        example_loss: of each example, see `losses.loss_of`.
    """

    operations: Sequence[Any]
    normalise: Callable[[Any], Any]
    example_loss: losses.Loss
    metric: str = "error"
    less_is_better: bool = True
    percent: tuple[str, ...] = ("error",)
    streams: Mapping[str, int] = field(default_factory=dict)

    def inputs(self, keys: Keys, rows: Rows, batch: Batch, train: bool) -> tuple[Any, Any, Rows]:
        """Return normalised images; in training augmented, with labels or shares of the classes."""
        if not train:
            return self.normalise(batch["image"]), None, rows
        images, targets = augment(
            self.operations, keys(AUGMENT), rows, batch["image"], batch["label"]
        )
        return self.normalise(images), targets, rows

    def loss(
        self, outputs: losses.Logits, targets: losses.Targets, progress: Float[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Return the mean loss in nats, and with it the error as a share."""
        del progress
        loss = self.example_loss(outputs, targets).mean()
        return loss, {"loss": loss, "error": losses.wrong(outputs, targets).mean()}

    def predict(self, outputs: losses.Logits, batch: Batch) -> dict[str, Array]:
        """Return what is kept of each answer.

        Returns:
            loss: cross-entropy in nats, without label smoothing. correct, correct_top5: 1.0 where
            the class is the first answer, or among the first five. prediction: the first answer;
            confidence: its probability. label: the true class.
        """
        label = batch["label"]
        return {
            "loss": losses.cross_entropy(outputs, label),
            "correct": losses.in_top(outputs, label, 1),
            "correct_top5": losses.in_top(outputs, label, 5),
            "prediction": outputs.argmax(axis=-1).astype(jnp.int32),
            "confidence": jax.nn.softmax(outputs).max(axis=-1),
            "label": label,
        }

    def summarise(self, rows: Predictions) -> dict[str, float | int]:
        """Return mean loss in nats, and errors in per cent.

        ``n_unanswered`` is there only where scores were NaN or infinite; the loss is NaN then.
        """
        unanswered = int((~answered(rows)).sum())
        return {
            "loss": float(np.mean(rows["loss"], dtype=np.float64)),
            "error": percent_wrong(rows["correct"]),
            "error_top5": percent_wrong(rows["correct_top5"]),
        } | ({"n_unanswered": unanswered} if unanswered else {})

    def examples(
        self, batch: Batch, rows: Predictions, class_names: Sequence[str]
    ) -> dict[str, Any]:
        """Return what a record keeps of a few examples, and the counts of all answers.

        Args:
            batch: the first examples of a split, as stored.
            rows: every example's predictions.
            class_names: in the order of the labels.
        """
        n = len(batch["label"])
        return {
            "images": batch["image"],
            "labels": rows["label"][:n],
            "predictions": rows["prediction"][:n],
            "confidences": rows["confidence"][:n],
            "class_names": tuple(class_names),
            "confusion": confusion(rows, len(class_names)),
        }


def classification(config: Any) -> Classification:
    """Return the task that a run's config states (``task: classification``)."""
    train, data = config.train, config.data
    return Classification(
        operations=tuple(build(operation) for operation in config.augment),
        normalise=Normalise(tuple(data.mean), tuple(data.std)),
        example_loss=losses.loss_of(train.loss, train.label_smoothing, train.target_threshold),
    )


def mixes_examples(task: Any) -> bool:
    """Whether a task's augmentation mixes neighbours in a batch."""
    return mixes(getattr(task, "operations", ()))


# --- numbers of every example's predictions ------------------------------------------------------


def percent_wrong(correct: Float32[np.ndarray, " n"]) -> float:
    """Return the error in per cent."""
    return 100.0 * (1.0 - float(np.mean(correct, dtype=np.float64)))


def answered(rows: Predictions) -> Bool[np.ndarray, " n"]:
    """Return where the net's scores are numbers: NaN and infinity are no answer, and wrong."""
    return np.isfinite(rows["confidence"])


def calibration_error(rows: Predictions, bins: int = 15) -> float | None:
    """Return the expected calibration error in per cent; None if answers are no numbers.

    Guo et al. 2017 (arXiv:1706.04599), equation 3: the mean distance between confidence and share
    of right answers, over bins of equal width, by their numbers of examples.
    """
    if not answered(rows).all():
        return None
    confidence = rows["confidence"]
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(which, rows["correct"].astype(np.float64) - confidence, bins)
    return 100.0 * float(np.abs(gaps).sum()) / len(confidence)


def error_by_class(rows: Predictions, classes: int) -> list[float | None]:
    """Return each class's error in per cent; None where it has no examples."""
    counts = np.bincount(rows["label"], minlength=classes)
    right = np.bincount(rows["label"], rows["correct"], minlength=classes)
    return [
        100.0 * (1.0 - float(r) / int(n)) if n else None for r, n in zip(right, counts, strict=True)
    ]


def confusion(rows: Predictions, classes: int) -> Int32[np.ndarray, "classes classes"]:
    """Return counts of (true class, answer); what has no answer is left out."""
    counts = np.zeros((classes, classes), np.int32)
    known = answered(rows)
    np.add.at(counts, (rows["label"][known], rows["prediction"][known]), 1)
    return counts


def mean_over_views(
    logits_of: Callable[[Any], Any], views: Shaped[Array, "views batch height width channels"]
) -> Float[Array, "batch classes"]:
    """Return the logarithm of the mean over views of the softmax, a view at a time.

    Args:
        logits_of: images -> logits.
        views: several views of each image.
    """
    each = jax.lax.map(lambda images: jax.nn.log_softmax(logits_of(images)), views)
    return jax.nn.logsumexp(each, axis=0) - jnp.log(len(views))
