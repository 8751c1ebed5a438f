"""Classification of sequences: texts, sounds, DNA; one class an example, or several labels.

The data set has one column of sequences, whose name the task is told, and ``label``: int32 (n,), or
(n, labels) of 0 and 1 for several labels. Losses and numbers are those of `classification`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from deeper.augment import crops_and_colour, policies, policy_base, timm_randaugment
from deeper.augment.mixing import CutMix, OneOf
from deeper.augment.pipeline import augment, mixes
from deeper.config.instantiate import build
from deeper.errors import UserError
from deeper.tasks import classification
from deeper.tasks.classification import AUGMENT, Predictions
from deeper.tasks.task import Batch, Keys, Rows
from deeper.train import losses

LABEL = "label"
ON_FEATURES = 1 << 16  # folded into the key of operations on features; those on stored count from 0
# Modules of operations on images, some of which would change sequences, too, but wrongly.
OF_IMAGES = frozenset(
    one.__name__ for one in (crops_and_colour, policies, policy_base, timm_randaugment)
)


@dataclass(frozen=True)
class SequenceClassification:
    """One class a sequence.

    Attributes:
        column: of the sequences.
        operations: the augmentation, on sequences as stored; those with a true attribute
            ``on_features`` after the features, on what the net takes.
        features: stored sequences -> what the net takes.
        example_loss: of each example, see `losses.loss_of`.
    """

    column: str
    operations: Sequence[Any]
    features: Callable[[Any], Any]
    example_loss: losses.Loss
    metric: str = "error"
    less_is_better: bool = True
    percent: tuple[str, ...] = ("error",)
    streams: Mapping[str, int] = field(default_factory=dict)

    def inputs(self, keys: Keys, rows: Rows, batch: Batch, train: bool) -> tuple[Any, Any, Rows]:
        """Return augmented sequences as the net takes them, and labels or shares of the classes."""
        sequences, targets = batch[self.column], batch.get(LABEL)
        if train:
            return *_augmented(self, keys, rows, sequences, targets), rows
        return self.features(sequences), targets, rows

    def loss(
        self, outputs: losses.Logits, targets: losses.Targets, progress: Float[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Return the mean loss in nats, and with it the error as a share."""
        del progress
        loss = self.example_loss(outputs, targets).mean()
        return loss, {"loss": loss, "error": losses.wrong(outputs, targets).mean()}

    def predict(self, outputs: losses.Logits, batch: Batch) -> dict[str, Array]:
        """Return what classification keeps of each answer; of two classes the second's score too.

        The score is the difference of the logits.
        """
        kept = classification.answers(outputs, batch[LABEL])
        if outputs.shape[-1] != 2:
            return kept
        return kept | {"score": outputs[:, 1] - outputs[:, 0]}

    def summarise(self, rows: Predictions) -> dict[str, float | int]:
        """Return classification's numbers and the macro F1; of two classes AUROC and AUPRC."""
        numbers = classification.errors(rows) | {"macro_f1": macro_f1(rows)}
        if "score" not in rows:
            return numbers
        return numbers | ranking(rows["score"][:, None], rows["label"][:, None])

    def examples(
        self, batch: Batch, rows: Predictions, class_names: Sequence[str]
    ) -> dict[str, Any]:
        """Return what `Classification.examples` does, with ``inputs`` in place of ``images``."""
        return {"inputs": batch[self.column]} | classification.shown(
            rows, len(batch[LABEL]), class_names
        )

    def details(self, rows: Predictions, class_names: Sequence[str]) -> dict[str, Any]:
        """Return the calibration error in per cent, and by class the error and the examples."""
        return classification.details(rows, class_names)

    def probabilities(self, outputs: losses.Logits) -> Float[Array, "batch classes"]:
        """Return the softmax."""
        return jax.nn.softmax(outputs)


