"""Conversion between our variables and the state dicts of torchvision and timm (NumPy arrays).

PyTorch stores the kernel of a convolution as (out, in, rows, columns) and that of a dense layer as
(out, in); we use (rows, columns, in, out) and (in, out). Both store the unbiased running variance.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from deeper.errors import UserError
from deeper.models.initializers import shapes_of
from deeper.weights.architectures import cause_of
from deeper.weights.families import FAMILIES
from deeper.weights.torchvision_names import (
    LAYER_SCALE,
    POINTWISE,
    as_torchvision,
    flattened_in,
    names_of,
)

Arrays = Mapping[str, np.ndarray]

# (collection, name of our array, name of PyTorch's array) for all kinds of layers
LEAVES = (
    ("params", "kernel", "weight"),
    ("params", "scale", "weight"),
    ("params", "bias", "bias"),
    ("params", "layer_scale", "layer_scale"),
    ("batch_stats", "mean", "running_mean"),
    ("batch_stats", "var", "running_var"),
)
# Number of batches that a BatchNorm has seen, which inference does not use.
UNREAD = "num_batches_tracked"
# The first convolution of torchvision's nets.
FIRST = (
    *("conv1.0.weight", "conv1.weight", "features.0.weight", "conv1.conv.weight"),
    *(family.FIRST for family in FAMILIES),
)
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # heads of GoogLeNet and of Inception-v3
LISTED = 10  # differences that a message names


class MisfitError(UserError):
    """Arrays are not those of a net.

    Attributes:
        differences: all of them, a line each; the message has the first.
    """

    def __init__(self, cause: str, differences: list[str]):
        self.differences = differences
        lines = [cause, *(f"  {line}" for line in differences[:LISTED])]
        if len(differences) > LISTED:
            lines.append(f"  and {len(differences) - LISTED} more")
        super().__init__("\n".join(lines))


class Leaf(NamedTuple):
    """One array, in our variables and in torchvision's state dict.

    Attributes:
        path: path in our variables: collection, module, ..., array.
        name: name in torchvision's state dict.
        shape: shape in our variables.
        channels: for a dense layer that flattens feature maps, the number of their channels; 0 for
            other layers.
    """

    path: tuple[str, ...]
    name: str
    shape: tuple[int, ...]
    channels: int


def leaves_of(model: nn.Module, image_shape: tuple[int, int, int] = (224, 224, 3)) -> list[Leaf]:
    """Return all arrays of a net, with our paths and torchvision's names.

    Raises:
        UserError: torchvision has no such net.
    """
    layers, flattened = names_of(model), flattened_in(model)
    shapes: Any = shapes_of(model, image_shape)
    leaves = []
    for collection, ours, theirs in LEAVES:
        for key, leaf in jax.tree.leaves_with_path(shapes.get(collection, {})):
            *path, last = (entry.key for entry in key)
            layer = "/".join(path)
            if last == ours:
                channels = flattened.get(layer, 0) if ours == "kernel" else 0
                name = f"{layers[layer]}.{theirs}"
                leaves.append(Leaf((collection, *path, last), name, leaf.shape, channels))
    return leaves


def convert(
    state_dict: Arrays,
    model: nn.Module,
    image_shape: tuple[int, int, int] = (224, 224, 3),
    new: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Convert a state dict of torchvision or timm to the variables of a net.

    Args:
        state_dict: name -> array.
        model: the net.
        image_shape: (height, width, channels) of the images.
        new: paths of our layers to leave out of the result, such as a head for other classes.

    Returns:
        {"params": ..., "batch_stats": ...}, float32.

    Raises:
        MisfitError: names are missing or unknown, shapes differ, or values are not possible (NaN,
            infinity, negative variances).
    """
    sources = {theirs: name for name, theirs in as_torchvision(state_dict).items()}
    variables: dict[str, Any] = {"params": {}, "batch_stats": {}}
    missing, wrong, unusable = [], [], []
    for leaf in leaves_of(model, image_shape):
        source = sources.pop(leaf.name, None)
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
            shapes = (array.shape, _theirs(np.broadcast_to(np.float32(0), leaf.shape), leaf).shape)
            in_file, in_net = ("x".join(map(str, shape)) for shape in shapes)
            wrong.append(f"{source} is {in_file}, the net's is {in_net}")
            continue
        node = variables
        for part in leaf.path[:-1]:
            node = node.setdefault(part, {})
        node[leaf.path[-1]] = converted
    heads = [n for n in sources if n.startswith(AUXILIARY)]
    if getattr(model, "auxiliary", True) is False:
        for name in heads:
            del sources[name]
    left = sorted(name for theirs, name in sources.items() if not theirs.endswith(UNREAD))
    differences = [*wrong, *(f"{name} is not in the file" for name in missing)]
    differences += [f"{name} is in the file alone" for name in left]
    differences += unusable
    if differences:
        cause = "The file has values that no net can have."
        if missing or left or wrong:
            shapes_by_name = {
                known: np.shape(state_dict[name])
                for name, known in as_torchvision(state_dict).items()
            }
            told = cause_of(shapes_by_name, state_dict_shapes(model, image_shape))
            cause = told or f"The weights do not fit this {type(model).__name__}."
        raise MisfitError(cause, differences)
    return variables


def state_dict_shapes(
    model: nn.Module, image_shape: tuple[int, int, int] = (224, 224, 3)
) -> dict[str, tuple[int, ...]]:
    """Return torchvision's name -> shape of all arrays of a net."""
    return {
        leaf.name: _theirs(np.broadcast_to(np.float32(0), leaf.shape), leaf).shape
        for leaf in leaves_of(model, image_shape)
    }


def with_channels(state_dict: Arrays, channels: int) -> dict[str, np.ndarray]:
    """Return weights whose first convolution takes images of other channels, as timm adapts it.

    For grey images the kernels of the colours are added up, so that a grey image answers as the
    same image in three equal channels does (timm's ``adapt_input_conv``).

    Raises:
        UserError: the first convolution is neither of three channels nor of one.
    """
    name = next((name for name in FIRST if name in state_dict), None)
    if name is None or channels != 1:
        raise UserError(f"channels={channels}: a first convolution of 3 channels is adapted to 1.")
    kernel = np.asarray(state_dict[name], np.float32)
    if kernel.shape[1] == channels:
        return dict(state_dict)
    return {**state_dict, name: kernel.sum(axis=1, keepdims=True)}


def _ours(array: np.ndarray, leaf: Leaf) -> np.ndarray | None:
    """Convert the layout of PyTorch's array to ours; None if it has another number of values."""
    if leaf.path[-1] != "kernel":
        return array.reshape(-1) if leaf.name.endswith(LAYER_SCALE) else array
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
    """Convert the variables of a net to torchvision's state dict, float32.

    Args:
        variables: params and batch_stats.
        model: the net.
        image_shape: (height, width, channels) of the images.

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
    """Convert the layout of our array to PyTorch's."""
    if leaf.path[-1] != "kernel":
        return array.reshape(-1, 1, 1) if leaf.name.endswith(LAYER_SCALE) else array
    if array.ndim == 4:
        return np.ascontiguousarray(array.transpose(3, 2, 0, 1))
    places = array.reshape(-1, leaf.channels or leaf.shape[0], leaf.shape[1])
    sides = (1, 1) if POINTWISE.search(leaf.name) else ()
    ours = np.ascontiguousarray(places.transpose(2, 1, 0))
    return ours.reshape(leaf.shape[1], leaf.shape[0], *sides)
