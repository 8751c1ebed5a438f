"""The only place that knows how a computation spreads over devices.

A step is written for one device's shard and knows the name of the data axis, nothing more. Here
it is wrapped for all devices: by ``jax.jit`` of ``jax.shard_map``, or by ``jax.pmap``, which gives
the same numbers. State and results are replicated; batches are split along their rows.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from deeper.errors import UserError

Form = Literal["shard_map", "pmap"]
DATA_AXIS = "data"


def data_mesh(devices: Sequence[jax.Device]) -> Mesh:
    """Return a mesh of one axis, ``data``, over the devices."""
    return jax.make_mesh(
        (len(devices),), (DATA_AXIS,), axis_types=(AxisType.Auto,), devices=devices
    )


def check_divisible(batch_size: int, devices: int, accumulate: int = 1) -> None:
    """Raise a UserError unless every device gets the same number of whole micro-batches."""
    if batch_size % (devices * accumulate):
        share = f"{devices} devices" + (f" x accumulate={accumulate}" if accumulate > 1 else "")
        below = batch_size - batch_size % (devices * accumulate)
        raise UserError(
            f"train.batch_size={batch_size} does not divide by {share}: take "
            f"{below or devices * accumulate} or {below + devices * accumulate}, or set "
            "train.devices."
        )


def parallelise(
    function: Callable[..., tuple[Any, ...]],
    mesh: Mesh,
    form: Form,
    *,
    donate_first: bool,
) -> Callable[..., tuple[Any, ...]]:
    """Compile ``function(state, source, feed, count)`` over the devices of a mesh.

    Args:
        function: works on one device's shard; its results are the same on every device.
        mesh: from `data_mesh`.
        form: which of JAX's two wrappers.
        donate_first: whether the state's buffers may be reused for the result.

    Returns:
        A function of (state, source, feed, count): state, source and count go whole to every
        device; each leaf of feed, shaped (steps, rows, ...), is split along its rows.
    """
    donate = (0,) if donate_first else ()
    if form == "shard_map":
        sharded = jax.shard_map(
            function,
            mesh=mesh,
            in_specs=(P(), P(), P(None, DATA_AXIS), P()),
            out_specs=P(),
            # Gradients stay each device's own until the step's one all-reduce.
            check_vma=False,
        )
        return jax.jit(sharded, donate_argnums=donate)
    if form != "pmap":
        raise UserError(f"train.parallel={form} is unknown; choose shard_map or pmap.")
    devices = mesh.devices.size
    mapped = jax.pmap(
        function,
        axis_name=DATA_AXIS,
        in_axes=(None, None, 1, None),
        out_axes=None,
        devices=list(mesh.devices.flat),
    )

    def call(state, source, feed, count):
        rows_by_device = jax.tree.map(
            lambda leaf: leaf.reshape(leaf.shape[0], devices, -1, *leaf.shape[2:]), feed
        )
        return mapped(state, source, rows_by_device, count)

    return call


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Put a tree of host arrays whole on every device of the mesh."""
    return jax.device_put(tree, NamedSharding(mesh, P()))


def first_row(rows: int) -> jax.Array:
    """Return the global number of this device's first row, given its number of rows."""
    return jax.lax.axis_index(DATA_AXIS) * rows


def devices() -> int:
    """Return the number of devices that share the batch."""
    return jax.lax.axis_size(DATA_AXIS)


def mean_over_devices(tree: Any) -> Any:
    """Average a tree of float32 arrays over the devices with a single all-reduce."""
    if jax.lax.axis_size(DATA_AXIS) == 1:
        return tree
    flat, unravel = ravel_pytree(tree)
    return unravel(jax.lax.pmean(flat, DATA_AXIS))


def sum_over_devices(tree: Any) -> Any:
    """Add up a tree of arrays of one type over the devices with a single all-reduce."""
    if jax.lax.axis_size(DATA_AXIS) == 1:
        return tree
    flat, unravel = ravel_pytree(tree)
    return unravel(jax.lax.psum(jnp.asarray(flat), DATA_AXIS))