@dataclass(frozen=True)
class MultiLabelSequences:
    """Several labels a sequence, each there or not.

    Attributes:
        column: of the sequences.
        operations: the augmentation, on sequences as stored; those with a true attribute
            ``on_features`` after the features, on what the net takes.
        features: stored sequences -> what the net takes.
    """

    column: str
    operations: Sequence[Any]
    features: Callable[[Any], Any]
    metric: str = "auprc"
    less_is_better: bool = False
    percent: tuple[str, ...] = ("error",)
    streams: Mapping[str, int] = field(default_factory=dict)

    def inputs(self, keys: Keys, rows: Rows, batch: Batch, train: bool) -> tuple[Any, Any, Rows]:
        """Return augmented sequences as the net takes them, and which labels are there."""
        sequences, targets = batch[self.column], batch.get(LABEL)
        if train:
            return *_augmented(self, keys, rows, sequences, targets), rows
        return self.features(sequences), targets, rows

    def loss(
        self,
        outputs: Float[Array, "batch labels"],
        targets: Float[Array, "batch labels"],
        progress: Float[Array, ""],
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Return the mean binary cross-entropy in nats, and the share of wrong labels."""
        del progress
        loss = losses.binary_cross_entropy(outputs, targets).mean()
        wrong = ((outputs > 0) != (targets > 0.5)).astype(jnp.float32).mean()
        return loss, {"loss": loss, "error": wrong}

    def predict(self, outputs: Float[Array, "batch labels"], batch: Batch) -> dict[str, Array]:
        """Return each label's logit, whether it is there, and the loss in nats."""
        present = batch[LABEL]
        return {
            "loss": losses.binary_cross_entropy(outputs, present),
            "score": outputs,
            "present": present,
        }

    def summarise(self, rows: Predictions) -> dict[str, float | int]:
        """Return loss, wrong labels in per cent, and the means over labels of AUROC and AUPRC."""
        wrong = (rows["score"] > 0) != (rows["present"] > 0)
        return {
            "loss": float(np.mean(rows["loss"], dtype=np.float64)),
            "error": 100.0 * float(np.mean(wrong, dtype=np.float64)),
            **ranking(rows["score"], rows["present"]),
        }

    def details(self, rows: Predictions, class_names: Sequence[str]) -> dict[str, Any]:
        """Return each label's AUROC and AUPRC, and how often it is there."""
        by_label = [
            ranking(rows["score"][:, [i]], rows["present"][:, [i]]) for i in range(len(class_names))
        ]
        counts = rows["present"].astype(np.int64).sum(axis=0).tolist()
        return {
            "auroc_by_class": {n: one["auroc"] for n, one in zip(class_names, by_label)},
            "auprc_by_class": {n: one["auprc"] for n, one in zip(class_names, by_label)},
            "n_by_class": dict(zip(class_names, counts, strict=True)),
        }

    def probabilities(self, outputs: Any) -> Float[Array, "batch labels"]:
        """Return each label's probability by itself."""
        return jax.nn.sigmoid(outputs)


def _augmented(
    task: "SequenceClassification | MultiLabelSequences",
    keys: Keys,
    rows: Rows,
    sequences: Any,
    targets: Any,
) -> tuple[Any, Any]:
    """Return what the net takes, augmented as stored and then as features, and the targets."""
    for operation in task.operations:
        if type(operation).__module__ in OF_IMAGES or isinstance(operation, CutMix | OneOf):
            raise UserError(
                f"{type(operation).__name__} is an operation on images, and these are sequences: "
                "choose another augment=NAME."
            )
    operations = [op for op in task.operations if not getattr(op, "on_features", False)]
    if mixes(operations) and (sequences.ndim == 2 or targets.ndim == 2):
        raise UserError(
            "Mixup and CutMix mix values and classes: neither tokens nor several labels can be "
            "mixed. Choose another augment=NAME."
        )
    sequences, targets = augment(operations, keys(AUGMENT), rows, sequences, targets)
    on_features = [op for op in task.operations if getattr(op, "on_features", False)]
    key = jax.random.fold_in(keys(AUGMENT), ON_FEATURES)
    features, _ = augment(on_features, key, rows, task.features(sequences), targets)
    return features, targets


def sequence_classification(
    config: Any,
    column: str,
    features: Callable[[Any], Any] | None = None,
    several_labels: bool = False,
) -> SequenceClassification | MultiLabelSequences:
    """Return the task that a run's config states (a file of ``conf/task``).

    Args:
        config: the run's.
        column: of the sequences.
        features: stored sequences -> what the net takes; by default as they are.
        several_labels: each label is there or not, independent of the others.
    """
    train = config.train
    operations = tuple(build(operation) for operation in config.augment)
    to_net = features or _as_they_are
    if several_labels:
        return MultiLabelSequences(column, operations, to_net)
    loss = losses.loss_of(train.loss, train.label_smoothing, train.target_threshold)
    return SequenceClassification(column, operations, to_net, loss)


def _as_they_are(sequences: Any) -> Any:
    return sequences


# --- numbers of every example's predictions ------------------------------------------------------


def macro_f1(rows: Predictions) -> float:
    """Return the mean over the classes that occur of F1, 0 to 1; no answer is a wrong one."""
    labels = rows["label"]
    given = np.where(classification.answered(rows), rows["prediction"], -1)
    scores = []
    for one in np.unique(labels):
        both = int(((labels == one) & (given == one)).sum())
        scores.append(2.0 * both / (int((labels == one).sum()) + int((given == one).sum())))
    return float(np.mean(scores))


def ranking(scores: np.ndarray, present: np.ndarray) -> dict[str, float]:
    """Return the means over labels of the areas under the ROC and precision-recall curves.

    AUPRC is the average precision. A label that is there in all or in no examples has neither and
    is left out of the mean; where none is left, or scores are no numbers, both are NaN.

    Args:
        scores: (n, labels), larger where the label is likelier.
        present: (n, labels), 0 or 1.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    present = np.asarray(present) > 0
    ranked = [i for i in range(present.shape[1]) if 0 < present[:, i].sum() < len(present)]
    if not ranked or not np.isfinite(scores).all():
        return {"auroc": float("nan"), "auprc": float("nan")}
    return {
        "auroc": float(np.mean([roc_auc_score(present[:, i], scores[:, i]) for i in ranked])),
        "auprc": float(
            np.mean([average_precision_score(present[:, i], scores[:, i]) for i in ranked])
        ),
    }
