"""Means with intervals, and paired comparisons over seeds.

Intervals are Student's t at 95 %. Two arms are compared by the differences of runs with the same
seed (a paired t test), since runs of one seed share the order of the data and the held-out split.
With two seeds such a test can hardly ever decide; that is said, not hidden.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from deeper.study.collect import Run

LEVEL = 0.95


@dataclass(frozen=True)
class Mean:
    """A mean over seeds.

    Attributes:
        n: values.
        mean: their mean.
        half_width: of the 95 % interval; None for a single value.
    """

    n: int
    mean: float
    half_width: float | None

    def __str__(self) -> str:
        """Write as ``13.21 ± 0.40``."""
        spread = "" if self.half_width is None else f" ± {self.half_width:.2f}"
        return f"{self.mean:.2f}{spread}"


def mean_of(values: Sequence[float]) -> Mean:
    """Return the mean and the half width of its 95 % t interval."""
    n = len(values)
    mean = float(np.mean(values))
    if n < 2:
        return Mean(n, mean, None)
    error = float(np.std(values, ddof=1)) / math.sqrt(n)
    return Mean(n, mean, float(stats.t.ppf(0.5 + LEVEL / 2, n - 1)) * error)


@dataclass(frozen=True)
class Comparison:
    """What the runs say of one claim that an arm's metric is lower than another's.

    Attributes:
        claim: in words.
        verdict: supported, contradicted, leaning for, leaning against, or open.
        words: the numbers behind it.
        differences: worse minus better, a seed each.
    """

    claim: str
    verdict: str
    words: str
    differences: tuple[float, ...]


def compare(test: Mapping[str, Any], runs: Sequence[Run], metric: str) -> Comparison:
    """Compare two arms over the seeds that both have.

    Args:
        test: claim, and facts of the results that pick the ``better`` and the ``worse`` arm.
        runs: finished runs.
        metric: the smaller the better.
    """
    better, worse = _by_seed(test["better"], runs, metric), _by_seed(test["worse"], runs, metric)
    seeds = sorted(better.keys() & worse.keys())
    if not seeds:
        return Comparison(test["claim"], "open", "not both arms have a finished run", ())
    differences = tuple(worse[seed] - better[seed] for seed in seeds)
    summary = mean_of(differences)
    each = ", ".join(f"{d:+.2f}" for d in differences)
    words = f"difference {summary.mean:+.2f} points over {len(seeds)} seeds ({each})"
    one_sign = all(d > 0 for d in differences) or all(d < 0 for d in differences)
    sided = (
        ("supported", "leaning for") if summary.mean > 0 else ("contradicted", "leaning against")
    )
    if summary.half_width is None:
        return Comparison(
            test["claim"],
            sided[1],
            f"{words}; a single seed cannot be tested",
            differences,
        )
    low, high = summary.mean - summary.half_width, summary.mean + summary.half_width
    if np.std(differences, ddof=1) == 0:
        p = 0.0 if summary.mean else 1.0
    else:
        p = float(stats.ttest_1samp(differences, 0.0).pvalue)
    words += f", 95 % interval {low:+.2f} to {high:+.2f}, paired t test p = {p:.3f}"
    if p < 1 - LEVEL:
        verdict = sided[0]
    elif one_sign:
        verdict = sided[1]
        words += "; every seed agrees, but there are too few for the interval to leave out zero"
    else:
        verdict = "open"
        words += "; the seeds disagree"
    return Comparison(test["claim"], verdict, words, differences)


def _by_seed(facts: Mapping[str, Any], runs: Sequence[Run], metric: str) -> dict[int, float]:
    return {
        run.seed: float(run.value(metric))
        for run in runs
        if run.seed is not None and all(run.value(key) == value for key, value in facts.items())
    }


def verdict(comparisons: Sequence[Comparison], complete: bool) -> str:
    """Put the comparisons together into one sentence."""
    kinds = [comparison.verdict for comparison in comparisons]
    note = "" if complete else " The study is not complete: see what is missing below."
    if not kinds:
        return "The study states no test, so the figures have to speak for themselves." + note
    if all(kind == "supported" for kind in kinds):
        return "The numbers support the claim: every test does so at the 95 % level." + note
    if any(kind in ("contradicted", "leaning against") for kind in kinds):
        count = sum(kind in ("contradicted", "leaning against") for kind in kinds)
        return (
            f"The numbers do not support the claim as it stands: {count} of {len(kinds)} tests "
            f"point the other way.{note}"
        )
    if all(kind in ("supported", "leaning for") for kind in kinds):
        count = kinds.count("supported")
        return (
            f"The numbers agree with the claim in every seed; {count} of {len(kinds)} tests reach "
            f"the 95 % level, the others need more seeds to do so.{note}"
        )
    return (
        "It cannot be told yet: " + f"{kinds.count('open')} of {len(kinds)} tests are open.{note}"
    )
