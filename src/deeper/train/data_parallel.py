"""Data parallelism over the devices of one or several processes.

A step is written for the shard of one device, and uses the name of the data axis. `parallelise`
compiles it for all devices, with ``jax.shard_map`` under ``jax.jit``, or with ``jax.pmap``, which
gives the same numbers. State and results are replicated; batches are split along their rows.

With several processes, each computes its own rows of a batch (`own_rows`), and `split_rows` makes
arrays over all devices from them.
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
# Bytes of an exchange between devices, as in PyTorch's DistributedDataParallel: large enough for
# the bandwidth, small enough that the first are under way while earlier layers compute gradients.
BUCKET = 25 * 2**20


def data_mesh(devices: Sequence[jax.Device]) -> Mesh:
    """Return a mesh with one axis, ``data``, in which the devices of a process are adjacent."""
    ordered = sorted(devices, key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(ordered), (DATA_AXIS,), axis_types=(AxisType.Auto,))


def check_divisible(batch_size: int, devices: int, accumulate: int = 1) -> None:
    """Raise a UserError unless micro-batches divide evenly over the devices."""
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
    """Compile ``function(state, source, feed, count)`` for the devices of a mesh.

    Args:
        function: a function on the shard of one device, with equal results on every device.
        mesh: mesh from `data_mesh`.
        form: shard_map or pmap.
        donate_first: allow the buffers of the state to be reused for the result.

    Returns:
        A function of (state, source, feed, count). State, source and count are replicated; each
        leaf of feed, (steps, rows, ...) with the rows of this process, is split along its rows.

    Raises:
        UserError: the form is unknown, or is pmap with several processes.
    """
    donate = (0,) if donate_first else ()
    if form == "shard_map":
        sharded = jax.shard_map(
            function,
            mesh=mesh,
            in_specs=(P(), P(), P(None, DATA_AXIS), P()),
            out_specs=P(),
            # Gradients differ between the devices until the step averages them.
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
    """Copy a tree of host arrays to every device of the mesh.

    Each process copies its own arrays to its own devices; they have to be equal in all processes.
    """
    sharding = NamedSharding(mesh, P())
    if _one_process(mesh):
        return jax.device_put(tree, sharding)

    def put(leaf):
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return leaf  # it is on all devices already
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(put, tree)


def own_rows(mesh: Mesh, rows: int) -> slice:
    """Return the rows of a batch with ``rows`` rows that this process computes."""
    local = [i for i, d in enumerate(mesh.devices.flat) if d.process_index == jax.process_index()]
    share = rows // mesh.devices.size
    return slice(local[0] * share, (local[-1] + 1) * share)


def split_rows(feed: Any, mesh: Mesh) -> Any:
    """Make arrays over all devices from leaves (steps, rows of this process, ...).

    The transfer is asynchronous. Leaves that are JAX arrays already are returned as they are.
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
    """A non-blocking any-reduce over all processes: each call returns the previous call's result.

    All processes have to call it equally often.

    Args:
        mesh: the devices.
    """

    def __init__(self, mesh: Mesh):
        self._mesh = mesh
        self._any = jax.jit(jnp.any, out_shardings=NamedSharding(mesh, P()))
        self._result: jax.Array | None = None

    def __call__(self, value: bool) -> bool:
        """Return whether any process passed true at the previous call; False at the first call."""
        previous = self._result
        local = np.full(len(self._mesh.local_devices), value)
        by_device = NamedSharding(self._mesh, P(DATA_AXIS))
        self._result = self._any(jax.make_array_from_process_local_data(by_device, local))
        return previous is not None and bool(previous)


def from_first(value: int) -> int:
    """Return the value of the first process in all processes (broadcast)."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def first_row(rows: int) -> jax.Array:
    """Return the global number of the first of this device's ``rows`` rows."""
    return jax.lax.axis_index(DATA_AXIS) * rows


def devices() -> int:
    """Return the number of devices that share the batch."""
    return jax.lax.axis_size(DATA_AXIS)


def mean_over_devices(tree: Any) -> Any:
    """Average a tree of float32 arrays over the devices.

    The leaves are concatenated to vectors of about `BUCKET` bytes, with an all-reduce each. They
    are taken from the last on, whose gradients in most nets are there first.
    """
    if jax.lax.axis_size(DATA_AXIS) == 1:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    for bucket in buckets([leaf.size * leaf.dtype.itemsize for leaf in leaves], BUCKET):
        flat, unravel = ravel_pytree([leaves[i] for i in bucket])
        for i, mean in zip(bucket, unravel(jax.lax.pmean(flat, DATA_AXIS)), strict=True):
            leaves[i] = mean
    return jax.tree.unflatten(structure, leaves)


def buckets(sizes: Sequence[int], limit: int) -> list[list[int]]:
    """Return the numbers of neighbours whose sizes add up to a limit at most, from the last on.

    Args:
        sizes: of each; one that is above the limit is alone.
        limit: of a bucket.
    """
    groups: list[list[int]] = []
    room = 0
    for number in reversed(range(len(sizes))):
        if not groups or sizes[number] > room:
            groups.append([])
            room = limit
        groups[-1].append(number)
        room -= sizes[number]
    return groups


def sum_over_devices(tree: Any) -> Any:
    """Add a tree of arrays of one dtype over the devices, with a single all-reduce."""
    if jax.lax.axis_size(DATA_AXIS) == 1:
        return tree
    flat, unravel = ravel_pytree(tree)
    return unravel(jax.lax.psum(jnp.asarray(flat), DATA_AXIS))


def everywhere(value: bool) -> bool:
    """Return whether a value is true in all processes, which wait for each other."""
    if jax.process_count() == 1:
        return value
    return bool(multihost_utils.process_allgather(np.asarray(value)).all())
