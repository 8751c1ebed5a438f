"""The tests that decide a study's claims; `verdict` puts what they say together.

Runs of one seed share the order of the data and the held-out split, so comparisons are between
runs of the same seed. There are three, all two-sided at the 5 % level:

- Two arms over seeds: Student's paired t test (Student 1908, "The probable error of a mean").
  Errors are multiples of 1 / (test images), so that all differences may be the same; there is no
  spread to measure a mean by then, and no test is made.
- Two lines over several depths: each (seed, depth) gives a pair. If the lines were the same, either
  run of a pair could as well have been the better one, so every pattern of signs of the differences
  is as likely as the one seen; p is the share of patterns whose mean is at least as far from zero
  (Fisher 1935, "The Design of Experiments", section 21). Nothing is assumed of how the differences
  are distributed or how they depend on depth; the claim is about the mean over these depths.
- A trend with depth: Page's L (Page 1963, "Ordered hypotheses for multiple treatments", JASA 58),
  seeds as blocks. If depth did not matter, every ranking of the depths within a seed would be as
  likely. It asks for a tendency, not for a rise at each single step.

The last two have a least p that a number of runs can give at all, see `reach`.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import special

from deeper.record.schema import RunRecord
from deeper.study.checks import chosen, unmatched
from deeper.study.definition import Study
from deeper.study.means import LEVEL, Mean, mean_of
from deeper.study.metrics import in_words, less_is_better, name_of
from deeper.study.read_runs import Collection

SUPPORTED, CONTRADICTED, OPEN = "supported", "contradicted", "inconclusive"
NO_SPREAD = 1e-9  # points; what is left of equal differences of errors by rounding is less
EXACT_PAIRS = 16  # as many pairs as all patterns of signs are tried of
SAMPLED_PATTERNS = 100_000
MOST_SEEDS = 30  # above that, no number of seeds is recommended


@dataclass(frozen=True)
class Finding:
    """What the runs say of one of a study's tests.

    Attributes:
        claim: in words.
        verdict: supported, contradicted (the opposite is significant) or inconclusive.
        words: the numbers behind it.
        p: of the test; None where there was none.
        favours: whether the runs lean the way of the claim.
    """

    claim: str
    verdict: str
    words: str
    p: float | None = None
    favours: bool = True


@dataclass(frozen=True)
class Reach:
    """What a test can come to at all with so many runs.

    Attributes:
        test: in words, with the number of runs.
        least_p: the smallest p that it can give, 0 where any can come; None where the runs are too
            few for the test.
        words: what that means for a study.
    """

    test: str
    least_p: float | None
    words: str

    @property
    def can_decide(self) -> bool:
        """Whether any outcome is significant."""
        return self.least_p is not None and self.least_p < 1 - LEVEL


def reach(test: Mapping[str, Any], runs: Sequence[RunRecord], study: Study) -> Reach:
    """Say what a test of a study could come to if all of these runs were finished.

    Args:
        test: as of `examine`.
        runs: that there will be; their metrics are not looked at.
        study: that the test is of.
    """
    cells = _cells(test, runs, study.x, lambda run: 0.0, 1)
    if test.get("trend"):
        seeds, xs = _full_block(cells)
        name = f"Page's trend test, {_seeds(len(seeds))} at {len(xs)} values of {study.x}"
        if len(seeds) < 2:
            return Reach(name, None, "it takes two seeds and three values")
        return _reach(name, least_trend_p(len(seeds), len(xs)))
    seeds = sorted({seed for seed, _ in cells})
    if len({x for _, x in cells}) > 1:
        name = f"sign-flip test, {len(cells)} pairs of runs"
        if len(seeds) < 2:
            return Reach(name, None, "it takes two seeds")
        return _reach(name, least_sign_flip_p(len(cells)))
    n = len(cells)
    name = f"paired t test, {_seeds(n)}"
    if n < 2:
        return Reach(name, None, "it takes two seeds")
    times = float(special.stdtrit(n - 1, 0.5 + LEVEL / 2)) / math.sqrt(n)
    return Reach(
        name,
        0.0,
        f"decides where the mean difference is {times:.1f} times its standard deviation over seeds",
    )


def _reach(name: str, least: float) -> Reach:
    words = f"the least p that it can give is {least:.2g}"
    return Reach(name, least, words if least < 1 - LEVEL else f"{words}: it can decide nothing")


def _seeds(n: int) -> str:
    return f"{n} seed{'' if n == 1 else 's'}"


def least_sign_flip_p(pairs: int) -> float:
    """Return the smallest p of `sign_flip`: all differences have one sign."""
    return 2 / 2**pairs if pairs <= EXACT_PAIRS else 1 / (SAMPLED_PATTERNS + 1)


def least_trend_p(seeds: int, values: int) -> float:
    """Return the smallest two-sided p of Page's test: every seed has the same order."""
    from scipy import stats  # takes a second, and a run needs none of it

    ordered = np.tile(np.arange(values), (seeds, 1))
    return min(1.0, 2 * float(stats.page_trend_test(ordered).pvalue))


