"""The training step of a run, compiled for devices that are not there.

XLA's compilers for GPUs and TPUs need no device, but their packages: the extras cuda and tpu. So a
machine without an accelerator can tell whether a run fits one, which kernels its step starts, and
what the step takes at least.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import NamedSharding, PartitionSpec

from deeper.config.schema import RunConfig
from deeper.errors import UserError
from deeper.models.initializers import shapes_of
from deeper.profile.compiled_program import Program, read_program
from deeper.run import build
from deeper.run.cost import PASSES, cost_of, train_size, views
from deeper.run.dataset import open_splits
from deeper.tasks.task import Task
from deeper.train.data_parallel import DATA_AXIS, check_divisible, data_mesh, parallelise
from deeper.train.device_feed import OWN, Resident, Streamed
from deeper.train.state import State
from deeper.train.step import make_step, many_steps
from deeper.xla_flags import GPU_FLAG, GRAPH_FLAG

# Of one H200 what XLA's compiler asks for, from NVIDIA's data sheet and what the driver tells.
_H200 = """
gpu_device_info {
  core_count: 132  fpus_per_core: 128  clock_rate_ghz: 1.98
  threads_per_warp: 32  threads_per_block_limit: 1024  threads_per_core_limit: 2048
  thread_dim_limit_x: 1024  thread_dim_limit_y: 1024  thread_dim_limit_z: 64
  block_dim_limit_x: 2147483647  block_dim_limit_y: 65535  block_dim_limit_z: 65535
  registers_per_core_limit: 65536  registers_per_block_limit: 65536
  shared_memory_per_core: 233472  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  memory_bandwidth: 4800000000000  device_memory_size: 151397597184  l2_cache_size: 52428800
  device_address_bits: 64  device_vendor: "NVIDIA Corporation"  name: "NVIDIA H200"
  cuda_compute_capability { major: 9 feature_extension: ACCELERATED_FEATURES }
  driver_version: "13.0.0"  runtime_version: "13.0.0"  compile_time_toolkit_version: "13.0.0"
  dnn_version: "9.10.0"  device_interconnect_info { active_links: 18 }
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 patch: 0 }
device_description_str: "NVIDIA H200"
"""


@dataclass(frozen=True)
class Kind:
    """A kind of device.

    Attributes:
        title: what it is called.
        extra: of this package, that has its compiler.
        memory: bytes of one device.
        bandwidth: bytes a second, of its memory.
        peaks: multiplications and additions a second by `train.dtype`; float32 as JAX multiplies
            by default.
        devices: that a run takes, by default.
    """

    title: str
    extra: str
    memory: float
    bandwidth: float
    peaks: Mapping[str, float]
    devices: int


KINDS = {
    # NVIDIA H200 data sheet, dense: half of the figures with sparsity; TF32 for float32.
    "h200": Kind("H200", "cuda", 141e9, 4.8e12, {"bfloat16": 989.5e12, "float32": 494.5e12}, 1),
    # Google Cloud documentation, TPU v5e: a chip. One pass of bfloat16 for float32.
    "v5e": Kind("TPU v5e", "tpu", 16 * 2**30, 819e9, {"bfloat16": 197e12, "float32": 197e12}, 4),
}


@dataclass(frozen=True)
class Compiled:
    """A compiled step.

    Attributes:
        kind: the devices.
        devices: how many.
        program: what one device does in a step.
        memory: bytes that one device needs at its peak: state, data, temporary values.
        data: bytes of them that are the examples of a call, or the data set.
        flops: multiplications and additions of one device's part of a step.
        dtype: of the computation.
    """

    kind: Kind
    devices: int
    program: Program
    memory: int
    data: int
    flops: float
    dtype: str

    @property
    def fits(self) -> bool:
        """Whether a device has the memory."""
        return self.memory <= self.kind.memory

    @property
    def seconds(self) -> float:
        """The least that a step takes, by the data sheet: multiplying or moving all of it."""
        multiplying = self.flops / self.kind.peaks[self.dtype]
        return max(multiplying, self.program.traffic / self.kind.bandwidth)


def compile_for(config: RunConfig, name: str) -> Compiled:
    """Compile a run's training step. The process uses no accelerator from then on.

    Args:
        config: of the run; with ``train.devices`` that many share the batch. Of a run in phases
            the first is compiled.
        name: of `KINDS`.

    Raises:
        UserError: the compiler's package is not there, or the batch does not divide.
    """
    kind = KINDS[name]
    jax.config.update("jax_platforms", "cpu")  # or JAX looks for a device, and complains
    devices = config.train.devices or kind.devices
    check_divisible(config.train.batch_size, devices, config.train.accumulate)
    mesh = data_mesh(_devices(name, kind, devices))
    plan = build.make_plan(config, train_size(config))
    phase, settings = plan.phases[0], plan.settings
    task = build.task_of(config)
    step = make_step(
        plan.model,
        phase,
        task,
        steps=settings.steps,
        accumulate=settings.accumulate,
        ema_decay=settings.ema_decay,
    )
    whole = NamedSharding(mesh, PartitionSpec())
    split = NamedSharding(mesh, PartitionSpec(None, DATA_AXIS))
    source, feed, take = _data(config, task, plan)
    arguments = (
        *(_placed(tree, whole) for tree in (_state(config, plan), source)),
        _placed(feed, split),
        _placed(jax.ShapeDtypeStruct((), np.int32), whole),
    )
    call = parallelise(many_steps(step, take), mesh, "shard_map", donate_first=True)
    compiled = call.lower(*arguments).compile(compiler_options=_options(kind))  # type: ignore[attr-defined]
    sizes = compiled.memory_analysis()
    summary, images = plan.summary, settings.batch_size * views(config)
    return Compiled(
        kind=kind,
        devices=devices,
        program=read_program(compiled.as_text()),
        memory=sizes.argument_size_in_bytes
        + sizes.output_size_in_bytes
        - sizes.alias_size_in_bytes
        + sizes.temp_size_in_bytes,
        data=_bytes(source) + _bytes(feed) // devices,
        flops=2 * PASSES * summary.macs * images / devices,
        dtype=config.train.dtype,
    )


def rows_of(config: RunConfig, found: Compiled) -> list[tuple[str, str]]:
    """Return names and values of the properties of a compiled step, for a table."""
    program, giga = found.program, 1e9
    fits = "fits" if found.fits else "does not fit"
    predicted = cost_of(config, {}, devices=found.devices).memory + found.data
    collectives = program.collectives
    rate = config.train.batch_size / found.seconds
    return [
        ("step", f"{config.label}, batch {config.train.batch_size}, {found.dtype}"),
        ("devices", f"{found.devices} x {found.kind.title}; the rows below are for one device"),
        ("memory", f"{found.memory / giga:.2f} of {found.kind.memory / giga:.0f} GB: {fits}"),
        ("predicted", f"{predicted / giga:.2f} GB, by mode=dry, with the examples"),
        ("kernels", f"{program.kernels:,}; {len(program.convolutions)} of them are convolutions"),
        ("traffic", f"{program.traffic / giga:.2f} GB between kernels and memory"),
        (
            "collectives",
            f"{len(collectives)}, with {sum(collectives) / giga:.3f} GB; "
            f"{program.beside_collectives} kernels are started meanwhile",
        ),
        ("minimum", f"{1e3 * found.seconds:.2f} ms a step (data sheet): {rate:,.0f} examples/s"),
    ]


def _devices(name: str, kind: Kind, count: int) -> list[Any]:
    """Return devices that can be compiled for, but not be run on."""
    try:
        if kind.extra == "cuda":
            topology = topologies.get_topology_desc(
                name, platform="cuda", target_config=_H200, topology=f"1x1x{count}"
            )
        else:
            # Or libtpu asks the cloud's metadata service, for minutes, which TPU this is.
            os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
            topology = topologies.get_topology_desc(f"{name}:2x2", platform="tpu")
    except Exception as error:  # whatever a missing or unfit plugin raises
        raise UserError(
            f"compile={name}: the compiler for it is not installed, or does not start; "
            f"`scripts/setup {kind.extra}` installs it. ({str(error).strip().split(chr(10))[0]})"
        ) from error
    if count > len(topology.devices):
        raise UserError(
            f"train.devices={count}: {name} is compiled for {len(topology.devices)} at most."
        )
    return topology.devices[:count]


def _options(kind: Kind) -> dict[str, Any]:
    """Return the compiler's flags: those that a run has."""
    if kind.extra != "cuda":
        return {}
    options: dict[str, Any] = {}
    for flag in (GPU_FLAG, GRAPH_FLAG):
        name, _, value = flag.removeprefix("--").partition("=")
        options[name] = True if value == "true" else value
    # Triton's matrix products are chosen by timing them, which needs a device.
    return options | {"xla_gpu_enable_triton_gemm": False}


