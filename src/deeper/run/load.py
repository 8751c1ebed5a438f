"""Loads a run's net with the variables of a checkpoint."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax

from deeper.config.instantiate import require_trusted
from deeper.config.schema import RunConfig
from deeper.errors import UserError
from deeper.models.initializers import shapes_of
from deeper.record.schema import read_config
from deeper.run import build, device
from deeper.train.checkpoint import CheckpointReader


@dataclass(frozen=True)
class Stored:
    """The content of a run directory, or of a directory made by ``deeper weights import=...``.

    Attributes:
        config: config of the run.
        model: the net.
        step: step of the checkpoint.
        variables: params and batch_stats.
    """

    config: RunConfig
    model: nn.Module
    step: int
    variables: dict[str, Any]


def config_of(
    path: Path, key: str, data_dir: str | None = None, own: Collection[str] = ()
) -> RunConfig:
    """Return a run directory's config.

    Args:
        path: the run directory.
        key: key of the command that gave the path, for messages.
        data_dir: present directory of its data; by default that of the config.
        own: targets of the user's own command, whose packages are trusted.

    Raises:
        UserError: it is not a run directory, or it names a target that is not trusted.
    """
    values = read_config(path)
    if values is None:
        raise UserError(f"{key}={path} is no run directory: it has no config.yaml.")
    values.pop("config_hash", None)
    require_trusted(values, f"{path / 'config.yaml'}", own)
    config = RunConfig.of(values)
    return config if data_dir is None else config.replace({"data.dir": data_dir})


def open_stored(
    path: Path,
    checkpoint: str | int,
    key: str,
    data_dir: str | None = None,
    own: Collection[str] = (),
) -> Stored:
    """Read the net and a checkpoint's variables.

    Args:
        path: the run directory.
        checkpoint: last, best or a step.
        key: key of the command that gave the path, for messages.
        data_dir: present directory of its data; by default that of the config.
        own: targets of the user's own command, whose packages are trusted.
    """
    config = config_of(path, key, data_dir, own)
    step, variables = _read(path, checkpoint)
    model = build.build_model(config)
    _require_fit(variables, shapes_of(model, build.example_of(config)), f"{key}={path}")
    return Stored(config, model, step, variables)


def _read(path: Path, checkpoint: str | int) -> tuple[int, dict[str, Any]]:
    """Return the chosen step and its variables.

    A running training removes old checkpoints. If the chosen one disappears during reading, the
    choice is repeated.
    """
    reader = CheckpointReader(path / "checkpoints", device.one())
    step = _step(checkpoint, reader, path)
    while True:
        try:
            return step, reader.restore_variables(step)
        except UserError:
            now = _step(checkpoint, reader, path)
            if now == step:
                raise
            step = now


def states(path: Path) -> dict[int, Callable[[], dict[str, Any]]]:
    """Return step -> function that reads the variables, for all checkpoints of a run directory."""
    reader = CheckpointReader(path / "checkpoints", device.one())
    return {step: partial(reader.restore_variables, step) for step in reader.steps}


def _require_fit(variables: dict[str, Any], expected: dict[str, Any], source: str) -> None:
    """Raise a UserError if a checkpoint does not fit the net of its config."""
    name = partial(jax.tree_util.keystr, simple=True, separator="/")
    theirs, ours = (
        {name(place): leaf.shape for place, leaf in jax.tree.leaves_with_path(tree)}
        for tree in (variables, expected)
    )
    differ = sorted({name for name, _ in theirs.items() ^ ours.items()})
    if differ:
        layers = list(dict.fromkeys("/".join(name.split("/")[1:-1]) for name in differ))
        more = f" and {len(layers) - 4} more" if len(layers) > 4 else ""
        raise UserError(
            f"{source} holds a checkpoint of another net than its config.yaml says: they differ in "
            f"{', '.join(layers[:4])}{more}."
        )


def _step(choice: str | int, checkpoints: CheckpointReader, path: Path) -> int:
    """Return the step of the chosen checkpoint."""
    steps = checkpoints.steps
    if not steps:
        raise UserError(f"{path} has no checkpoint yet.")
    if choice == "last":
        return steps[-1]
    if choice == "best":
        best = checkpoints.best_step
        return steps[-1] if best is None else best
    if choice in steps:
        return int(choice)
    raise UserError(
        f"checkpoint={choice} is not there; {path} has last, best and {', '.join(map(str, steps))}."
    )
