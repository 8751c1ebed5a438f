"""The cost of the runs of a sweep in one table."""

import math
from collections.abc import Sequence

from rich.console import Console

from deeper.config.schema import RunConfig
from deeper.display.terminal import tables
from deeper.run.cost import GIB
from deeper.sweep.planned_costs import Row

GIGA = 1e9


def print_costs(rows: Sequence[Row], config: RunConfig, console: Console) -> None:
    """Print the table, its total, and the assumptions."""
    accelerators = list(config.mode.peaks or {})
    with_recipes = any(row.recipe for row in rows)
    heads = (
        "\nnet", *(["\nrecipe"] if with_recipes else []),
        "\nruns", "million\nparam.", "giga-\nMACs", "\nbatch", "thousand\nsteps",
        "million\nexamples", "\nGiB", *(f"hours\n{name}" for name in accelerators),
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
    """Return the assumptions of the table as text."""
    dtype = config.train.dtype
    each = (config.mode.peaks or {}).items()
    peaks = ", ".join(f"{name} {peak[dtype] / 1e12:g}" for name, peak in each)
    return (
        f"A run's hours on one device: 6 FLOP a MAC and example at {config.mode.utilisation:.0%} "
        f"(assumed: mode.utilisation) of the peak in {dtype} ({peaks} TFLOP/s, data sheets); "
        "reading data, evaluation and compilation are left out. GiB on one device that takes the "
        "whole batch: parameters, gradients, the optimizer's memory and averages, and the "
        "activations kept for the backward pass; the compiler's own buffers come on top."
    )


def _short(value: float) -> str:
    """Return a number with three significant digits, or all digits before the decimal point."""
    if value >= 100 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"


def _hours(value: float) -> str:
    return "<0.01" if value < 0.005 else f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"
