"""A run's net with the variables of one of its checkpoints."""

import glob
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from omegaconf import DictConfig, OmegaConf

from deeper.config import instantiate
from deeper.config.instantiate import require_trusted, targets_in
from deeper.data.prepare.imagenet import CLASSES, wordnet_ids
from deeper.errors import UserError
from deeper.models.initializers import initialise, shapes_of
from deeper.run import build, data_record, device, preprocessing
from deeper.run.dataset import open_splits
from deeper.train.checkpoint import CheckpointReader
from deeper.weights import torchvision, weight_files
from deeper.weights.torchvision_names import LAST

ORIGIN = "weights.json"  # beside imported weights: where they are from


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


def config_of(
    path: Path, key: str, data_dir: str | None = None, own: Collection[str] = ()
) -> DictConfig:
    """Return a run directory's config.

    Args:
        path: the run directory.
        key: what the user calls it, for the message.
        data_dir: where its data lie now; by default where they lay.
        own: targets of the user's own command, whose packages are trusted.

    Raises:
        UserError: it is no run directory, or it names a target that is not trusted.
    """
    if not (path / "config.yaml").is_file():
        raise UserError(f"{key}={path} is no run directory: it has no config.yaml.")
    config = OmegaConf.load(path / "config.yaml")
    assert isinstance(config, DictConfig)
    require_trusted(config, f"{path / 'config.yaml'}", own)
    if data_dir is not None:
        config.data.dir = data_dir
    return config


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
        key: what the user calls the directory, for messages.
        data_dir: where its data lie now; by default where they lay.
        own: targets of the user's own command, whose packages are trusted.
    """
    config = config_of(path, key, data_dir, own)
    step, variables = _read(path, checkpoint)
    model = build.build_model(config)
    _require_fit(variables, shapes_of(model, tuple(config.data.image_shape)), f"{key}={path}")
    return Stored(config, model, step, variables)


def _read(path: Path, checkpoint: str | int) -> tuple[int, dict[str, Any]]:
    """Return the step that is meant and its variables.

    A run that is being trained removes old checkpoints: if the one that was chosen is replaced
    while it is read, the choice is made again.
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
    """Return step -> reads the variables, for all checkpoints of a run directory."""
    reader = CheckpointReader(path / "checkpoints", device.one())
    return {step: partial(reader.restore_variables, step) for step in reader.steps}


def _require_fit(variables: dict[str, Any], expected: dict[str, Any], source: str) -> None:
    """Raise a UserError if a checkpoint is not of the net that its config says."""
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


@dataclass(frozen=True)
class Beginning:
    """What a run begins with.

    Attributes:
        variables: params and batch_stats.
        source: where they are from; None where they were drawn.
        new: layers that were drawn although there is a source.
        left_out: layers of the source that the net has not.
    """

    variables: dict[str, Any]
    source: str | None
    new: list[str]
    left_out: list[str]


def beginning(config: DictConfig, plan: build.Plan) -> Beginning:
    """Return a net's first values, drawn or from ``init_from``.

    Raises:
        UserError: layers differ that are neither the last one nor cut off; all are named.
    """
    fresh = initialise(plan.model, config.seed, tuple(config.data.image_shape))
    if config.init_from is None:
        return Beginning(fresh, None, [], [])
    assert plan.stages is not None
    head = plan.stages.head
    source, given = _given(config)
    known = {jax.tree_util.keystr(p): leaf for p, leaf in jax.tree.leaves_with_path(given)}
    new: list[str] = []
    wrong: list[str] = []

    def choose(path, leaf):
        layer = "/".join(entry.key for entry in path[1:-1])
        found = known.pop(jax.tree_util.keystr(path), None)
        last = path[1].key == head
        begins_anew = last and config.transfer.new_head
        if found is not None and found.shape == leaf.shape and not begins_anew:
            return np.asarray(found)
        # Auxiliary heads end in a layer of the classes, too.
        ends = last or (found is not None and leaf.shape[-1] == config.model.classes)
        (new if ends else wrong).append(layer)
        return leaf

    variables = jax.tree.map_with_path(choose, fresh)
    left = ["/".join(name.strip("[]'").split("']['")[1:-1]) for name in known]
    if config.transfer.truncate_at is None:
        wrong, left = wrong + left, []
    if wrong:
        layers = "\n  ".join(sorted(set(wrong)))
        raise UserError(
            f"init_from={config.init_from} is of another net. These layers are missing on one side "
            f"or of another shape:\n  {layers}"
        )
    return Beginning(variables, source, sorted(set(new)), sorted(set(left)))


