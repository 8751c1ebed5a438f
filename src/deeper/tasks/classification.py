"""Classification: one class per example, by cross-entropy or one sigmoid per class."""

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

Predictions = Mapping[str, np.ndarray]  # of all examples, see `Classification.predict`


@dataclass(frozen=True)
class Classification:
    """Classification of images or features.

    Attributes:
        operations: the augmentation.
        normalise: stored inputs -> inputs of the net.
        example_loss: loss per example, see `losses.loss_of`.
    """

    operations: Sequence[Any]
    normalise: Callable[[Any], Any]
    example_loss: losses.Loss
    metric: str = "error"
    less_is_better: bool = True
    percent: tuple[str, ...] = ("error",)
    streams: Mapping[str, int] = field(default_factory=dict)

    def inputs(self, keys: Keys, rows: Rows, batch: Batch, train: bool) -> tuple[Any, Any, Rows]:
        """Return normalised images; in training augmented, with labels or shares of classes."""
        if not train:
            return self.normalise(batch["image"]), None, rows
        images, targets = augment(
            self.operations, keys(AUGMENT), rows, batch["image"], batch["label"]
        )
        return self.normalise(images), targets, rows

    def loss(
        self, outputs: losses.Logits, targets: losses.Targets, progress: Float[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Return the mean loss in nats, and the error as a share."""
        del progress
        loss = self.example_loss(outputs, targets).mean()
        return loss, {"loss": loss, "error": losses.wrong(outputs, targets).mean()}

    def predict(self, outputs: losses.Logits, batch: Batch) -> dict[str, Array]:
        """Return the predictions of each example.

        Returns:
            loss: cross-entropy in nats, without label smoothing. correct, correct_top5: 1.0 where
            the true class has the highest score, or is among the five highest. prediction: the
            predicted class; confidence: its probability. label: the true class.
        """
        return answers(outputs, batch["label"])

    def summarise(self, rows: Predictions) -> dict[str, float | int]:
        """Return the mean loss in nats, and errors in per cent.

        ``n_unanswered`` is present only if scores were NaN or infinite; the loss is then NaN.
        """
        return errors(rows)

    def examples(
        self, batch: Batch, rows: Predictions, class_names: Sequence[str]
    ) -> dict[str, Any]:
        """Return a few examples with predictions, and the confusion matrix of all.

        Args:
            batch: the first examples of a split, as stored.
            rows: predictions of all examples.
            class_names: in the order of the labels.
        """
        return {"images": batch["image"]} | shown(rows, len(batch["label"]), class_names)

    def details(self, rows: Predictions, class_names: Sequence[str]) -> dict[str, Any]:
        """Return the calibration error in per cent, and by class the error and the examples."""
        return details(rows, class_names)


def classification(config: Any) -> Classification:
    """Return the task of a run's config (``task: classification``)."""
    train, data = config.train, config.data
    return Classification(
        operations=tuple(build(operation) for operation in config.augment),
        normalise=Normalise(tuple(data.mean), tuple(data.std)),
        example_loss=losses.loss_of(train.loss, train.label_smoothing, train.target_threshold),
    )


def shown(rows: Predictions, count: int, class_names: Sequence[str]) -> dict[str, Any]:
    """Return the predictions of the first examples, and what is told of all.

    That is the confusion matrix, and which of them are right.

    Args:
        rows: predictions of all examples.
        count: of examples that are shown.
        class_names: in the order of the labels.
    """
    return {
        "labels": rows["label"][:count],
        "predictions": rows["prediction"][:count],
        "confidences": rows["confidence"][:count],
        "class_names": tuple(class_names),
        "confusion": confusion(rows, len(class_names)),
        "correct": np.asarray(rows["correct"], bool),
    }


def mixes_examples(task: Any) -> bool:
    """Return whether a task's augmentation mixes neighbours in a batch."""
    return mixes(getattr(task, "operations", ()))


def answers(outputs: losses.Logits, label: Int32[Array, " batch"]) -> dict[str, Array]:
    """Return what is kept of each answer, see `Classification.predict`."""
    return {
        "loss": losses.cross_entropy(outputs, label),
        "correct": losses.in_top(outputs, label, 1),
        "correct_top5": losses.in_top(outputs, label, 5),
        "prediction": outputs.argmax(axis=-1).astype(jnp.int32),
        "confidence": jax.nn.softmax(outputs).max(axis=-1),
        "label": label,
    }


# --- numbers of every example's predictions ------------------------------------------------------


def errors(rows: Predictions) -> dict[str, float | int]:
    """Return mean loss and errors, see `Classification.summarise`."""
    unanswered = int((~answered(rows)).sum())
    return {
        "loss": float(np.mean(rows["loss"], dtype=np.float64)),
        "error": percent_wrong(rows["correct"]),
        "error_top5": percent_wrong(rows["correct_top5"]),
    } | ({"n_unanswered": unanswered} if unanswered else {})


def percent_wrong(correct: Float32[np.ndarray, " n"]) -> float:
    """Return the error in per cent."""
    return 100.0 * (1.0 - float(np.mean(correct, dtype=np.float64)))


def answered(rows: Predictions) -> Bool[np.ndarray, " n"]:
    """Return where the scores are finite; other predictions count as wrong."""
    return np.isfinite(rows["confidence"])


def calibration_error(rows: Predictions, bins: int = 15) -> float | None:
    """Return the expected calibration error in per cent; None if scores are not finite.

    Guo et al. 2017 (arXiv:1706.04599), equation 3: the mean difference between confidence and
    accuracy over bins of equal width, weighted by their numbers of examples.
    """
    if not answered(rows).all():
        return None
    confidence = rows["confidence"]
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(which, rows["correct"].astype(np.float64) - confidence, bins)
    return 100.0 * float(np.abs(gaps).sum()) / len(confidence)


def error_by_class(rows: Predictions, classes: int) -> list[float | None]:
    """Return each class's error in per cent; None without examples."""
    counts = np.bincount(rows["label"], minlength=classes)
    right = np.bincount(rows["label"], rows["correct"], minlength=classes)
    return [
        100.0 * (1.0 - float(r) / int(n)) if n else None for r, n in zip(right, counts, strict=True)
    ]


def details(rows: Predictions, class_names: Sequence[str]) -> dict[str, Any]:
    """Return what `deeper evaluate` tells besides: calibration, and each class's error.

    Args:
        rows: every example's predictions.
        class_names: in the order of the labels.
    """
    counts = np.bincount(rows["label"], minlength=len(class_names)).tolist()
    by_class = error_by_class(rows, len(class_names))
    return {
        "calibration_error": calibration_error(rows),
        "error_by_class": dict(zip(class_names, by_class, strict=True)),
        "n_by_class": dict(zip(class_names, counts, strict=True)),
    }


def confusion(rows: Predictions, classes: int) -> Int32[np.ndarray, "classes classes"]:
    """Return counts of (true class, predicted class), without predictions that are not finite."""
    counts = np.zeros((classes, classes), np.int32)
    known = answered(rows)
    np.add.at(counts, (rows["label"][known], rows["prediction"][known]), 1)
    return counts


def mean_over_views(
    logits_of: Callable[[Any], Any], views: Shaped[Array, "views batch height width channels"]
) -> Float[Array, "batch classes"]:
    """Return the logarithm of the mean softmax over views, computed one view at a time.

    Args:
        logits_of: images -> logits.
        views: several views of each image.
    """
    each = jax.lax.map(lambda images: jax.nn.log_softmax(logits_of(images)), views)
    return jax.nn.logsumexp(each, axis=0) - jnp.log(len(views))