def examine(test: Mapping[str, Any], collection: Collection) -> Finding:
    """Carry out one test of a study, by itself; `findings` corrects for the number of them.

    Args:
        test: a claim, and either ``better`` and ``worse``, each a choice of runs by facts of their
            results (``{residual: true, depth: 44}``), or ``among``, a choice, with ``trend``,
            ``rises`` or ``falls``. Choices that hold several x compare run by run at each x; with
            ``trend`` it is the gap between worse and better that rises or falls. ``metric`` is the
            study's unless stated.
        collection: the study's runs.
    """
    study = collection.study
    metric = test.get("metric", study.metric)
    sign = 1 if less_is_better(metric, collection.finished) else -1
    cells = _cells(test, collection.finished, study.x, lambda run: run.number(metric), sign)
    x_name = (study.x_label or study.x).split(" (")[0]
    percent = study.unit == " (%)" and name_of(metric) == name_of(study.metric)
    unit = " points" if percent else ""  # of a difference
    if collection.complete and (words := unmatched(test, collection.finished)):
        return Finding(test["claim"], OPEN, words)
    if test.get("trend"):
        return _trend(test, cells, x_name, in_words(metric))
    if not cells:
        return Finding(test["claim"], OPEN, "no seed has a finished run of both")
    if len({x for _, x in cells}) > 1:
        return _over_pairs(test["claim"], cells, x_name, unit)
    return _over_seeds(test["claim"], {seed: value for (seed, _), value in cells.items()}, unit)


def examine_all(collection: Collection) -> tuple[Finding, ...]:
    """Carry out a study's tests; of several, those in the other direction are corrected by Holm."""
    findings = [examine(test, collection) for test in collection.study.tests]
    against = [1.0 if f.p is None or f.favours else f.p for f in findings]
    return tuple(
        _corrected(finding, p, len(findings)) if alone < 1 - LEVEL and p > alone else finding
        for finding, p, alone in zip(findings, holm(against), against, strict=True)
    )


def _corrected(finding: Finding, p: float, tests: int) -> Finding:
    words = f"{finding.words}, against the claim; {_p(p)} corrected for {tests} tests (Holm)"
    return replace(finding, verdict=_verdict(p, -1.0), words=words)


def holm(ps: Sequence[float]) -> list[float]:
    """Return p corrected for their number by Holm's step-down method, in the same order."""
    ps = [1.0 if math.isnan(p) else p for p in ps]
    corrected = [1.0] * len(ps)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[place]))
        corrected[place] = highest
    return corrected


Cells = dict[tuple[int, Any], float]  # (seed, x) -> a metric, or a difference of two


