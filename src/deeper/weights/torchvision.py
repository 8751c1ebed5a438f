"""torchvision's and timm's weights to ours and back, on mappings of names to numpy arrays.

PyTorch keeps a convolution's kernel as (out, in, rows, columns) and a dense layer's as (out, in);
we keep (rows, columns, in, out) and (in, out). Both keep the unbiased running variance.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from deeper.errors import UserError
from deeper.models.initializers import shapes_of
from deeper.weights.torchvision_names import FLATTENED, as_torchvision, names_of

Arrays = Mapping[str, np.ndarray]

# (collection, our leaf, PyTorch's) of each kind of layer
LEAVES = (
    ("params", "kernel", "weight"),
    ("params", "scale", "weight"),
    ("params", "bias", "bias"),
    ("batch_stats", "mean", "running_mean"),
    ("batch_stats", "var", "running_var"),
)
# What PyTorch counts and nothing reads: the batches that a BatchNorm has seen.
UNREAD = "num_batches_tracked"


class Leaf(NamedTuple):
    """One array on both sides.

    Attributes:
        path: in our variables: collection, module, ..., leaf.
        name: torchvision's.
        shape: ours.
        channels: of the maps that a dense layer flattens; 0 for other layers.
    """

    path: tuple[str, ...]
    name: str
    shape: tuple[int, ...]
    channels: int


def leaves_of(model: nn.Module, image_shape: tuple[int, int, int] = (224, 224, 3)) -> list[Leaf]:
    """Return all arrays of a net, ours beside torchvision's.

    Raises:
        UserError: torchvision has no such net.
    """
    layers, flattened = names_of(model), FLATTENED[type(model)]
    shapes: Any = shapes_of(model, image_shape)
    found = []
    for collection, ours, theirs in LEAVES:
        for key, leaf in jax.tree.leaves_with_path(shapes.get(collection, {})):
            *path, last = (entry.key for entry in key)
            layer = "/".join(path)
            if last == ours:
                channels = flattened.get(layer, 0) if ours == "kernel" else 0
                name = f"{layers[layer]}.{theirs}"
                found.append(Leaf((collection, *path, last), name, leaf.shape, channels))
    return found


def convert(
    state_dict: Arrays,
    model: nn.Module,
    image_shape: tuple[int, int, int] = (224, 224, 3),
    new: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Return a net's variables from torchvision's or timm's weights.

    Args:
        state_dict: names and arrays.
        model: the net that they are for.
        image_shape: height, width, channels of the images.
        new: layers (our paths) to leave out of the result, as a head of other classes.

    Returns:
        {"params": ..., "batch_stats": ...}, float32.

    Raises:
        UserError: names are missing, too many, or of the wrong shape, or values cannot be of a net
            (NaN, infinity, negative variances); all of them are listed.
    """
    given = {theirs: name for name, theirs in as_torchvision(state_dict).items()}
    variables: dict[str, Any] = {"params": {}, "batch_stats": {}}
    missing, wrong, unusable = [], [], []
    for leaf in leaves_of(model, image_shape):
        source = given.pop(leaf.name, None)
        if "/".join(leaf.path[1:-1]) in new:
            continue
        if source is None:
            missing.append(leaf.name)
            continue
        array = np.asarray(state_dict[source], np.float32)
        if not np.isfinite(array).all():
            unusable.append(f"{source}: NaN or infinity")
            continue
        if leaf.path[-1] == "var" and not (array >= 0).all():
            unusable.append(f"{source}: variances below 0")
            continue
        converted = _ours(array, leaf)
        if converted is None or converted.shape != leaf.shape:
            shapes = (array.shape, _theirs(np.zeros(leaf.shape, np.float32), leaf).shape)
            theirs, ours = ("x".join(map(str, shape)) for shape in shapes)
            wrong.append(f"{source} is {theirs}, the net's is {ours}")
            continue
        node = variables
        for part in leaf.path[:-1]:
            node = node.setdefault(part, {})
        node[leaf.path[-1]] = converted
    heads = [n for n in given if n.startswith(("aux1.", "aux2."))]
    if getattr(model, "auxiliary", True) is False:
        for name in heads:
            del given[name]
    left = sorted(name for theirs, name in given.items() if not theirs.endswith(UNREAD))
    _complain(type(model).__name__, missing, left, wrong, unusable)
    return variables


def state_dict_shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return torchvision's names and shapes of a net for images of 224 pixels."""
    return {
        leaf.name: _theirs(np.broadcast_to(np.float32(0), leaf.shape), leaf).shape
        for leaf in leaves_of(model)
    }


def by_torchvision_name(state_dict: Arrays) -> dict[str, np.ndarray]:
    """Return the arrays of a torchvision or timm file under torchvision's names."""
    return {theirs: state_dict[name] for name, theirs in as_torchvision(state_dict).items()}


def _ours(array: np.ndarray, leaf: Leaf) -> np.ndarray | None:
    """Turn PyTorch's array into ours; None where the number of values differs."""
    if leaf.path[-1] != "kernel":
        return array
    if len(leaf.shape) == 4:
        return np.ascontiguousarray(array.transpose(2, 3, 1, 0)) if array.ndim == 4 else None
    if array.size != leaf.shape[0] * leaf.shape[1]:
        return None
    rows = array.reshape(leaf.shape[1], leaf.channels or leaf.shape[0], -1)
    return np.ascontiguousarray(rows.transpose(2, 1, 0)).reshape(leaf.shape)


def revert(
    variables: Mapping[str, Any],
    model: nn.Module,
    image_shape: tuple[int, int, int] = (224, 224, 3),
) -> dict[str, np.ndarray]:
    """Return torchvision's names and arrays of a net's variables, float32.

    Raises:
        UserError: torchvision has no such net.
    """
    state_dict = {}
    for leaf in leaves_of(model, image_shape):
        node: Any = variables
        for part in leaf.path:
            node = node[part]
        state_dict[leaf.name] = _theirs(np.asarray(node), leaf)
    return state_dict


def _theirs(array: np.ndarray, leaf: Leaf) -> np.ndarray:
    """Turn our array into PyTorch's."""
    if leaf.path[-1] != "kernel":
        return array
    if array.ndim == 4:
        return np.ascontiguousarray(array.transpose(3, 2, 0, 1))
    places = array.reshape(-1, leaf.channels or leaf.shape[0], leaf.shape[1])
    return np.ascontiguousarray(places.transpose(2, 1, 0)).reshape(leaf.shape[1], leaf.shape[0])


def _complain(
    net: str, missing: list[str], left: list[str], wrong: list[str], unusable: list[str]
) -> None:
    """Raise a UserError that lists everything that does not fit."""
    parts = [
        f"{title}:\n  " + "\n  ".join(names)
        for title, names in (
            ("the file lacks", missing),
            ("the net has no place for", left),
            ("of the wrong shape", wrong),
            ("values that no net can have", unusable),
        )
        if names
    ]
    if parts:
        text = "\n".join(parts)
        raise UserError(f"The weights do not fit this {net}; nothing was written.\n{text}")
