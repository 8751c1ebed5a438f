"""The variables that a run begins with: drawn, of another run, or from a file of weights."""

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from deeper.config import instantiate
from deeper.config.instantiate import targets_in
from deeper.config.schema import RunConfig
from deeper.data.dataset import Dataset
from deeper.errors import UserError
from deeper.models.initializers import initialise
from deeper.models.layers import EMBEDDING_TABLE
from deeper.run import build, net_record, preprocessing
from deeper.run.data_record import require_same_vocabulary
from deeper.run.dataset import require_images
from deeper.run.load import config_of, open_stored
from deeper.track import wandb_artifacts
from deeper.weights import detectors, state_dicts, torchvision, weight_files
from deeper.weights.torchvision_names import HIDDEN, LAST

# Images by which a detector is traced for its variables, which depend on no size.
DETECTORS_TRACE = (224, 224, 3)


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


def beginning(config: RunConfig, plan: build.Plan, dataset: Dataset) -> Beginning:
    """Return a net's first values, drawn, of the data set's token vectors, or from ``init_from``.

    Args:
        config: the run's.
        plan: of the run.
        dataset: that it is trained on, which may have token vectors.

    Raises:
        UserError: layers differ that are neither the last one nor cut off; all are named. Or the
            net has no table for the token vectors, or the source's tokens stand for something else.
    """
    fresh = initialise(plan.model, config.seed, build.example_of(config))
    if dataset.token_vectors is not None:
        fresh = _with_vectors(fresh, dataset.token_vectors)
    if config.init_from is None:
        return Beginning(fresh, None, [], [])
    assert plan.stages is not None
    head = plan.stages.head
    source, given, untrained = _given(config)
    run = source_of(config)
    if run is not None:
        require_same_vocabulary(run, dataset, "init_from")
    last_layers = getattr(plan.model, "outputs", (head,))
    # A detector begins from a classifier: only what is in both has values.
    placed = getattr(plan.model, "placed", None)
    from_part = placed is not None and "backbone" not in given["params"]
    if from_part:
        assert placed is not None
        given = placed(given)
    known = {jax.tree_util.keystr(p): leaf for p, leaf in jax.tree.leaves_with_path(given)}
    new = list(untrained)
    wrong: list[str] = []

    def choose(path, leaf):
        layer = "/".join(entry.key for entry in path[1:-1])
        found = known.pop(jax.tree_util.keystr(path), None)
        last = path[1].key in last_layers
        begins_anew = last and config.transfer.new_head
        if found is not None and found.shape == leaf.shape and not begins_anew:
            return np.asarray(found)
        # Auxiliary heads end in a layer of the classes, too.
        auxiliary = found is not None and leaf.shape[-1] == config.model.classes
        ends = last or auxiliary or (from_part and found is None)
        (new if ends else wrong).append(layer)
        return leaf

    variables = jax.tree.map_with_path(choose, fresh)
    left = ["/".join(name.strip("[]'").split("']['")[1:-1]) for name in known]
    if config.transfer.truncate_at is None:
        wrong, left = wrong + left, []
    if wrong:
        differ = sorted(set(wrong))
        layers = "\n  ".join(differ[: torchvision.LISTED])
        if len(differ) > torchvision.LISTED:
            layers += f"\n  and {len(differ) - torchvision.LISTED} more"
        raise UserError(
            f"init_from={config.init_from} is of another net. These layers are missing on one side "
            f"or of another shape:\n  {layers}"
        )
    return Beginning(variables, source, sorted(set(new)), sorted(set(left)))


def _with_vectors(fresh: dict[str, Any], vectors: np.ndarray) -> dict[str, Any]:
    """Return variables whose tables of tokens are vectors; rows of NaN stay as they are."""
    tables = []

    def filled(path: Any, leaf: Any) -> Any:
        if path[-1].key != EMBEDDING_TABLE:
            return leaf
        tables.append(leaf.shape)
        if leaf.shape != vectors.shape:
            return leaf
        return np.where(np.isnan(vectors), np.asarray(leaf), vectors).astype(np.float32)

    variables: dict[str, Any] = jax.tree.map_with_path(filled, fresh)
    if vectors.shape not in tables:
        there = "has none" if not tables else f"has {' and '.join(map(str, sorted(set(tables))))}"
        raise UserError(
            f"The data set's token vectors are of shape {vectors.shape}, and the net {there}: "
            f"say model.features={vectors.shape[1]} if the net has such a value."
        )
    return variables


def source_of(config: RunConfig) -> Path | None:
    """Return the run directory that ``init_from`` names; None for a file of weights, or nothing.

    Raises:
        UserError: there is none, there are several, or W&B has no such artifact.
    """
    source = config.init_from
    if source is None or weight_files.is_file(source):
        return None
    if wandb_artifacts.is_artifact(source):
        return _artifact(source)
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


@cache  # an alias means one version for as long as this process is there
def _artifact(source: str) -> Path:
    return wandb_artifacts.fetched(source, "init_from")