def _cells(
    test: Mapping[str, Any],
    runs: Sequence[RunRecord],
    x: str,
    number: Callable[[RunRecord], float | None],
    sign: int,
) -> Cells:
    """Return a number of a test's runs, or by how much the better side is better, by seed and x.

    The sign is 1 where less of the number is better, else -1.
    """
    values = {id(run): number(run) for run in runs}
    there = [run for run in runs if values[id(run)] is not None]

    def cells(side: str) -> Cells:
        found = chosen(test, side, there, x)
        return {key: value for key, run in found.items() if (value := values[id(run)]) is not None}

    if "among" in test:
        return cells("among")
    better, worse = cells("better"), cells("worse")
    return {key: sign * (worse[key] - better[key]) for key in sorted(better.keys() & worse.keys())}


def _over_seeds(claim: str, differences: Mapping[int, float], unit: str) -> Finding:
    """Student's paired t test over seeds."""
    values = list(differences.values())
    summary = mean_of(values)
    each = ", ".join(_signed(value) for value in values)
    if summary.std is None:
        return Finding(
            claim,
            OPEN,
            f"difference {each}{unit} with a single seed: no test is possible, a second seed is "
            "the least",
        )
    if not summary.std > NO_SPREAD:
        return Finding(
            claim,
            OPEN,
            f"all {summary.n} seeds have the difference {_signed(summary.mean)}{unit}: without a "
            "spread there is no t test; further seeds, or a larger test set, may show one",
        )
    from scipy import stats

    p = float(stats.ttest_1samp(values, 0.0).pvalue)
    words = (
        f"difference {_signed(summary.mean)}{unit} over {summary.n} seeds ({each}), "
        f"{_interval(summary)}paired t test {_p(p)}"
    )
    verdict = _verdict(p, summary.mean)
    if verdict == OPEN:
        words += f"; {_agreement(values)}"
        needed = _seeds_needed(summary)
        if needed:
            words += f"; if mean and spread stay as they are, about {needed} seeds would decide"
    return Finding(claim, verdict, words, p, summary.mean >= 0)


def _interval(summary: Mean) -> str:
    if summary.half_width is None:
        return ""
    low, high = summary.mean - summary.half_width, summary.mean + summary.half_width
    return f"95 % interval {_signed(low)} to {_signed(high)}, "


def _seeds_needed(summary: Mean) -> int | None:
    """Return the least n whose t interval would leave out zero at this mean and deviation."""
    if not summary.std:
        return None
    n = np.arange(summary.n + 1, MOST_SEEDS + 1)
    half_widths = special.stdtrit(n - 1, 0.5 + LEVEL / 2) * summary.std / np.sqrt(n)
    enough = n[half_widths < abs(summary.mean)]
    return int(enough[0]) if len(enough) else None


def _over_pairs(claim: str, cells: Cells, x_name: str, unit: str) -> Finding:
    """Fisher's test by signs over (seed, x) pairs."""
    values = np.array(list(cells.values()))
    seeds, xs = {seed for seed, _ in cells}, sorted({x for _, x in cells})
    mean = float(values.mean())
    at = ", ".join(
        f"{_signed(float(np.mean([v for (_, at), v in cells.items() if at == x])))} at {x}"
        for x in xs
    )
    words = (
        f"difference {_signed(mean)}{unit} on average over {len(values)} pairs of runs "
        f"(by {x_name}: {at}), in favour in {int((values > 0).sum())} of {len(values)}"
    )
    if len(seeds) < 2:
        return Finding(claim, OPEN, f"{words}; with a single seed no test is made")
    p, exact = sign_flip(values)
    least = _least(least_sign_flip_p(len(values)), f"{len(values)} pairs")
    words += f"; {'exact ' if exact else ''}sign-flip test {_p(p)} ({least})"
    return Finding(claim, _verdict(p, mean), words, p, mean >= 0)


