"""Calibration of class probabilities: reliability, Brier score, and the temperature.

Guo et al. 2017, "On calibration of modern neural networks" (arXiv:1706.04599).
"""

from typing import Any

import numpy as np
from jaxtyping import Float64, Int
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from deeper.tasks.classification import calibration_error

BINS = 15  # of equal width, as in the paper
RANGE = 100.0  # temperatures from 1/RANGE to RANGE

Scores = Float64[np.ndarray, "n classes"]
Labels = Int[np.ndarray, " n"]


def fit_temperature(scores: Scores, labels: Labels) -> float:
    """Return the temperature that the scores are divided by for the least mean loss.

    Args:
        scores: logits, or their logarithms of probabilities, of examples that are not trained on.
        labels: true classes.
    """

    def loss(log_temperature: float) -> float:
        return mean_loss(scores / np.exp(log_temperature), labels)

    ends = (-np.log(RANGE), np.log(RANGE))
    return float(np.exp(minimize_scalar(loss, bounds=ends, method="bounded").x))


def mean_loss(scores: Scores, labels: Labels) -> float:
    """Return the mean cross-entropy in nats."""
    return -float(log_softmax(scores, axis=1)[np.arange(len(labels)), labels].mean())


def brier_score(scores: Scores, labels: Labels) -> float:
    """Return the mean squared distance of the probabilities from the true class's vector.

    Brier 1950, the original definition: the sum over the classes, 0 to 2.
    """
    distance = np.exp(log_softmax(scores, axis=1))
    distance[np.arange(len(labels)), labels] -= 1
    return float((distance**2).sum(axis=1).mean())


def measures(scores: Scores, labels: Labels) -> dict[str, Any]:
    """Return loss, Brier score, calibration error in per cent, and the reliability diagram.

    The diagram has ``BINS`` bins of equal width, open at the left: ``n``, the mean ``confidence``
    and the ``accuracy`` of each; null where a bin is empty.
    """
    logarithms = log_softmax(scores, axis=1)
    confidence = np.exp(logarithms.max(axis=1))
    correct = (scores.argmax(axis=1) == labels).astype(float)
    which = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    count = np.bincount(which, minlength=BINS)

    def means(values: np.ndarray) -> list[float | None]:
        sums = np.bincount(which, values, BINS)
        return [float(s / n) if n else None for s, n in zip(sums, count, strict=True)]

    rows = {"confidence": confidence, "correct": correct}
    return {
        "loss": mean_loss(scores, labels),
        "brier": brier_score(scores, labels),
        "calibration_error": calibration_error(rows, BINS),
        "bins": {"n": count.tolist(), "confidence": means(confidence), "accuracy": means(correct)},
    }