def named_source(config: RunConfig) -> str | None:
    """Return ``init_from`` for the record; of an artifact at W&B its version, not its alias."""
    if config.init_from is None or not wandb_artifacts.is_artifact(config.init_from):
        return config.init_from
    return wandb_artifacts.version_of(_artifact(config.init_from))


def compare_preprocessing(config: RunConfig, overrides: Sequence[str] | None) -> str | None:
    """Say how a run shows images otherwise than those were shown that ``init_from``'s net saw.

    Args:
        config: the run's.
        overrides: that the user gave; None where they are not known.

    Raises:
        UserError: the weights' mean and std are not the run's, and have to be.
    """
    path = source_of(config)
    if config.model.get("backbone"):
        return None  # the task of detection normalises, by its own numbers
    if path is not None:
        known: Any = config_of(path, "init_from", own=set(targets_in(config.plain()))).data
        same = net_record.is_import(path) or known.name == config.data.name
        source = str(path)
    elif config.init_from is not None:
        source, same = config.init_from, True
        net = instantiate.build(config.model)
        file = weight_files.read(source, "init_from")
        known = SimpleNamespace(**preprocessing.of_file(file, net))
    else:
        return None
    return preprocessing.compared(config.data, source, known, same_data=same, overrides=overrides)


def _given(config: RunConfig) -> tuple[str, dict[str, Any], Sequence[str]]:
    """Return where ``init_from`` leads to, the variables there, and which layers are random."""
    path = source_of(config)
    if path is not None:
        own = set(targets_in(config.plain()))
        stored = open_stored(path, "last", "init_from", own=own)
        untrained = net_record.read(path, stored.config).new_layers
        return wandb_artifacts.version_of(path) or str(path), stored.variables, untrained
    assert config.init_from is not None
    if config.model.get("backbone"):
        file = weight_files.read(config.init_from, "init_from")
        return config.init_from, *_of_detector(file, config)
    require_images(config.data, f"init_from={config.init_from}")
    model, shape = instantiate.build(config.model), tuple(config.data.image_shape)
    file = weight_files.read(config.init_from, "init_from")
    try:
        found = state_dicts.find(file.arrays, f"init_from={config.init_from}")
    except UserError as error:
        raise UserError(f"{error} (prefix= is a key of deeper weights import=FILE)") from error
    return config.init_from, *imported(state_dicts.renamed(found), model, config, shape)


def _of_detector(
    file: weight_files.WeightFile, config: RunConfig
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return variables of a detector, or of its backbone, from a file, and which are not in it."""
    detector = detectors.find(file.arrays)
    if detector is None:
        found = state_dicts.find(file.arrays, f"init_from={config.init_from}")
        net = instantiate.build(config.model["backbone"])
        return imported(state_dicts.renamed(found), net, config, DETECTORS_TRACE)
    model = instantiate.build(config.model)
    new = () if detector.classes == config.model.classes else model.outputs
    return torchvision.convert(detector.arrays, model, DETECTORS_TRACE, new=new), new


def imported(
    arrays: torchvision.Arrays, model: nn.Module, config: RunConfig, shape: tuple[int, int, int]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return a net's variables from arrays by torchvision's names.

    Returns:
        The variables, and the last layers that were drawn, as the file has none, or has them for
        other classes.

    Raises:
        torchvision.MisfitError: other layers differ.
    """
    new = _new_layers(arrays, model, config.model.classes, shape)
    variables = torchvision.convert(arrays, model, shape, new=new)
    if new:
        _fill(variables, initialise(model, config.seed, shape), new)
    return variables, new


def _new_layers(
    arrays: torchvision.Arrays, model: nn.Module, classes: int, shape: tuple[int, int, int]
) -> tuple[str, ...]:
    """Return the layers at a net's end that the file has not, or has for other classes.

    Without a head are the nets that people keep as extractors of features; what timm makes with
    ``features_only`` has no hidden dense layers either.
    """
    names: dict[str, list[str]] = {}
    for leaf in torchvision.leaves_of(model, shape):
        names.setdefault("/".join(leaf.path[1:-1]), []).append(leaf.name)
    last, hidden = set(LAST[type(model)]), set(HIDDEN.get(type(model), ()))
    missing = {layer for layer, given in names.items() if not any(name in arrays for name in given)}
    new = {layer for layer in last if layer in names and layer in missing and "/" not in layer}
    if new and hidden <= missing:
        new |= hidden
    for layer in (last - new) & names.keys():
        bias = next(name for name in names[layer] if name.endswith(".bias"))
        if bias in arrays and arrays[bias].shape != (classes,):
            new.add(layer)
    return tuple(sorted(new))


def _fill(variables: dict[str, Any], fresh: dict[str, Any], layers: tuple[str, ...]) -> None:
    """Take layers from freshly initialised variables."""
    for layer in layers:
        node, source = variables["params"], fresh["params"]
        *path, last = layer.split("/")
        for part in path:
            node, source = node.setdefault(part, {}), source[part]
        node[last] = source[last]
