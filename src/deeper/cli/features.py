"""``deeper features run=DIRECTORY``: a layer's features of a data set, and the probes on them."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from rich.progress import Progress, TaskID

from deeper.augment.crops_and_colour import Normalise
from deeper.cli.live_display import bar
from deeper.cli.output_files import check_file
from deeper.cli.terminal import open_console
from deeper.errors import UserError
from deeper.interpret import probes
from deeper.interpret.features import extract, inputs_of, outputs_of
from deeper.profile.stages import stages_of
from deeper.run import data_record, device, load
from deeper.run.dataset import open_splits
from deeper.train.data_parallel import replicate


def run(config: DictConfig) -> None:
    """Compute the features, write them where asked to, and print what the probes make of them."""
    console = open_console()
    path = Path(config.run)
    out = None if config.out is None else Path(config.out)
    if out is not None:
        check_file(out, "out", (".npz",))
    of_run = load.config_of(path, "run")
    device.start_jax(of_run.train.cpu_kernels)
    weights = load.open_stored(path, config.checkpoint, "run")
    # Trained on images normalised so, the net gets others normalised alike.
    normalise = Normalise(tuple(of_run.data.mean), tuple(of_run.data.std))
    _choose_data(of_run, config)
    if data_record.names_another(config.data):
        splits = open_splits(of_run)
    else:
        splits = data_record.open_own_splits(path, of_run)
    model = weights.model
    if config.layer:
        layer, apply = config.layer, outputs_of(model, config.layer)
    else:
        head = stages_of(model, tuple(of_run.data.image_shape)).head
        layer, apply = f"input of {head}", inputs_of(model, head)
    variables = replicate(weights.variables, device.one())
    parts = {"train": splits.train, "test": splits.test}
    found = {}
    with bar(console) as progress:
        for name, split in parts.items():
            task = progress.add_task(f"features of {name}", total=len(split))
            found[name] = extract(
                apply,
                variables,
                split.images,
                normalise,
                batch_size=config.batch_size,
                progress=partial(_move, progress, task),
            )
    labels = {name: np.asarray(split.labels) for name, split in parts.items()}
    if not all(np.isfinite(values).all() for values in found.values()):
        raise UserError(f"{layer} of {path}, step {weights.step}, says NaN or infinity of images.")
    width = found["train"].shape[1]
    console.print(
        f"{layer} of {path}, step {weights.step}: {width} features of {len(labels['train']):,} "
        f"training and {len(labels['test']):,} test images of {of_run.data.name}",
        soft_wrap=True,
    )
    train, test = ((found[name], labels[name]) for name in ("train", "test"))
    console.print(f"logistic regression   test error {probes.logistic(train, test):.2f} %")
    console.print(
        f"nearest neighbours    test error {probes.nearest_neighbours(train, test):.2f} %"
    )
    if out is not None:
        arrays: dict[str, Any] = {f"{name}_features": values for name, values in found.items()}
        arrays |= {f"{name}_labels": values for name, values in labels.items()}
        arrays |= {"class_names": splits.dataset.class_names, "layer": layer, "run": str(path)}
        np.savez(out, **arrays)
        console.print(f"-> {out}", soft_wrap=True)


def _move(progress: Progress, task: TaskID, done: int) -> None:
    progress.update(task, completed=done)


def _choose_data(of_run: DictConfig, config: DictConfig) -> None:
    """Put the data set that is asked for into the run's config."""
    other = config.data
    if data_record.names_another(other):
        if list(other.image_shape) != list(of_run.data.image_shape):
            raise UserError(
                f"data={other.name} has images of {list(other.image_shape)}, the run was trained "
                f"on {list(of_run.data.image_shape)}."
            )
        of_run.data = other
    of_run.data.examples, of_run.data.draw = config.examples, config.draw
    of_run.train.consistency = None
