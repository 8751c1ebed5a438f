"""``mode=dry``: what the runs of a sweep would cost, in one table; no data are needed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from deeper.config.identity import run_directory
from deeper.config.schema import RunConfig
from deeper.display.terminal import open_console, tables
from deeper.errors import ExitCode
from deeper.profile.macs import Summary
from deeper.record.values import of_overrides
from deeper.run import build, device
from deeper.run.cost import GIB, Cost, cost_of
from deeper.study.checks import MEASURED, METRICS, unmatched
from deeper.study.hypothesis_tests import reach
from deeper.sweep.planned import check_runs, planned_run

GIGA = 1e9
IN_LABEL = ("model", "model.depth", "seed")  # overrides that are in a run's label, or a column


@dataclass(frozen=True)
class Row:
    """Runs of a sweep that differ in their seeds alone.

    Attributes:
        name: label of the runs, and what tells them from the others.
        recipe: its name, or empty.
        runs: how many there are.
        cost: of each.
    """

    name: str
    recipe: str
    runs: int
    cost: Cost


def run(configs: Sequence[RunConfig], overrides: Sequence[Sequence[str]]) -> int:
    """Print what a sweep would cost and return its exit status; see `rows_of`."""
    device.start_jax(configs[0].train.cpu_kernels)
    console = open_console()
    configs, overrides = different(configs, overrides)
    rows = rows_of(configs, overrides)
    show(rows, configs[0], console)
    for line in decidable(configs, _names(configs, overrides), rows):
        console.print(line)
    return ExitCode.FINISHED


def decidable(configs: Sequence[RunConfig], names: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """Say of each test of a sweep's study what its runs, all finished, could decide.

    Args:
        configs: of the runs.
        names: of the runs.
        rows: of each different name.
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
    """Return the cost of each different run of a sweep; seeds are counted together.

    Args:
        configs: of the runs.
        overrides: of each, from which the names are made.
    """
    configs, overrides = different(configs, overrides)
    names = _names(configs, overrides)
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
    """Return the configs of different runs with their overrides: a value spelled twice is one."""
    runs: dict[Path, tuple[RunConfig, Sequence[str]]] = {}
    for config, words in zip(configs, overrides, strict=True):
        runs.setdefault(run_directory(config.plain()), (config, words))
    return [config for config, _ in runs.values()], [words for _, words in runs.values()]


def _names(configs: Sequence[RunConfig], overrides: Sequence[Sequence[str]]) -> list[str]:
    """Return each run's label, and the values in which the runs differ besides."""
    settings = [of_overrides([*words]) for words in overrides]
    keys = dict.fromkeys(key for run in settings for key in run if key not in IN_LABEL)
    differing = [key for key in keys if len({run.get(key) for run in settings}) > 1]
    names = []
    for config, run in zip(configs, settings, strict=True):
        more = [run[key] for key in differing if run.get(key) not in (None, config.label)]
        names.append(" ".join([config.label, *more]))
    return names


def show(rows: Sequence[Row], config: RunConfig, console: Console) -> None:
    """Print the table, its total, and what it assumes."""
    accelerators = list(config.mode.peaks or {})
    with_recipes = any(row.recipe for row in rows)
    heads = (
        "\nnet", *(["\nrecipe"] if with_recipes else []),
        "\nruns", "million\nparam.", "giga-\nMACs", "\nbatch", "thousand\nsteps",
        "million\nimages", "\nGiB", *(f"hours\n{name}" for name in accelerators),
    )  # fmt: skip
    cells = [
        (
            row.name,
            *([row.recipe] if with_recipes else []),
            str(row.runs),
            f"{row.cost.plan.summary.parameters / 1e6:.2f}",
            _short(row.cost.plan.summary.macs / GIGA),
            f"{row.cost.plan.settings.batch_size:,}",
            _short(row.cost.plan.settings.steps / 1e3),
            _short(row.cost.images / 1e6),
            f"{row.cost.memory / GIB:.1f}" if row.cost.memory > 0.05 * GIB else "<0.1",
            *(_hours(row.cost.hours[name]) for name in accelerators),
        )
        for row in rows
    ]
    total = {name: sum(row.runs * row.cost.hours[name] for row in rows) for name in accelerators}
    all_runs = (
        "all runs",
        *([""] if with_recipes else []),
        str(sum(row.runs for row in rows)),
        *[""] * 6,
        *(_hours(total[name]) for name in accelerators),
    )
    left = 2 if with_recipes else 1
    for table in tables(heads, [*cells, all_runs], console.width, left=left, padding=1, totals=1):
        console.print(table)
    console.print(assumptions(config), style="dim")


def assumptions(config: RunConfig) -> str:
    """Say in words how the figures come about."""
    dtype = config.train.dtype
    each = (config.mode.peaks or {}).items()
    peaks = ", ".join(f"{name} {peak[dtype] / 1e12:g}" for name, peak in each)
    return (
        f"A run's hours on one device: 6 FLOP a MAC and image at {config.mode.utilisation:.0%} "
        f"(assumed: mode.utilisation) of the peak in {dtype} ({peaks} TFLOP/s, data sheets); "
        "reading data, evaluation and compilation are left out. GiB on one device that takes the "
        "whole batch: parameters, gradients, the optimizer's memory and averages, and the "
        "activations kept for the backward pass; the compiler's own buffers come on top."
    )


def _short(value: float) -> str:
    """Return a number with three digits that count, or all before the point."""
    if value >= 100 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"


def _hours(value: float) -> str:
    return "<0.01" if value < 0.005 else f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"
