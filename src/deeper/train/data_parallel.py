"""The only place that knows how a computation spreads over devices.

A step is written for one device's shard and knows the name of the data axis, nothing more. Here
it is wrapped for all devices: by ``jax.jit`` of ``jax.shard_map``, or by ``jax.pmap``, which gives
the same numbers. State and results are replicated; batches are split along their rows.

The devices may belong to several processes, each on a host of its own: each one computes its own
rows of a batch (`own_rows`), and here they become arrays over all devices.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from deeper.errors import UserError

Form = Literal["shard_map", "pmap"]
DATA_AXIS = "data"


def data_mesh(devices: Sequence[jax.Device]) -> Mesh:
    """Return a mesh of one axis, ``data``, over the devices, those of a process side by side."""
    ordered = sorted(devices, key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(ordered), (DATA_AXIS,), axis_types=(AxisType.Auto,))


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
        device; each leaf of feed, shaped (steps, rows, ...) with the rows of this process, is split
        along its rows.
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
        compiled = jax.jit(sharded, donate_argnums=donate)
        if _one_process(mesh):
            return compiled
        return lambda state, source, feed, count: compiled(
            state, source, split_rows(feed, mesh), count
        )
    if form != "pmap":
        raise UserError(f"train.parallel={form} is unknown; choose shard_map or pmap.")
    if not _one_process(mesh):
        raise UserError("train.parallel=pmap is for one process: choose shard_map for several.")
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
    """Put a tree of host arrays whole on every device of the mesh.

    Of several processes each puts its own copy on its own devices; they have to be equal.
    """
    sharding = NamedSharding(mesh, P())
    if _one_process(mesh):
        return jax.device_put(tree, sharding)

    def put(leaf):
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return leaf  # it is there already
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(put, tree)


def own_rows(mesh: Mesh, rows: int) -> slice:
    """Return which rows of a batch this process computes, given how many the batch has."""
    own = [i for i, d in enumerate(mesh.devices.flat) if d.process_index == jax.process_index()]
    share = rows // mesh.devices.size
    return slice(own[0] * share, (own[-1] + 1) * share)


def split_rows(feed: Any, mesh: Mesh) -> Any:
    """Return arrays over all devices of leaves (steps, this process's rows, ...), as they go.

    What is on the devices already stays as it is.
    """
    sharding = NamedSharding(mesh, P(None, DATA_AXIS))

    def put(leaf):
        if isinstance(leaf, jax.Array):
            return leaf
        return jax.make_array_from_process_local_data(sharding, leaf)

    return jax.tree.map(put, feed)


def _one_process(mesh: Mesh) -> bool:
    return len({device.process_index for device in mesh.devices.flat}) == 1


class Agreement:
    """Asks all processes at once, without waiting for their devices.

    Each call asks, and returns what the call before it found: by then the answer is there. All
    processes have to call it as often.

    Args:
        mesh: the devices.
    """

    def __init__(self, mesh: Mesh):
        self._mesh = mesh
        self._any = jax.jit(jnp.any, out_shardings=NamedSharding(mesh, P()))
        self._found: jax.Array | None = None

    def __call__(self, asked: bool) -> bool:
        """Return whether any process had asked, at the call before this one."""
        found = self._found
        own = np.full(len(self._mesh.local_devices), asked)
        by_device = NamedSharding(self._mesh, P(DATA_AXIS))
        self._found = self._any(jax.make_array_from_process_local_data(by_device, own))
        return found is not None and bool(found)


def from_first(value: int) -> int:
    """Return the first process's value, in all of them."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


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


def everywhere(true: bool) -> bool:
    """Whether it is true in all processes; they wait for each other."""
    if jax.process_count() == 1:
        return true
    return bool(multihost_utils.process_allgather(np.asarray(true)).all())
