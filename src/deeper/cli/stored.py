"""A run's net with the variables of one of its checkpoints."""

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from omegaconf import DictConfig, OmegaConf

from deeper.cli import build, device
from deeper.errors import UserError
from deeper.models.init import initialise
from deeper.train.checkpoint import Checkpoints

CLASSES = "classes.json"


@dataclass(frozen=True)
class Stored:
    """What a run directory has, or one that ``deeper weights import=...`` made.

    Attributes:
        config: the run's.
        model: the net.
        step: of the checkpoint.
        variables: params and batch_stats.
    """

    config: DictConfig
    model: nn.Module
    step: int
    variables: dict[str, Any]


def config_of(path: Path, key: str) -> DictConfig:
    """Return a run directory's config.

    Args:
        path: the run directory.
        key: what the user calls it, for the message.
    """
    if not (path / "config.yaml").is_file():
        raise UserError(f"{key}={path} is no run directory: it has no config.yaml.")
    config = OmegaConf.load(path / "config.yaml")
    assert isinstance(config, DictConfig)
    return config


def open_stored(path: Path, checkpoint: str | int, key: str) -> Stored:
    """Read the net and a checkpoint's variables.

    Args:
        path: the run directory.
        checkpoint: last, best or a step.
        key: what the user calls the directory, for messages.
    """
    config = config_of(path, key)
    checkpoints = Checkpoints(path / "checkpoints", device.mesh_of(1))
    try:
        step = _step(checkpoint, checkpoints, path)
        variables = checkpoints.restore_variables(step)
    finally:
        checkpoints.close()
    return Stored(config, build.build_model(config), step, variables)


def initial_variables(config: DictConfig, model: nn.Module) -> tuple[dict[str, Any], list[str]]:
    """Return a net's first values, drawn or from ``init_from``.

    Returns:
        The variables, and the layers that are new although ``init_from`` is given: a head for
        other classes.

    Raises:
        UserError: other layers differ; all of them are named.
    """
    fresh = initialise(model, config.seed, tuple(config.data.image_shape))
    if config.init_from is None:
        return fresh, []
    given = open_stored(Path(config.init_from), "last", "init_from").variables
    known = {jax.tree_util.keystr(p): leaf for p, leaf in jax.tree.leaves_with_path(given)}
    new: list[str] = []
    wrong: list[str] = []

    def choose(path, leaf):
        layer = "/".join(entry.key for entry in path[1:-1])
        found = known.pop(jax.tree_util.keystr(path), None)
        if found is not None and found.shape == leaf.shape:
            return np.asarray(found)
        is_head = found is not None and leaf.shape[-1] == config.model.classes
        (new if is_head else wrong).append(layer)
        return leaf

    variables = jax.tree.map_with_path(choose, fresh)
    wrong += ["/".join(name.strip("[]'").split("']['")[1:-1]) for name in known]
    if wrong:
        layers = "\n  ".join(sorted(set(wrong)))
        raise UserError(
            f"init_from={config.init_from} is of another net. These layers are missing on one side "
            f"or of another shape:\n  {layers}"
        )
    return variables, sorted(set(new))


def class_names(path: Path, config: DictConfig) -> list[str]:
    """Return a run's class names, or numbers where neither it nor its data are there to tell."""
    if (path / CLASSES).is_file():
        return list(json.loads((path / CLASSES).read_text()))
    if config.data.name == "imagenet" and config.data.classes == 1000:
        return imagenet_names()  # the data set's own are WordNet ids
    try:
        return list(build.open_splits(config).dataset.class_names)
    except UserError:
        return [str(number) for number in range(config.data.classes)]


def imagenet_names() -> list[str]:
    """Return the thousand classes' names."""
    text = (resources.files("deeper.data") / "imagenet_names.txt").read_text()
    return [line for line in text.splitlines() if not line.startswith("#")]


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
