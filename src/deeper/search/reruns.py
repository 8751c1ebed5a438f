"""Reruns of a search's winner and of its baseline, with seeds that the search did not use.

The winner's validation metric is the best of many, and so too good; its test metric was not looked
at. What is published are these reruns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from deeper.config.identity import run_directory
from deeper.config.schema import LARGEST_SEED, RunConfig
from deeper.config.search_section import SearchSection
from deeper.errors import UserError
from deeper.record.schema import EXAMPLES, RunRecord, nested, read_run
from deeper.search.definition import RERUNS, words_of
from deeper.search.journal import Trial
from deeper.search.trials import Search
from deeper.study.intervals import Interval, over_examples, over_folds, over_seeds
from deeper.sweep.claim import Arm

WINNER, BASELINE = "winner", "baseline"


def draws_of(base: RunConfig, section: SearchSection) -> list[list[str]]:
    """Return the overrides in which the reruns of one config differ.

    Raises:
        UserError: there are no folds, or no further seeds.
    """
    first = base.seed + 1
    if section.interval == "folds":
        folds = nested(base.plain(), "data.folds")
        if folds is None:
            raise UserError("search.interval=folds: give data.folds, the number of parts.")
        return [[f"seed={first}", f"data.fold={fold}"] for fold in range(folds)]
    if first + section.fresh > LARGEST_SEED:
        raise UserError(
            f"seed={base.seed}: the reruns take the seeds after it; give a smaller one."
        )
    return [[f"seed={seed}"] for seed in range(first, first + section.fresh)]


def arms_of_reruns(
    search: Search, best: Trial, draws: Sequence[Sequence[str]]
) -> dict[str, list[Arm]]:
    """Return the arms of winner and baseline."""
    values = {WINNER: words_of(best.values), BASELINE: []}
    return {
        name: [_arm(search, name, [*words, *draw]) for draw in draws]
        for name, words in values.items()
    }


def _arm(search: Search, name: str, more: Sequence[str]) -> Arm:
    words, config = search.definition.config(*more)
    fold = nested(config.plain(), "data.fold")
    which = f"s{config.seed}" if fold is None else f"s{config.seed} fold {fold}"
    directory = search.directory / RERUNS / run_directory(config.plain()).name
    return Arm(f"{name} {which}", directory, config, words)


@dataclass(frozen=True)
class Rerun:
    """What the reruns say about a metric on the test split.

    Attributes:
        metric: the metric.
        values: winner and baseline -> value of each run, in the order of the draws.
        intervals: winner, baseline and difference -> intervals, each with its name.
    """

    metric: str
    values: dict[str, list[float]]
    intervals: dict[str, list[Interval]]

    def plain(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "metric": self.metric,
            "values": self.values,
            "intervals": {name: list(map(vars, some)) for name, some in self.intervals.items()},
        }


def read_reruns(search: Search, arms: dict[str, list[Arm]], section: SearchSection) -> Rerun | None:
    """Return what the reruns say; None as long as one of them is not finished."""
    metric = search.definition.metric.replace("validation/", "test/", 1)
    runs = {name: [read_run(arm.directory) for arm in some] for name, some in arms.items()}
    found = {name: [run.number(metric) for run in some] for name, some in runs.items()}
    values = {name: [x for x in some if x is not None] for name, some in found.items()}
    if any(len(values[name]) < len(some) for name, some in runs.items()):
        return None
    over = over_folds if section.interval == "folds" else over_seeds
    pairs = zip(values[WINNER], values[BASELINE], strict=True)
    intervals = {name: [over(some)] for name, some in values.items()}
    intervals["difference"] = [over([a - b for a, b in pairs])]
    if section.interval == "seeds" and metric == "test/error":
        winner, baseline = _wrong(runs[WINNER]), _wrong(runs[BASELINE])
        if winner is not None and baseline is not None:
            intervals[WINNER].append(over_examples(winner))
            intervals[BASELINE].append(over_examples(baseline))
            intervals["difference"].append(over_examples(winner - baseline))
    return Rerun(metric, values, intervals)


def _wrong(runs: Sequence[RunRecord]) -> Float[np.ndarray, "runs n"] | None:
    """Return 100 where a run's answer to a test example is wrong; None if that is not recorded."""
    rows = []
    for run in runs:
        try:
            with np.load(run.path / EXAMPLES, allow_pickle=False) as archive:
                rows.append(100.0 * ~archive["correct"])
        except (OSError, KeyError, ValueError):
            return None
    return np.stack(rows)
