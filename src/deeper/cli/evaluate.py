"""``deeper evaluate run=DIRECTORY``: a run's checkpoint on a split, every example once."""

import json
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from deeper.cli import build, device
from deeper.errors import UserError
from deeper.models.init import initialise
from deeper.train.checkpoint import Checkpoints
from deeper.train.evaluate import Evaluator
from deeper.train.state import create


def run(config: DictConfig) -> None:
    """Evaluate a checkpoint and print, or write, its metrics."""
    path = Path(config.run)
    if not (path / "config.yaml").is_file():
        raise UserError(f"run={path} is no run directory: it has no config.yaml.")
    of_run = OmegaConf.load(path / "config.yaml")
    assert isinstance(of_run, DictConfig)
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
    state = create(
        initialise(plan.model, of_run.seed, tuple(of_run.data.image_shape)),
        plan.optimizer,
        seed=of_run.seed,
        keep_ema=of_run.train.ema is not None,
    )
    checkpoints = Checkpoints(path / "checkpoints", mesh)
    try:
        step = _step(config.checkpoint, checkpoints, path)
        state = checkpoints.restore(state, step)
    finally:
        checkpoints.close()
    split = named[config.split]
    evaluator = Evaluator(
        plan.model,
        experiment.normalise,
        mesh,
        plan.settings.parallel,
        experiment.feed.take,
        batches_per_call=min(16, split.batches),
    )
    result = {
        "run": str(path),
        "step": step,
        "split": config.split,
        "protocol": "1-crop, images as stored",
        **evaluator(state.evaluated, split).metrics(config.split),
    }
    text = json.dumps(result, indent=2)
    Console(width=100, highlight=False).print(text, soft_wrap=True)
    if config.out is not None:
        Path(config.out).write_text(text + "\n")


def _step(wish: str | int, checkpoints: Checkpoints, path: Path) -> int:
    """Return the step of the checkpoint that is meant."""
    steps = checkpoints.steps
    if not steps:
        raise UserError(f"{path} has no checkpoint yet.")
    if wish == "last":
        return steps[-1]
    if wish == "best":
        best = checkpoints.best_step
        return steps[-1] if best is None else best
    if wish in steps:
        return int(wish)
    raise UserError(
        f"checkpoint={wish} is not there; {path} has last, best and {', '.join(map(str, steps))}."
    )