def sign_flip(values: np.ndarray) -> tuple[float, bool]:
    """Return the two-sided p of differences (n,) under random signs, and whether it is exact."""
    n = len(values)
    exact = n <= EXACT_PAIRS
    if exact:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=n)))
    else:
        signs = np.random.default_rng(0).choice((-1.0, 1.0), size=(SAMPLED_PATTERNS, n))
    # The pattern seen counts as at least as far as itself, whatever its rounding.
    extreme = np.abs(signs @ values) >= abs(values.sum()) * (1 - 1e-9)
    if exact:
        return float(extreme.mean()), True
    return float((extreme.sum() + 1) / (len(signs) + 1)), False


def _trend(test: Mapping[str, Any], cells: Cells, x_name: str, name: str) -> Finding:
    """Page's L over the x of a line, seeds as blocks."""
    seeds, xs = _full_block(cells)
    rising = test["trend"] == "rises"
    claim = test["claim"]
    if len(xs) < 3:
        return Finding(
            claim, OPEN, f"a trend needs three or more values of {x_name} that the same seeds have"
        )
    table = np.array([[cells[seed, x] for x in xs] for seed in seeds])
    form = "{:+.2f}" if "among" not in test else "{:.2f}"
    means = ", ".join(form.format(m).replace("-", "−") for m in table.mean(0))
    what = name if "among" in test else "the gap"
    at = ", ".join(map(str, xs))
    of = f"means of {len(seeds)} seeds" if len(seeds) > 1 else "one seed"
    words = f"{what} at {x_name} {at}: {means} ({of})"
    left_out = [f"{x_name} {x}" for x in sorted({x for _, x in cells} - {*xs})]
    left_out += [f"seed {seed}" for seed in sorted({seed for seed, _ in cells} - {*seeds})]
    if left_out:
        words += f", leaving out {', '.join(left_out)}, where runs are missing"
    if len(seeds) < 2:
        return Finding(claim, OPEN, f"{words}; with a single seed no test is made")
    from scipy import stats

    up = float(stats.page_trend_test(table).pvalue)
    down = float(stats.page_trend_test(-table).pvalue)
    p = min(1.0, 2 * min(up, down))
    agrees = (up < down) == rising
    least = _least(least_trend_p(*table.shape), f"{_seeds(len(seeds))} at {len(xs)} values")
    words += f"; Page's trend test {_p(p)} ({least})"
    if not p < 1 - LEVEL:
        words += f", leaning {'that' if agrees else 'the other'} way"
    return Finding(claim, _verdict(p, 1.0 if agrees else -1.0), words, p, agrees)


def _full_block(cells: Cells) -> tuple[list[int], list[Any]]:
    """Return the seeds and x, as many as there are, whose every combination is there."""
    has = {seed: {x for s, x in cells if s == seed} for seed in sorted({s for s, _ in cells})}
    ranked = sorted(has, key=lambda seed: (-len(has[seed]), seed))
    best: tuple[list[int], list[Any]] = ([], [])
    for n in range(1, len(ranked) + 1):
        xs = sorted(set.intersection(*(has[seed] for seed in ranked[:n])))
        if len(xs) >= 3 and n * len(xs) >= len(best[0]) * len(best[1]):
            best = (ranked[:n], xs)
    return best


def _verdict(p: float, towards: float) -> str:
    if not p < 1 - LEVEL:  # NaN is no finding either
        return OPEN
    return SUPPORTED if towards > 0 else CONTRADICTED


def _agreement(values: Sequence[float]) -> str:
    positive = sum(value > 0 for value in values)
    if positive == len(values):
        return "every seed agrees with the claim, but with so few seeds that may be chance"
    if positive == 0:
        return "every seed contradicts the claim, but with so few seeds that may be chance"
    agree = "agrees" if positive == 1 else "agree"
    return f"{positive} of {len(values)} seeds {agree} with the claim"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _least(p: float, of: str) -> str:
    if p < 1 - LEVEL:
        return f"the least that {of} can give is {p:.2g}"
    return f"the least that {of} can give is {p:.2g}, so that they cannot decide"


def _p(p: float) -> str:
    # Spaces that do not break.
    return "p\u00a0<\u00a00.001" if p < 0.001 else f"p\u00a0=\u00a0{p:.3f}"
