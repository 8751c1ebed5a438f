"""Exact evaluation: every example of a split once, padding masked, sums taken on the host.

The devices answer example by example; what is added up, and in which order, is the same on any
number of devices.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Float32, Int32, Shaped, UInt8

from deeper.train import losses, parallel
from deeper.train.feed import Feed

Normalise = Callable[
    [UInt8[Array, "batch height width channels"]], Float[Array, "batch height width channels"]
]


@dataclass(frozen=True)
class Split:
    """What is evaluated.

    Attributes:
        name: train, validation or test.
        feed: its batches, in the split's order, the last one padded.
        size: its number of examples.
        batches: its number of batches.
    """

    name: str
    feed: Feed
    size: int
    batches: int


@dataclass(frozen=True)
class Evaluation:
    """What a net does on a split, example by example, in the split's order.

    Attributes:
        loss: cross-entropy in nats, without label smoothing.
        correct: whether the first answer is right.
        correct_top5: whether the label is among the first five.
        prediction: the first answer.
        confidence: its probability.
        label: the true class.
    """

    loss: Float32[np.ndarray, " n"]
    correct: Float32[np.ndarray, " n"]
    correct_top5: Float32[np.ndarray, " n"]
    prediction: Int32[np.ndarray, " n"]
    confidence: Float32[np.ndarray, " n"]
    label: Int32[np.ndarray, " n"]

    @property
    def answered(self) -> Bool[np.ndarray, " n"]:
        """Whether the net's scores are numbers: NaN and infinity are no answer, and wrong."""
        return np.isfinite(self.confidence)

    def metrics(self, split: str) -> dict[str, float | int]:
        """Means over the split, errors in per cent, by names such as ``test/error``.

        ``test/n_unanswered`` is there only where scores were NaN or infinite; the loss is NaN then.
        """

        def percent_wrong(correct):
            return 100.0 * (1.0 - float(np.mean(correct, dtype=np.float64)))

        unanswered = int((~self.answered).sum())
        return {
            f"{split}/loss": float(np.mean(self.loss, dtype=np.float64)),
            f"{split}/error": percent_wrong(self.correct),
            f"{split}/error_top5": percent_wrong(self.correct_top5),
            f"{split}/n_seen": len(self.label),
        } | ({f"{split}/n_unanswered": unanswered} if unanswered else {})

    def calibration_error(self, bins: int = 15) -> float | None:
        """Return the expected calibration error in per cent; None if answers are no numbers.

        Guo et al. 2017 (arXiv:1706.04599), equation 3: the mean distance between confidence and
        share of right answers, over bins of equal width, by their numbers of examples.
        """
        if not self.answered.all():
            return None
        which = np.clip(np.ceil(self.confidence * bins).astype(int) - 1, 0, bins - 1)
        gaps = np.bincount(which, self.correct.astype(np.float64) - self.confidence, bins)
        return 100.0 * float(np.abs(gaps).sum()) / len(self.label)

    def error_by_class(self, classes: int) -> list[float | None]:
        """Return each class's error in per cent; None where it has no examples."""
        counts = np.bincount(self.label, minlength=classes)
        right = np.bincount(self.label, self.correct, minlength=classes)
        return [100.0 * (1.0 - r / n) if n else None for r, n in zip(right, counts, strict=True)]

    def confusion(self, classes: int) -> Int32[np.ndarray, "classes classes"]:
        """Counts of (true class, answer); what has no answer is left out."""
        counts = np.zeros((classes, classes), np.int32)
        np.add.at(counts, (self.label[self.answered], self.prediction[self.answered]), 1)
        return counts


