"""Multi-label classification with one sigmoid per label, measured by mean average precision."""

from dataclasses import dataclass, field

import jax
import numpy as np
import optax

SHIFT = 100  # purpose of a random key


@dataclass(frozen=True)
class MultiLabel:
    """Which of several classes are present.

    Attributes:
        shift: largest shift of a signal in training, in positions.
    """

    shift: int
    metric: str = "mean_average_precision"
    less_is_better: bool = False
    percent: tuple[str, ...] = ()
    streams: dict[str, int] = field(default_factory=dict)

    def inputs(self, keys, rows, batch, train):
        """Shift each signal by a random number of positions."""
        signals = batch["signal"]
        if train:
            each = jax.vmap(jax.random.fold_in, (None, 0))(keys(SHIFT), rows)
            places = jax.vmap(lambda key: jax.random.randint(key, (), 0, self.shift + 1))(each)
            signals = jax.vmap(lambda row, by: jax.numpy.roll(row, by, axis=0))(signals, places)
        return signals, batch["present"], rows

    def loss(self, outputs, targets, progress):
        """Binary cross-entropy, mean over examples and labels."""
        del progress
        loss = optax.sigmoid_binary_cross_entropy(outputs, targets).mean()
        return loss, {"loss": loss, "wrong": ((outputs > 0) != (targets > 0)).mean()}

    def predict(self, outputs, batch):
        """Return every score and every label."""
        return {"score": outputs, "present": batch["present"]}

    def summarise(self, rows):
        """Return each label's average precision and their mean."""
        by_label = [
            average_precision(score, present)
            for score, present in zip(rows["score"].T, rows["present"].T, strict=True)
        ]
        numbers = {f"average_precision_{i}": value for i, value in enumerate(by_label)}
        return {self.metric: float(np.mean(by_label)), **numbers}


def average_precision(score: np.ndarray, present: np.ndarray) -> float:
    """Return the average precision: the mean precision at the ranks of the examples with the
    label.
    """
    order = np.argsort(-score, kind="stable")
    hits = present[order] > 0
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())