def _state(config: RunConfig, plan: build.Plan) -> State:
    """Return the shapes of the state of training."""
    variables = shapes_of(plan.model, build.example_of(config))
    params, statistics = variables["params"], variables.get("batch_stats", {})
    return State(
        step=jax.ShapeDtypeStruct((), np.int32),
        seed=jax.ShapeDtypeStruct((), np.uint32),
        params=params,
        batch_stats=statistics,
        opt_state=jax.eval_shape(plan.phases[0].optimizer.init, params),
        ema=None if config.train.ema is None else (params, statistics),
    )


def _data(config: RunConfig, task: Task, plan: build.Plan) -> tuple[Any, Any, Any]:
    """Return the shapes of what stays on the devices and of what is sent for a call, and `take`.

    Photographs of any size are sent; other examples stay, unless data.on_device=false.
    """
    capacity, rows = plan.settings.steps_per_call, plan.settings.batch_size
    columns = _columns(config)
    if config.data.of_any_size or config.data.on_device is False:

        def of_a_call(*each: int) -> dict[str, Any]:
            return {
                name: jax.ShapeDtypeStruct((capacity, rows, *each, *shape), dtype)
                for name, (shape, dtype) in columns.items()
            }

        mask = {"mask": jax.ShapeDtypeStruct((capacity, rows), np.bool_)}
        streams = {name: of_a_call(count) for name, count in task.streams.items()}
        return (), of_a_call() | streams | mask, Streamed.take
    source = {
        name: jax.ShapeDtypeStruct((plan.train_size, *shape), dtype)
        for name, (shape, dtype) in columns.items()
    }
    numbers = {OWN: (), **{name: (count,) for name, count in task.streams.items()}}
    feed = {
        name: jax.ShapeDtypeStruct((capacity, rows, *each), np.int32)
        for name, each in numbers.items()
    }
    return source, feed, Resident.take


def _columns(config: RunConfig) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Return shape and type of each column of an example, as it is stored."""
    if config.task is None:
        return {"image": (tuple(config.data.image_shape), np.uint8), "label": ((), np.int32)}
    columns = open_splits(config).train.columns
    first = {name: np.asarray(column[:1])[0] for name, column in columns.items()}
    return {name: (value.shape, value.dtype) for name, value in first.items()}


def _placed(tree: Any, sharding: NamedSharding) -> Any:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
    )


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