class Evaluator:
    """Compiled evaluation of a net on any split.

    Args:
        model: the net.
        normalise: stored images -> what the net takes.
        mesh: the devices.
        form: see `parallel.parallelise`.
        take: a feed's ``take``; every split that is evaluated has to use the same.
        batches_per_call: how many batches one compiled call works off.
        views: stored images -> several views of each, whose probabilities are averaged; None for
            the images as they are.
    """

    def __init__(
        self,
        model: nn.Module,
        normalise: Normalise,
        mesh: Mesh,
        form: parallel.Form,
        take: Callable[[Any, Any], dict[str, jax.Array]],
        batches_per_call: int,
        views: Callable[[Any], Float[Array, "views batch height width channels"]] | None = None,
    ):
        def logits_of(variables, images) -> Any:
            def answer(one):
                return model.apply(variables, normalise(one), train=False)

            return answer(images) if views is None else mean_answer(answer, views(images))

        def one_batch(variables, batch):
            logits = logits_of(variables, batch["image"])
            mask = batch["mask"].astype(jnp.float32)
            rows = jnp.column_stack([facts_of(logits, batch["label"]), mask])
            return jax.lax.all_gather(rows, parallel.DATA_AXIS, tiled=True)

        def many_batches(variables, source, feed, count):
            def batch_of(number):
                return take(source, jax.tree.map(lambda leaf: leaf[number], feed))

            capacity, rows = jax.tree.leaves(feed)[0].shape[:2]
            rows *= jax.lax.axis_size(parallel.DATA_AXIS)
            return jax.lax.fori_loop(
                0,
                count,
                lambda i, out: out.at[i].set(one_batch(variables, batch_of(i))),
                jnp.zeros((capacity, rows, len(FACTS) + 1)),
            )

        self._call = parallel.parallelise(many_batches, mesh, form, donate_first=False)
        self._capacity = batches_per_call

    def __call__(
        self,
        variables: Any,
        split: Split,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Evaluation:
        """Evaluate a split.

        Args:
            variables: params and batch_stats.
            split: what to evaluate.
            progress: told of (batches done, batches in all).

        Raises:
            RuntimeError: the feed did not deliver every example exactly once.
        """
        parts = []
        for first in range(0, split.batches, self._capacity):
            count = min(self._capacity, split.batches - first)
            feed = split.feed.steps(first, count, self._capacity)
            answers = self._call(variables, split.feed.source, feed, np.int32(count))
            parts.append(np.asarray(answers)[:count].reshape(-1, len(FACTS) + 1))
            progress(first + count, split.batches)
        *facts, mask = np.concatenate(parts).T
        rows = np.stack(facts, axis=-1)[mask > 0]
        if len(rows) != split.size:
            raise RuntimeError(
                f"evaluation of {split.name} saw {len(rows)} of {split.size} examples"
            )
        return evaluation_of(rows)


FACTS = ("loss", "correct", "correct_top5", "prediction", "confidence", "label")


def mean_answer(
    answer: Callable[[Any], Any], seen: Shaped[Array, "views batch height width channels"]
) -> Float[Array, "batch classes"]:
    """Return the logarithm of the mean over views of the softmax, a view at a time.

    Args:
        answer: images -> logits.
        seen: several views of each image.
    """
    each = jax.lax.map(lambda images: jax.nn.log_softmax(answer(images)), seen)
    return jax.nn.logsumexp(each, axis=0) - jnp.log(len(seen))


def facts_of(
    logits: Float[Array, "batch classes"], label: Int32[Array, " batch"]
) -> Float[Array, "batch facts"]:
    """Return what is kept of each answer: a row of `FACTS`."""
    found = {
        "loss": losses.cross_entropy(logits, label),
        "correct": losses.in_top(logits, label, 1),
        "correct_top5": losses.in_top(logits, label, 5),
        "prediction": logits.argmax(axis=-1).astype(jnp.float32),
        "confidence": jax.nn.softmax(logits).max(axis=-1),
        "label": label.astype(jnp.float32),
    }
    return jnp.stack([found[name] for name in FACTS], axis=-1)


def evaluation_of(rows: Float[np.ndarray, "n facts"]) -> Evaluation:
    """Return rows of `FACTS` by name."""
    found = dict(zip(FACTS, rows.T, strict=True))
    whole_numbers = {name: found.pop(name).astype(np.int32) for name in ("prediction", "label")}
    return Evaluation(**found, **whole_numbers)
