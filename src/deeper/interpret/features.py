"""What a layer says of every image of a data set."""

import hashlib
import os
from collections.abc import Callable, Sequence
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
    """Images as stored, uint8 (n, height, width, channels): an array, or what decodes them."""

    def __len__(self) -> int:
        """Return how many there are."""

    def __getitem__(self, which: Any, /) -> Any:
        """Return some."""


Apply = Callable[[Any, Float[Array, "batch height width channels"]], Float[Array, "batch ..."]]


def inputs_of(model: nn.Module, layer: str) -> Apply:
    """Return (variables, normalised images) -> what a layer that the net calls itself is given."""

    def inputs(variables: Any, images: Any) -> Any:
        found = []

        def note(next_function: Any, args: Any, kwargs: Any, context: Any) -> Any:
            module = context.module
            if module.name == layer and isinstance(module.parent, type(model)):
                found.append(args[0])
            return next_function(*args, **kwargs)

        with nn.intercept_methods(note):
            model.apply(variables, images, train=False)
        return found[0]

    return inputs


def outputs_of(model: nn.Module, layer: str) -> Apply:
    """Return (variables, normalised images) -> a layer's output.

    Args:
        model: the net.
        layer: a module's path, or the name of a stage.

    Raises:
        UserError: once it is called: there is no such layer; it says which there are.
    """

    def outputs(variables: Any, images: Any) -> Any:
        _, kept = model.apply(
            variables, images, train=False, capture_intermediates=True, mutable=["intermediates"]
        )
        found = {}
        for path, leaf in jax.tree.leaves_with_path(kept["intermediates"]):
            names = [entry.key for entry in path if hasattr(entry, "key")]
            names = [name for name in names if name != "__call__"]
            if names:
                found["/".join(names)] = leaf
        for name in (layer, f"{layer}_out"):
            if name in found:
                return found[name]
        raise UserError(f"There is no layer {layer}; there are {listed(sorted(found))}.")

    return outputs


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
    images: Stored,
    normalise: Callable[[Any], Any],
    *,
    batch_size: int,
    place: Callable[[Any], Any] = jnp.asarray,
    progress: Callable[[int], None] = lambda done: None,
) -> Float32[np.ndarray, "n features"]:
    """Return features of all images; maps are averaged over their places.

    Args:
        apply: from `inputs_of` or `outputs_of`.
        variables: params and batch_stats, where ``place`` puts the images too.
        images: as stored.
        normalise: stored images -> what the net takes.
        batch_size: images at a time.
        place: puts a batch on the devices.
        progress: told of the images done.
    """

    @jax.jit
    def features(variables, batch):
        found = apply(variables, normalise(batch))
        found = channel_means(found)
        return found.reshape(len(found), -1).astype(jnp.float32)

    parts = []
    for first in range(0, len(images), batch_size):
        batch = np.asarray(images[first : first + batch_size])
        rows = len(batch)
        if rows < batch_size:
            batch = np.concatenate([batch, np.repeat(batch[:1], batch_size - rows, axis=0)])
        parts.append(np.asarray(features(variables, place(batch)))[:rows])
        progress(min(first + batch_size, len(images)))
    return np.concatenate(parts)


def kept(
    directory: Path, facts: Sequence[Any], make: Callable[[], np.ndarray]
) -> Float32[np.ndarray, "n features"]:
    """Return features that were made before of the very same, or make and keep them.

    Args:
        directory: where they are kept.
        facts: arrays and texts that the features are a function of.
        make: makes them.
    """
    digest = hashlib.sha256()
    for fact in facts:
        data = fact.encode() if isinstance(fact, str) else np.ascontiguousarray(fact)
        digest.update(str(getattr(fact, "shape", len(data))).encode())
        digest.update(data)
    path = directory / f"{digest.hexdigest()[:32]}.npy"
    try:
        return np.load(path)
    except (OSError, ValueError, EOFError):
        found = make()
    directory.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    with part.open("wb") as file:
        np.save(file, found)
    part.replace(path)  # whole or not at all
    return found
