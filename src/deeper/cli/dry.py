"""``mode=dry``: what the runs of a sweep would cost, in one table; no data are needed."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from deeper.cli import build, device
from deeper.cli.build import Plan
from deeper.cli.main import FINISHED
from deeper.data.catalogue import CATALOGUE
from deeper.data.sources import known_size
from deeper.inspect.arithmetic import Summary, summarise
from deeper.models import cpu

GIGA, GIB = 1e9, 2**30
PASSES = 3  # forward, and the gradients by activations and by parameters
TOLD = ("model", "model.depth", "seed")  # overrides that are in a run's label, or a column


@dataclass
class Cost:
    """What a run would cost.

    Attributes:
        name: label of the run, and what tells it from the others.
        recipe: its name, or empty.
        runs: seeds of it.
        plan: the run.
        images: that go through the net in training, all views counted.
        memory: bytes on one device: parameters, gradients, the optimizer's and the averages, and
            what the images of a step keep for the backward pass; the compiler's own come on top.
        hours: on each accelerator.
    """

    name: str
    recipe: str
    runs: int
    plan: Plan
    images: int
    memory: int
    hours: dict[str, float]


def train_size(config: DictConfig) -> int:
    """Return the examples that a run trains on, as far as that is known without the data."""
    data = config.data
    if data.examples is not None:
        return int(data.examples)
    size = known_size(data.name, "train", Path(data.dir))
    if data.keep_classes is not None and data.name in CATALOGUE:
        size = size * len(data.keep_classes) // CATALOGUE[data.name].classes
    size -= data.validation
    return size if data.limit is None else min(size, int(data.limit))


@cpu.turned_off()
def cost(
    config: DictConfig, label: str, known: dict[str, Summary], runs: int = 1, devices: int = 1
) -> Cost:
    """Work out what a run would cost; the net is traced with shapes alone.

    Args:
        config: the composed config.
        label: of the run.
        known: nets counted before, by their configs; this one is added.
        runs: of this config.
        devices: that share a step's images.
    """
    net = (config.model, config.data.image_shape, OmegaConf.select(config, "transfer.truncate_at"))
    key = json.dumps([_plain(part) for part in net])
    if key not in known:
        known[key] = summarise(build.build_model(config), tuple(config.data.image_shape))
    plan = build.make_plan(config, train_size(config), known[key])
    summary, settings = plan.summary, plan.settings
    views = 1 if config.train.consistency is None else 1 + 2 * config.train.consistency.ratio
    images = settings.steps * settings.batch_size * views
    rows = math.ceil(settings.batch_size * views / settings.accumulate / devices)
    copies = 2 + memories(plan) + (settings.ema_decay is not None)
    flops = 2.0 * PASSES * summary.macs * images
    dtype, utilisation = config.train.dtype, config.mode.utilisation
    return Cost(
        name=label,
        recipe=config.recipe.name if config.recipe else "",
        runs=runs,
        plan=plan,
        images=images,
        memory=round(4 * copies * summary.parameters) + rows * summary.residual_bytes,
        hours={
            name: flops / (peak[dtype] * utilisation) / 3600
            for name, peak in config.mode.peaks.items()
        },
    )


def memories(plan: Plan) -> float:
    """Return how many values the optimizer keeps for each parameter."""
    one = {"layer": {"kernel": jax.ShapeDtypeStruct((256, 256), jnp.float32)}}
    kept = jax.tree.leaves(jax.eval_shape(plan.phases[0].optimizer.init, one))
    return sum(leaf.size for leaf in kept if leaf.ndim) / 256**2


def _plain(part: Any) -> Any:
    return OmegaConf.to_container(part, resolve=True) if OmegaConf.is_config(part) else part


def run(configs: Sequence[DictConfig], overrides: Sequence[Sequence[str]]) -> int:
    """Print what a sweep would cost and return its exit status; see `costs_of`."""
    device.start_jax(configs[0].train.cpu_kernels)
    show(costs_of(configs, overrides), configs[0], Console(width=100, highlight=False))
    return FINISHED


def costs_of(configs: Sequence[DictConfig], overrides: Sequence[Sequence[str]]) -> list[Cost]:
    """Return the cost of each different run of a sweep; seeds are counted together.

    Args:
        configs: composed, with Hydra's section.
        overrides: of each, from which the names are made.
    """
    names = _names(configs, overrides)
    first = {name: names.index(name) for name in names}
    known: dict[str, Summary] = {}
    frozen = {name: build.frozen(configs[n], configs[n].hydra) for name, n in first.items()}
    return [cost(config, name, known, runs=names.count(name)) for name, config in frozen.items()]


def _names(configs: Sequence[DictConfig], overrides: Sequence[Sequence[str]]) -> list[str]:
    """Return each run's label, and the values in which the runs differ besides."""
    given = [dict(one.split("=", 1) for one in some if "=" in one) for some in overrides]
    keys = dict.fromkeys(key for one in given for key in one if key not in TOLD)
    differing = [key for key in keys if len({one.get(key) for one in given}) > 1]
    names = []
    for config, one in zip(configs, given, strict=True):
        label = build.label_of(config, config.hydra)
        more = [one[key] for key in differing if one.get(key) not in (None, label)]
        names.append(" ".join([label, *more]))
    return names


def show(costs: Sequence[Cost], config: DictConfig, console: Console) -> None:
    """Print the table, its total, and what it assumes."""
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    accelerators = list(config.mode.peaks)
    table.add_column("\nnet", min_width=12)
    with_recipes = any(one.recipe for one in costs)
    if with_recipes:
        table.add_column("\nrecipe", no_wrap=True)
    heads = (
        "\nruns", "million\nparam.", "giga-\nMACs", "\nbatch", "thousand\nsteps",
        "million\nimages", "\nGiB",
    )  # fmt: skip
    for heading in (*heads, *(f"hours\n{name}" for name in accelerators)):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in costs:
        summary, settings = one.plan.summary, one.plan.settings
        table.add_row(
            one.name,
            *([one.recipe] if with_recipes else []),
            str(one.runs),
            f"{summary.parameters / 1e6:.2f}",
            _short(summary.macs / GIGA),
            f"{settings.batch_size:,}",
            _short(settings.steps / 1e3),
            _short(one.images / 1e6),
            f"{one.memory / GIB:.1f}" if one.memory > 0.05 * GIB else "<0.1",
            *(_hours(one.hours[name]) for name in accelerators),
        )
    total = {name: sum(one.runs * one.hours[name] for one in costs) for name in accelerators}
    blank = [""] * (len(heads) - 1 + with_recipes)
    table.add_section()
    table.add_row(
        "all runs",
        *([""] if with_recipes else []),
        str(sum(one.runs for one in costs)),
        *blank[with_recipes:],
        *(_hours(total[name]) for name in accelerators),
    )
    console.print(table)
    console.print(assumptions(config), style="dim")


def assumptions(config: DictConfig) -> str:
    """Say in words how the figures come about."""
    dtype = config.train.dtype
    peaks = ", ".join(f"{name} {peak[dtype] / 1e12:g}" for name, peak in config.mode.peaks.items())
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
