"""The cost of the runs of a sweep, and the power of its tests, without data."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deeper.config.identity import run_directory
from deeper.config.schema import RunConfig
from deeper.profile.macs import Summary
from deeper.record.values import of_overrides
from deeper.run import build
from deeper.run.cost import Cost, cost_of
from deeper.study.checks import MEASURED, METRICS, unmatched
from deeper.study.hypothesis_tests import reach
from deeper.sweep.planned import check_runs, planned_run

IN_LABEL = (
    "model",
    "model.depth",
    "seed",
)  # in the label, or with a column


@dataclass(frozen=True)
class Row:
    """Runs of a sweep that differ only in the seed.

    Attributes:
        name: label of the runs, and the values in which they differ from others.
        recipe: its name, or empty.
        runs: number of runs.
        cost: cost of each run.
    """

    name: str
    recipe: str
    runs: int
    cost: Cost


def decidable(configs: Sequence[RunConfig], names: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """Return what each test of a sweep's study could decide if all runs finish.

    Args:
        configs: configs of the runs.
        names: names of the runs.
        rows: one row per name.
    """
    if configs[0].study is None:
        return []
    plans = {row.name: row.cost.plan for row in rows}
    runs = [
        planned_run(config, build.facts(config, plans[name]), name)
        for config, name in zip(configs, names, strict=True)
    ]
    study = check_runs(runs, (*MEASURED, *METRICS))
    lines = []
    for test in study.tests:
        power = reach(test, runs, study)
        lines.append(f"- {test['claim']} {power.test[:1].upper()}{power.test[1:]}: {power.words}.")
        if words := unmatched(test, runs):
            lines[-1] += f" {words[:1].upper()}{words[1:]}."
    return ["\nWhat these runs can decide, at the 5 % level:", *lines] if lines else []


def rows_of(configs: Sequence[RunConfig], overrides: Sequence[Sequence[str]]) -> list[Row]:
    """Return the cost of each distinct run of a sweep; seeds are grouped.

    Args:
        configs: configs of the runs.
        overrides: overrides of each, from which the names are made.
    """
    configs, overrides = different(configs, overrides)
    names = names_of(configs, overrides)
    known: dict[str, Summary] = {}
    rows = []
    for name in dict.fromkeys(names):
        config = configs[names.index(name)]
        recipe = config.recipe.name if config.recipe else ""
        rows.append(Row(name, recipe, names.count(name), cost_of(config, known)))
    return rows


def different(
    configs: Sequence[RunConfig], overrides: Sequence[Sequence[str]]
) -> tuple[list[RunConfig], list[Sequence[str]]]:
    """Return the configs of distinct runs with their overrides; 0.1 and 1e-1 are the same value."""
    runs: dict[Path, tuple[RunConfig, Sequence[str]]] = {}
    for config, words in zip(configs, overrides, strict=True):
        runs.setdefault(run_directory(config.plain()), (config, words))
    return [config for config, _ in runs.values()], [words for _, words in runs.values()]


def names_of(configs: Sequence[RunConfig], overrides: Sequence[Sequence[str]]) -> list[str]:
    """Return each run's label, and further values in which the runs differ."""
    settings = [of_overrides([*words]) for words in overrides]
    keys = dict.fromkeys(key for run in settings for key in run if key not in IN_LABEL)
    differing = [key for key in keys if len({run.get(key) for run in settings}) > 1]
    names = []
    for config, run in zip(configs, settings, strict=True):
        more = [run[key] for key in differing if run.get(key) not in (None, config.label)]
        names.append(" ".join([config.label, *more]))
    return names
