"""``deeper evaluate run=DIRECTORY``: a run's checkpoint on a split, every example once."""

import json
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from deeper.augment.views import PROTOCOLS, views
from deeper.cli import build, device, stored
from deeper.cli.splits import in_result, open_splits, view_of
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
    ten_of_photographs = config.views == "ten_crop" and view_of(of_run.data) is not None
    shown = of_run.copy()
    if ten_of_photographs:
        # The middle square, of which the net's size is cut out ten times.
        side = of_run.data.shorter_side
        shown.data.image_shape = [side, side, of_run.data.image_shape[2]]
    splits = open_splits(shown)
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
        views=views(
            config.views,
            config.padding,
            tuple(of_run.data.image_shape[:2]) if ten_of_photographs else None,
        ),
    )
    found = evaluator(replicate(weights.variables, mesh), split)
    names = splits.dataset.class_names
    by_class = found.error_by_class(len(names))
    result = {
        "run": str(path),
        "step": weights.step,
        "split": config.split,
        "protocol": _protocol(config, of_run.data),
        **found.metrics(config.split),
        f"{config.split}/calibration_error": found.calibration_error(),
    }
    text = json.dumps(result, indent=2)
    Console(width=100, highlight=False).print(text, soft_wrap=True)
    if config.out is not None:
        whole = result | {"error_by_class": dict(zip(names, by_class, strict=True))}
        if config.split in splits.unreadable:
            whole["unreadable"] = in_result(splits.unreadable)[config.split]
        Path(config.out).write_text(json.dumps(whole, indent=2) + "\n")


def _protocol(config: DictConfig, data: DictConfig) -> str:
    """Return in words what of an image is evaluated."""
    in_words = PROTOCOLS[config.views].format(padding=config.padding)
    if view_of(data) is None:
        return in_words
    height, width, _ = data.image_shape
    side = f"shorter side {data.shorter_side} (antialiased)"
    middle = f"{side}, middle {height}x{width}"
    return {
        "none": f"1-crop: {middle}",
        "flip": f"1-crop: {middle}, and mirrored, probabilities averaged",
        "ten_crop": f"10-crop: {side}, of the middle square the corners and centre of "
        f"{height}x{width}, and mirrored, probabilities averaged",
    }[config.views]
