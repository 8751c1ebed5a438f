"""Consistency training: two views of an unlabelled image should get the same prediction.

Unsupervised data augmentation (Xie et al. 2019, arXiv:1904.12848): the sharpened prediction for a
weakly augmented view, without gradient, is the target for a strongly augmented one; only confident
predictions count; and labelled examples that the net already predicts confidently are left out for
a while (training signal annealing). FixMatch (Sohn et al. 2020, arXiv:2001.07685) uses the
predicted class as the target.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from deeper.augment.pipeline import augment, mixes
from deeper.config.instantiate import build
from deeper.errors import UserError
from deeper.tasks.classification import Classification, classification
from deeper.tasks.task import Batch, Keys, Rows
from deeper.train import data_parallel, losses

WEAK, STRONG = 2, 3  # purposes of random keys, see `deeper.train.step`
UNLABELLED = "unlabelled"  # name of the stream of unlabelled images

Logits = Float[Array, "batch classes"]


@dataclass(frozen=True)
class Consistency:
    """How unlabelled images enter the loss; the defaults are those of google-research/uda.

    Attributes:
        ratio: unlabelled images for each labelled one in a batch.
        weight: weight of the unlabelled images' loss; that of the labelled ones has weight 1.
        temperature: the target is softmax(logits / temperature); below 1 it is sharper. Not used
            for hard targets.
        confidence: an unlabelled image counts where the weak view's best class has at least this
            probability.
        target: soft, the weak view's probabilities (UDA), or hard, its best class (FixMatch).
        annealing: none, linear, log or exp: how the probability up to which a labelled example
            counts goes from 1 / classes to 1 over the run (UDA's section 3.3).
    """

    ratio: int
    weight: float
    temperature: float
    confidence: float
    target: Literal["soft", "hard"]
    annealing: Literal["none", "linear", "log", "exp"]

    def __post_init__(self):
        """Check the values."""
        if not self.ratio >= 1:
            raise UserError(f"train.consistency.ratio={self.ratio}: give at least 1.")
        if not self.weight >= 0:
            raise UserError(f"train.consistency.weight={self.weight}: give 0 or more.")
        if not self.temperature > 0 or not 0 <= self.confidence < 1:
            raise UserError(
                f"train.consistency.temperature={self.temperature:g} confidence="
                f"{self.confidence:g}: give a temperature above 0 and a confidence from 0 to below "
                "1."
            )
        if self.target not in ("soft", "hard"):
            raise UserError(
                f"train.consistency.target={self.target} is unknown; choose soft or hard."
            )
        if self.annealing not in ("none", "linear", "log", "exp"):
            raise UserError(
                f"train.consistency.annealing={self.annealing} is unknown; choose none, linear, "
                "log or exp."
            )

    def unlabelled_loss(
        self, weak: Logits, strong: Logits
    ) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
        """Return each image's loss, zero for unconfident predictions, and which images counted."""
        weak = jax.lax.stop_gradient(weak)
        confident = (jax.nn.softmax(weak).max(axis=-1) >= self.confidence).astype(jnp.float32)
        if self.target == "hard":
            loss = losses.cross_entropy(strong, weak.argmax(axis=-1))
        else:
            target = jax.nn.log_softmax(weak / self.temperature)
            gap = target - jax.nn.log_softmax(strong)
            loss = (jnp.exp(target) * gap).sum(axis=-1)  # the Kullback-Leibler divergence
        return loss * confident, confident

    def threshold(self, progress: Float[Array, ""], classes: int) -> Float[Array, ""]:
        """Return the threshold of training signal annealing at a share of the run."""
        share = {
            "none": jnp.ones_like(progress),
            "linear": progress,
            "log": 1.0 - jnp.exp(-5.0 * progress),
            "exp": jnp.exp(5.0 * (progress - 1.0)),
        }[self.annealing]
        return share * (1.0 - 1.0 / classes) + 1.0 / classes


class Targets(NamedTuple):
    """The targets of a batch: its labels, whose number is that of the labelled examples."""

    labels: Int[Array, " batch"]


@dataclass(frozen=True)
class ConsistencyTraining:
    """Classification from labelled and unlabelled images.

    A training batch's ``unlabelled`` images are (B, ratio, H, W, C). All views go through the net
    together, labelled ones first, so that BatchNorm sees both kinds at once, as in UDA's code.

    Attributes:
        labelled: the task for labelled images and evaluation.
        weak: augmentation of the view whose prediction is the target.
        strong: augmentation of the view that is trained to agree with it.
        consistency: how unlabelled images enter the loss.
    """

    labelled: Classification
    weak: Sequence[Any]
    strong: Sequence[Any]
    consistency: Consistency
    percent: tuple[str, ...] = ("error",)

    def __post_init__(self) -> None:
        """Check that each image keeps one class."""
        if mixes(self.labelled.operations):
            raise UserError(
                "Mixup and CutMix cannot be had with train.consistency: labelled and unlabelled "
                "images go through the net together, each labelled one with one class."
            )

    @property
    def metric(self) -> str:
        """The metric of `labelled`."""
        return self.labelled.metric

    @property
    def less_is_better(self) -> bool:
        """As in `labelled`."""
        return self.labelled.less_is_better

    @property
    def streams(self) -> Mapping[str, int]:
        """Unlabelled images per labelled one."""
        return {UNLABELLED: self.consistency.ratio}

    def inputs(self, keys: Keys, rows: Rows, batch: Batch, train: bool) -> tuple[Any, Any, Rows]:
        """Return the labelled images, followed in training by both views of the unlabelled ones,
        and the labels.
        """
        images, labels, _ = self.labelled.inputs(keys, rows, batch, train)
        if not train:
            return images, None, rows
        ratio = self.consistency.ratio
        without_label = batch[UNLABELLED]["image"]
        without_label = without_label.reshape(-1, *without_label.shape[2:])
        their_rows = (rows[:, None] * ratio + jnp.arange(ratio)[None]).reshape(-1)
        no_labels: Int[Array, " batch"] = jnp.zeros(len(their_rows), jnp.int32)
        views = [
            augment(operations, keys(purpose), their_rows, without_label, no_labels)[0]
            for operations, purpose in ((self.weak, WEAK), (self.strong, STRONG))
        ]
        normalised = [self.labelled.normalise(view) for view in views]
        # Of each example's 1 + 2 * ratio inputs: the labelled one, the weak views, the strong ones.
        numbers = rows[:, None] * (1 + 2 * ratio) + jnp.arange(1 + 2 * ratio)[None]
        weak_and_strong = jnp.split(numbers, [1, 1 + ratio], axis=1)
        by_input = jnp.concatenate([part.reshape(-1) for part in weak_and_strong])
        return jnp.concatenate([images, *normalised]), Targets(labels), by_input

    def loss(
        self, outputs: Logits, targets: Targets, progress: Float[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Return the loss of both kinds of images.

        Metrics: loss in nats and error as a share, of the labelled images; the unlabelled images'
        loss; the shares of unlabelled images with confident predictions and of labelled ones that
        counted.
        """
        labels, consistency = targets.labels, self.consistency
        ends = [len(labels), len(labels) * (1 + consistency.ratio)]
        labelled, weak, strong = jnp.split(outputs, ends)
        supervised = self.labelled.example_loss(labelled, labels)
        keep, kept = jnp.ones_like(supervised), jnp.float32(len(labels))
        if consistency.annealing != "none":
            sure = jnp.exp(-losses.cross_entropy(labelled, labels))
            limit = consistency.threshold(progress, outputs.shape[-1])
            keep = jax.lax.stop_gradient(sure <= limit).astype(jnp.float32)
            # Summed over all devices, so that the weight of an example does not depend on its
            # device; at least 1.
            kept = jnp.maximum(
                data_parallel.mean_over_devices(keep.sum()), 1.0 / data_parallel.devices()
            )
        unlabelled, confident = consistency.unlabelled_loss(weak, strong)
        total = (supervised * keep).sum() / kept + consistency.weight * unlabelled.mean()
        return total, {
            "loss": supervised.mean(),
            "error": losses.wrong(labelled, labels).mean(),
            "consistency": unlabelled.mean(),
            "confident": confident.mean(),
            "learnt_from": keep.mean(),
        }

    def predict(self, outputs: Logits, batch: Batch) -> dict[str, Array]:
        """Return the predictions of `labelled`."""
        return self.labelled.predict(outputs, batch)

    def summarise(self, rows: Mapping[str, Any]) -> dict[str, float | int]:
        """Return the metrics of `labelled`."""
        return self.labelled.summarise(rows)

    def details(self, rows: Mapping[str, Any], class_names: Sequence[str]) -> dict[str, Any]:
        """Return classification's."""
        return self.labelled.details(rows, class_names)

    def examples(
        self, batch: Batch, rows: Mapping[str, Any], class_names: Sequence[str]
    ) -> dict[str, Any]:
        """Return the examples of `labelled`."""
        return self.labelled.examples(batch, rows, class_names)


def consistency_training(config: Any) -> ConsistencyTraining:
    """Return the task of a run's config (``task: consistency``)."""
    train = config.train
    views = {
        name: tuple(build(operation) for operation in getattr(train.views, name))
        for name in ("weak", "strong")
    }
    return ConsistencyTraining(
        labelled=classification(config),
        weak=views["weak"],
        strong=views["strong"],
        consistency=build(train.consistency),
    )
