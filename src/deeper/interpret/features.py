"""A layer's outputs for inputs, and for every example of a data set."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from deeper.errors import UserError
from deeper.interpret.traced_net import TracedNet, listed


class Stored(Protocol):
    """Examples as stored: an array, or a source that decodes photographs on demand."""

    def __len__(self) -> int:
        """Return the number of examples."""

    def __getitem__(self, which: Any, /) -> Any:
        """Return a slice of them as an array."""


Apply = Callable[[Any, Any], Float[Array, "batch ..."]]  # (variables, inputs) -> outputs


def inputs_of(model: nn.Module, layer: str) -> Apply:
    """Return (variables, inputs of the net) -> the input of a layer that the net calls itself."""

    def apply(variables: Any, inputs: Any) -> Any:
        captured = []

        def capture(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            module = context.module
            if module.name == layer and isinstance(module.parent, type(model)):
                captured.append(args[0])
            return call(*args, **kwargs)

        with nn.intercept_methods(capture):
            model.apply(variables, inputs, train=False)
        return captured[0]

    return apply


def outputs_of(model: nn.Module, layer: str) -> Apply:
    """Return (variables, inputs of the net) -> a layer's output.

    Args:
        model: the net.
        layer: a module's path, or the name of a stage.

    Raises:
        UserError: when it is called and there is no such layer.
    """

    def apply(variables: Any, inputs: Any) -> Any:
        _, captured = model.apply(
            variables, inputs, train=False, capture_intermediates=True, mutable=["intermediates"]
        )
        outputs = {}
        for path, leaf in jax.tree.leaves_with_path(captured["intermediates"]):
            names = [entry.key for entry in path if hasattr(entry, "key")]
            names = [name for name in names if name != "__call__"]
            if names:
                outputs["/".join(names)] = leaf
        for name in (layer, f"{layer}_out"):
            if name in outputs:
                return outputs[name]
        raise UserError(f"There is no layer {layer}; there are {listed(sorted(outputs))}.")

    return apply


def stages(model: nn.Module, variables: Any, inputs: Any) -> dict[str, Array]:
    """Return what a net's stages make of inputs: stage -> maps, in the order of computation.

    Of a net that names no stages: the last maps of each size, by layer.

    Args:
        model: the net.
        variables: params and batch_stats.
        inputs: as the net takes them (images normalised), with a batch axis.
    """
    inputs = jnp.asarray(inputs)
    net = TracedNet(model, variables, jax.ShapeDtypeStruct(inputs.shape[1:], inputs.dtype))
    outputs = net(inputs, net.stages)
    return {name.removesuffix("_out"): outputs[name] for name in net.stages}


def channel_means(outputs: Float[Array, "batch ... channels"]) -> Float[Array, "batch channels"]:
    """Return maps averaged over their places (all axes between the first and the last)."""
    return outputs.mean(tuple(range(1, outputs.ndim - 1))) if outputs.ndim > 2 else outputs


def extract(
    apply: Apply,
    variables: Any,
    images: Stored | Mapping[str, Stored],
    normalise: Callable[[Any], Any],
    *,
    batch_size: int,
    place: Callable[[Any], Any] = jnp.asarray,
    progress: Callable[[int], None] = lambda done: None,
) -> Float32[np.ndarray, "n features"]:
    """Return the features of all examples; maps are averaged over their places.

    Args:
        apply: from `inputs_of` or `outputs_of`.
        variables: params and batch_stats, on the devices to which ``place`` moves the examples.
        images: examples as stored; or columns of them, name -> values.
        normalise: stored examples -> inputs of the net.
        batch_size: examples at a time.
        place: puts a batch on the devices.
        progress: called with the examples done.
    """

    @jax.jit
    def features(variables, batch):
        outputs = channel_means(apply(variables, normalise(batch)))
        return outputs.reshape(len(outputs), -1).astype(jnp.float32)

    def filled(part: Any) -> np.ndarray:
        """Return a part of batch_size examples; the first is repeated to fill it up."""
        rows = np.asarray(part)
        return np.concatenate([rows, np.repeat(rows[:1], batch_size - len(rows), axis=0)])

    parts, count = [], len(jax.tree.leaves(images)[0])
    for first in range(0, count, batch_size):
        end = min(first + batch_size, count)
        batch = jax.tree.map(lambda column, a=first, b=end: filled(column[a:b]), images)
        parts.append(np.asarray(features(variables, jax.tree.map(place, batch)))[: end - first])
        progress(end)
    return np.concatenate(parts)


def cached(
    directory: Path, depends_on: Sequence[Any], compute: Callable[[], np.ndarray]
) -> Float32[np.ndarray, "n features"]:
    """Return features from the cache, or compute them and add them to it.

    Args:
        directory: of the cache.
        depends_on: arrays and texts that the features are a function of; their hash is the key.
        compute: returns the features.
    """
    digest = hashlib.sha256()
    for value in depends_on:
        data = value.encode() if isinstance(value, str) else np.ascontiguousarray(value)
        digest.update(str(getattr(value, "shape", len(data))).encode())
        digest.update(data)
    path = directory / f"{digest.hexdigest()[:32]}.npy"
    try:
        return np.load(path)
    except (OSError, ValueError, EOFError):
        features = compute()
    directory.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    with part.open("wb") as file:
        np.save(file, features)
    part.replace(path)  # atomically
    return features
