"""``deeper evaluate run=DIRECTORY``: a run's checkpoint on a split, every example once."""

import json
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from deeper.augment.views import PROTOCOLS, views
from deeper.cli import build, device, stored
from deeper.errors import UserError
from deeper.train.evaluate import Evaluator
from deeper.train.parallel import replicate


def run(config: DictConfig) -> None:
    """Evaluate a checkpoint and print, or write, its metrics."""
    path = Path(config.run)
    of_run = stored.config_of(path, "run")
    if config.batch_size is not None:
        of_run.train.batch_size = config.batch_size
    device.start_jax(of_run.train.cpu_kernels)
    mesh = device.mesh_of(of_run.train.devices)
    splits = build.open_splits(of_run)
    plan = build.make_plan(of_run, len(splits.train.labels))
    experiment = build.assemble(of_run, plan, splits, mesh)
    named = {split.name: split for split in (experiment.validation, *experiment.final) if split}
    if config.split not in named:
        raise UserError(f"split={config.split} is not there; this run has {', '.join(named)}.")
    weights = stored.open_stored(path, config.checkpoint, "run")
    split = named[config.split]
    evaluator = Evaluator(
        plan.model,
        experiment.normalise,
        mesh,
        plan.settings.parallel,
        experiment.final[0].feed.take,
        batches_per_call=min(16, split.batches),
        views=views(config.views, config.padding),
    )
    result = {
        "run": str(path),
        "step": weights.step,
        "split": config.split,
        "protocol": PROTOCOLS[config.views].format(padding=config.padding),
        **evaluator(replicate(weights.variables, mesh), split).metrics(config.split),
    }
    text = json.dumps(result, indent=2)
    Console(width=100, highlight=False).print(text, soft_wrap=True)
    if config.out is not None:
        Path(config.out).write_text(text + "\n")