def source_of(config: DictConfig) -> Path | None:
    """Return the run directory that ``init_from`` names; None for a file of weights, or nothing.

    Raises:
        UserError: there is none, or there are several.
    """
    source = config.init_from
    if (
        source is None
        or source.startswith(weight_files.HUB)
        or Path(source).suffix in weight_files.SUFFIXES
    ):
        return None
    place = Path(source)
    matches = [place]
    if "*" in place.name and not place.exists():  # of a pattern's signs, * alone is one here
        pattern = glob.escape(place.name).replace("[*]", "*")
        matches = sorted(place.parent.glob(pattern))
    if not matches:
        raise UserError(f"init_from={source} fits no run directory: is that run made already?")
    if len(matches) > 1:
        raise UserError(
            f"init_from={source} fits {len(matches)} directories, among them {matches[0].name} and "
            f"{matches[1].name}: name one."
        )
    return matches[0]


def compare_preprocessing(config: DictConfig, overrides: Sequence[str] | None) -> str | None:
    """Say how a run shows images otherwise than those were shown that ``init_from``'s net saw.

    Args:
        config: the run's.
        overrides: that the user gave; None where they are not known.

    Raises:
        UserError: the weights' mean and std are not the run's, and have to be.
    """
    path = source_of(config)
    if path is not None:
        known: Any = config_of(path, "init_from", own=set(targets_in(config))).data
        same = (path / ORIGIN).is_file() or known.name == config.data.name
        place = str(path)
        return preprocessing.compared(
            config.data, place, known, same_data=same, overrides=overrides
        )
    if config.init_from is None:
        return None
    source: str = config.init_from
    known = SimpleNamespace(**preprocessing.of_file(source, instantiate.build(config.model)))
    return preprocessing.compared(config.data, source, known, same_data=True, overrides=overrides)


def _given(config: DictConfig) -> tuple[str, dict[str, Any]]:
    """Return where ``init_from`` leads to, and the variables that are there."""
    path = source_of(config)
    if path is not None:
        own = set(targets_in(config))
        return str(path), open_stored(path, "last", "init_from", own=own).variables
    model, shape = instantiate.build(config.model), tuple(config.data.image_shape)
    arrays, _ = weight_files.read(config.init_from, "init_from")
    return config.init_from, imported(arrays, model, config, shape)[0]


def imported(
    arrays: torchvision.Arrays, model: nn.Module, config: DictConfig, shape: tuple[int, int, int]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return a net's variables from arrays by torchvision's or timm's names.

    Returns:
        The variables, and the last layers that were drawn, as the file has other classes.
    """
    new = _new_heads(arrays, model, config.model.classes, shape)
    variables = torchvision.convert(arrays, model, shape, new=new)
    if new:
        _fill(variables, initialise(model, config.seed, shape), new)
    return variables, new


def _new_heads(
    arrays: torchvision.Arrays, model: nn.Module, classes: int, shape: tuple[int, int, int]
) -> tuple[str, ...]:
    """Return the last layers, if the file has them for another number of classes."""
    theirs = {leaf.name: leaf for leaf in torchvision.leaves_of(model, shape)}
    given = torchvision.by_torchvision_name(arrays)
    last = set(LAST[type(model)])
    return tuple(
        sorted(
            "/".join(leaf.path[1:-1])
            for name, leaf in theirs.items()
            if "/".join(leaf.path[1:-1]) in last
            and leaf.path[-1] == "bias"
            and name in given
            and given[name].shape != (classes,)
        )
    )


def _fill(variables: dict[str, Any], fresh: dict[str, Any], layers: tuple[str, ...]) -> None:
    """Take layers from freshly initialised variables."""
    for layer in layers:
        node, source = variables["params"], fresh["params"]
        *path, last = layer.split("/")
        for part in path:
            node, source = node.setdefault(part, {}), source[part]
        node[last] = source[last]


def class_names(path: Path, config: DictConfig) -> list[str]:
    """Return a run's class names as its record has them, whatever is prepared now.

    Where there is no record (imported weights, runs of an older deeper), they are those of the data
    that the config names, or numbers.
    """
    record = data_record.read_record(path)
    if record is not None and "class_names" in record:
        names = list(record["class_names"])
        by_id = len(names) == CLASSES and names == list(wordnet_ids())
        return imagenet_names() if by_id else names
    if config.data.name == "imagenet" and config.data.classes == CLASSES:
        return imagenet_names()  # the data set's own are WordNet ids
    try:
        return list(open_splits(config).dataset.class_names)
    except UserError:
        return [str(number) for number in range(config.data.classes)]


def imagenet_names() -> list[str]:
    """Return the thousand classes' names."""
    text = (resources.files("deeper.data") / "imagenet_names.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if not line.startswith("#")]


def _step(wish: str | int, checkpoints: CheckpointReader, path: Path) -> int:
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
