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

from deeper.cli.terminal import open_console, tables
from deeper.config.identity import run_directory
from deeper.data.catalogue import CATALOGUE
from deeper.data.dataset import known_size
from deeper.errors import ExitCode
from deeper.kernels import cpu_dispatch
from deeper.profile.macs import Summary, summarise
from deeper.run import build, dataset, device
from deeper.run.build import Plan
from deeper.study.checks import MEASURED, METRICS, check_base, check_names
from deeper.study.definition import Study
from deeper.study.hypothesis_tests import reach
from deeper.study.read_runs import Run
from deeper.study.values import of_overrides

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
    own = dataset.is_own_folder(data)
    size = known_size(data.name, "train", Path(data.dir), own=own)
    if data.keep_classes is not None and data.name in CATALOGUE and not own:
        size = size * len(data.keep_classes) // CATALOGUE[data.name].classes
    size -= data.validation
    return size if data.limit is None else min(size, int(data.limit))


@cpu_dispatch.turned_off()
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
    console = open_console()
    configs, overrides = different(configs, overrides)
    costs = costs_of(configs, overrides)
    show(costs, configs[0], console)
    for line in decidable(configs, _names(configs, overrides), costs):
        console.print(line)
    return ExitCode.FINISHED


def decidable(
    configs: Sequence[DictConfig], names: Sequence[str], costs: Sequence[Cost]
) -> list[str]:
    """Say of each test of a sweep's study what its runs, all finished, could decide.

    Args:
        configs: composed, with Hydra's section.
        names: of their runs.
        costs: of each different name.
    """
    if configs[0].study is None:
        return []
    plans = {one.name: one.plan for one in costs}
    runs = []
    for config, name in zip(configs, names, strict=True):
        frozen = build.frozen(config, config.hydra)
        facts = build.facts(frozen, plans[name])
        runs.append(Run(Path(name), "finished", build.plain_config(frozen), facts))
    study = Study.of(runs[0].config["study"])
    check_names(study, runs, (*MEASURED, *METRICS))
    check_base(study, runs)
    lines = []
    for test in study.tests:
        found = reach(test, runs, study)
        lines.append(f"- {test['claim']} {found.test[:1].upper()}{found.test[1:]}: {found.words}.")
    return ["\nWhat these runs can decide, at the 5 % level:", *lines] if lines else []


def costs_of(configs: Sequence[DictConfig], overrides: Sequence[Sequence[str]]) -> list[Cost]:
    """Return the cost of each different run of a sweep; seeds are counted together.

    Args:
        configs: composed, with Hydra's section.
        overrides: of each, from which the names are made.
    """
    configs, overrides = different(configs, overrides)
    names = _names(configs, overrides)
    first = {name: names.index(name) for name in names}
    known: dict[str, Summary] = {}
    frozen = {name: build.frozen(configs[n], configs[n].hydra) for name, n in first.items()}
    return [cost(config, name, known, runs=names.count(name)) for name, config in frozen.items()]


def different(
    configs: Sequence[DictConfig], overrides: Sequence[Sequence[str]]
) -> tuple[list[DictConfig], list[Sequence[str]]]:
    """Return the configs of different runs with their overrides: a value spelled twice is one."""
    runs: dict[Path, tuple[DictConfig, Sequence[str]]] = {}
    for config, given in zip(configs, overrides, strict=True):
        frozen = build.plain_config(build.frozen(config, config.hydra))
        runs.setdefault(run_directory(frozen), (config, given))
    return [config for config, _ in runs.values()], [given for _, given in runs.values()]


def _names(configs: Sequence[DictConfig], overrides: Sequence[Sequence[str]]) -> list[str]:
    """Return each run's label, and the values in which the runs differ besides."""
    given = [of_overrides([*some]) for some in overrides]
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
    accelerators = list(config.mode.peaks)
    with_recipes = any(one.recipe for one in costs)
    heads = (
        "\nnet", *(["\nrecipe"] if with_recipes else []),
        "\nruns", "million\nparam.", "giga-\nMACs", "\nbatch", "thousand\nsteps",
        "million\nimages", "\nGiB", *(f"hours\n{name}" for name in accelerators),
    )  # fmt: skip
    rows = [
        (
            one.name,
            *([one.recipe] if with_recipes else []),
            str(one.runs),
            f"{one.plan.summary.parameters / 1e6:.2f}",
            _short(one.plan.summary.macs / GIGA),
            f"{one.plan.settings.batch_size:,}",
            _short(one.plan.settings.steps / 1e3),
            _short(one.images / 1e6),
            f"{one.memory / GIB:.1f}" if one.memory > 0.05 * GIB else "<0.1",
            *(_hours(one.hours[name]) for name in accelerators),
        )
        for one in costs
    ]
    total = {name: sum(one.runs * one.hours[name] for one in costs) for name in accelerators}
    all_runs = (
        "all runs",
        *([""] if with_recipes else []),
        str(sum(one.runs for one in costs)),
        *[""] * 6,
        *(_hours(total[name]) for name in accelerators),
    )
    left = 2 if with_recipes else 1
    for table in tables(heads, [*rows, all_runs], console.width, left=left, padding=1, totals=1):
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
