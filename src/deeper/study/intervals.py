"""Intervals of a metric, each with its name: over seeds, over folds, over test examples.

They answer different questions. Over seeds: other draws of weights and order, on these test
examples. Over test examples: these trained nets, on other examples of the same kind. Over folds:
other examples in both training and test. None of them holds the others.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import special

from deeper.study.means import FEWEST, LEVEL, mean_of

RESAMPLES = 10_000


@dataclass(frozen=True)
class Interval:
    """An interval of a mean.

    Attributes:
        mean: the estimate.
        low: lower end.
        high: upper end.
        way: how it was made, in words.
    """

    mean: float
    low: float
    high: float
    way: str

    def __str__(self) -> str:
        """Return the ends, such as ``12.90 to 13.30``."""
        return f"{self.low:.2f} to {self.high:.2f}".replace("-", "−")


def over_seeds(values: Sequence[float]) -> Interval:
    """Return the 95 % t interval of a mean over seeds; of fewer than five seeds their range."""
    summary = mean_of(values)
    if summary.half_width is None:
        way = f"least and greatest of {summary.n} seeds"
        return Interval(summary.mean, min(values), max(values), way)
    low, high = summary.mean - summary.half_width, summary.mean + summary.half_width
    return Interval(summary.mean, low, high, f"95 % t interval over {summary.n} seeds")


def over_folds(values: Sequence[float]) -> Interval:
    """Return the corrected resampled t interval of a mean over all folds of a cross-validation.

    Training sets of folds overlap, so that the variance of the folds alone is too small: it is
    taken 1 / k + 1 / (k - 1) times in place of 1 / k (Nadeau and Bengio 2003, equation 9).

    Args:
        values: one a fold.
    """
    folds = len(values)
    mean = float(np.mean(values))
    if folds < FEWEST:
        return Interval(mean, min(values), max(values), f"least and greatest of {folds} folds")
    std = float(np.std(values, ddof=1))
    factor = float(special.stdtrit(folds - 1, 0.5 + LEVEL / 2))
    half = factor * std * math.sqrt(1 / folds + 1 / (folds - 1))
    way = f"95 % corrected resampled t interval over {folds} folds (Nadeau and Bengio 2003)"
    return Interval(mean, mean - half, mean + half, way)


def over_examples(scores: Float[np.ndarray, "runs n"], seed: int = 0) -> Interval:
    """Return the percentile bootstrap interval of a mean over test examples (Efron 1979).

    Args:
        scores: each run's score of each example, such as 100 where it was wrong; or differences
            between runs on the same examples, which makes it paired.
        seed: of the resampling.
    """
    values, counts = np.unique(np.mean(scores, axis=0, dtype=np.float64), return_counts=True)
    size = int(counts.sum())
    # Resampling n examples is drawing how often each of the different scores comes.
    rng = np.random.default_rng(seed)
    means = rng.multinomial(size, counts / size, RESAMPLES) @ values / size
    low, high = np.percentile(means, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    mean = float(values @ counts / size)
    way = f"95 % bootstrap over {size:,} test examples, {RESAMPLES:,} resamples"
    return Interval(mean, float(low), float(high), way)
