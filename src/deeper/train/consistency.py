"""Learning from unlabelled images: two views of each have to get the same answer.

Unsupervised data augmentation (Xie et al. 2019, arXiv:1904.12848): the answer to a weakly augmented
view, made sharper and held fixed, is the target for a strongly augmented one; only confident
answers count; and labelled examples that the net is sure of already are left out for a while
(training signal annealing). FixMatch (Sohn et al. 2020, arXiv:2001.07685) is the same with the
class of the answer as the target.
"""

from dataclasses import dataclass
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from deeper.errors import UserError
from deeper.rows import numbered_rows
from deeper.train import losses, parallel
from deeper.train.phase import Phase
from deeper.train.state import State
from deeper.train.step import (
    AUGMENT,
    DROPOUT,
    STRONG,
    WEAK,
    Batch,
    Prepare,
    Step,
    random_key,
    updated,
)

Logits = Float[Array, "batch classes"]

CONSISTENCY_METRICS = ("loss", "error", "consistency", "confident", "learnt_from")


@dataclass(frozen=True)
class Consistency:
    """How unlabelled images enter the loss; the defaults are those of google-research/uda.

    Attributes:
        ratio: unlabelled images for each labelled one in a batch.
        weight: of the unlabelled images' loss beside the labelled ones'.
        temperature: the target is softmax(logits / temperature); below 1 it is sharper. Of no
            meaning for hard targets.
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
        if self.ratio < 1:
            raise UserError(f"train.consistency.ratio={self.ratio}: give at least 1.")
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
        """Return each image's loss, zero where the answer is not confident, and which counted."""
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
        """Return the probability up to which labelled examples count, at a share of the run."""
        share = {
            "none": jnp.ones_like(progress),
            "linear": progress,
            "log": 1.0 - jnp.exp(-5.0 * progress),
            "exp": jnp.exp(5.0 * (progress - 1.0)),
        }[self.annealing]
        return share * (1.0 - 1.0 / classes) + 1.0 / classes


def make_consistency_step(
    model: nn.Module,
    phase: Phase,
    prepare: Prepare,
    views: tuple[Prepare, Prepare],
    consistency: Consistency,
    *,
    steps: int,
    loss: losses.Loss,
    ema_decay: float | None,
) -> Step:
    """Return the step for labelled and unlabelled images.

    Its batches have ``unlabelled`` images beside the labelled ones. All views go through the net
    together, so that BatchNorm sees both kinds at once, as in UDA's code.

    Args:
        model: the net.
        phase: what of it trains, and the optimizer.
        prepare: labelled images as stored -> augmented, see `step.make_step`.
        views: the same for the weak and the strong view of unlabelled images.
        consistency: how the unlabelled images enter the loss.
        steps: length of the run, for the annealing.
        loss: of each labelled image, see `losses.loss_of`.
        ema_decay: decay a step of the moving averages, or None where the run keeps none.

    Returns:
        The step. Metrics: loss in nats and error as a share, of the labelled images; the
        unlabelled images' loss; the shares of unlabelled images that were confident and of
        labelled ones that were learnt from.
    """
    apply = phase.apply_of(model)

    def loss_of(params, batch_stats, rows, images, labels, progress, dropout_key):
        with numbered_rows(rows):
            logits, changed = apply(
                {"params": params, "batch_stats": batch_stats},
                images,
                train=True,
                rngs={"dropout": dropout_key},
                mutable=["batch_stats", "auxiliary"],
            )
        labelled, weak, strong = jnp.split(
            logits, [len(labels), len(labels) * (1 + consistency.ratio)]
        )
        supervised = loss(labelled, labels)
        keep, kept = jnp.ones_like(supervised), jnp.float32(len(labels))
        if consistency.annealing != "none":
            sure = jnp.exp(-losses.cross_entropy(labelled, labels))
            limit = consistency.threshold(progress, logits.shape[-1])
            keep = jax.lax.stop_gradient(sure <= limit).astype(jnp.float32)
            # Over all devices, or the weight of an example would depend on its device; at least 1.
            kept = jnp.maximum(parallel.mean_over_devices(keep.sum()), 1.0 / parallel.devices())
        unlabelled, confident = consistency.unlabelled_loss(weak, strong)
        total = (supervised * keep).sum() / kept + consistency.weight * unlabelled.mean()
        metrics = {
            "loss": supervised.mean(),
            "error": losses.wrong(labelled, labels).mean(),
            "consistency": unlabelled.mean(),
            "confident": confident.mean(),
            "learnt_from": keep.mean(),
        }
        return total, (changed.get("batch_stats", {}), metrics)

    def step(state: State, batch: Batch):
        rows = parallel.first_row(len(batch["label"])) + jnp.arange(len(batch["label"]))
        images, labels = prepare(random_key(state, AUGMENT), rows, batch["image"], batch["label"])
        without_label = batch["unlabelled"]
        others = parallel.first_row(len(without_label)) + jnp.arange(len(without_label))
        nothing: Int[Array, " batch"] = jnp.zeros(len(without_label), jnp.int32)
        weak, strong = (
            view(random_key(state, purpose), others, without_label, nothing)[0]
            for view, purpose in zip(views, (WEAK, STRONG), strict=True)
        )
        # In the net's global batch the weak views follow all labelled images, then the strong ones.
        beyond, all_others = (parallel.devices() * len(part) for part in (labels, others))
        grads, (batch_stats, metrics) = jax.grad(loss_of, has_aux=True)(
            state.params,
            state.batch_stats,
            jnp.concatenate([rows, beyond + others, beyond + all_others + others]),
            jnp.concatenate([images, weak, strong]),
            labels,
            state.step / steps,
            random_key(state, DROPOUT),
        )
        return updated(state, grads, batch_stats, metrics, phase, ema_decay)

    return step
