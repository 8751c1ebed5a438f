"""The cost of a run: memory, by the one formula that all commands use, and hours.

Nothing is read, compiled or trained; nets are traced with shapes alone.

Memory on one device = 4 bytes * parameters * (2 + optimizer + average) + rows * activations, where

- 2 is for the parameters and their gradients, ``optimizer`` is the number of values that the
  optimizer keeps for each parameter, and ``average`` is 1 with ``train.ema`` and 0 without;
- ``rows`` is the number of examples of a micro-batch on the device, counting all views of
  unlabelled ones;
- ``activations`` are the bytes that the forward pass of one example keeps for the backward pass.

The compiler's own buffers come on top; it may also recompute activations to save memory.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import psutil

from deeper.config.data_sections import ImageFolder, OwnDataset
from deeper.config.instantiate import build as construct
from deeper.config.schema import RunConfig
from deeper.data.dataset import known_size, prepared_directory
from deeper.errors import UserError
from deeper.profile.macs import Summary, summarise
from deeper.run import build
from deeper.run.build import Plan
from deeper.run.dataset import check_kept_classes, open_splits, view_of, whole_classes

GIB = 2**30
PASSES = 3  # forward, and the gradients by activations and by parameters
# Lower bound of the share of activations that the compiler keeps; it may recompute the others.
LEAST_KEPT = 0.5
# Photographs to train on, of published sets of photographs with boxes.
PUBLISHED = {"coco/2017": 118_287, "voc/2007": 5_011, "voc07": 5_011}


@dataclass(frozen=True)
class Cost:
    """The cost of a run.

    Attributes:
        plan: the run.
        images: number of images that pass through the net in training, counting all views.
        memory: bytes on one device that takes the whole batch.
        hours: accelerator -> hours on one of them.
    """

    plan: Plan
    images: int
    memory: int
    hours: dict[str, float]


def train_size(config: RunConfig) -> int:
    """Return the number of training examples, as far as it is known without the data."""
    data = config.data
    if isinstance(data, OwnDataset):
        size = _stated_size(data)
        if size is None or config.train.steps is None or data.examples or data.folds:
            return len(open_splits(config).train)
        size -= data.validation
        return size if data.limit is None else min(size, data.limit)
    if data.examples is not None:
        return data.examples
    in_folder = isinstance(data, ImageFolder)
    size = known_size(data.name, "train", Path(data.dir), own=in_folder)
    if data.keep_classes is not None and (classes := whole_classes(data)):
        size = size * len(data.keep_classes) // classes
    size -= data.validation
    return size if data.limit is None else min(size, data.limit)


def _stated_size(data: OwnDataset) -> int | None:
    """Return the number of training examples of a data set that is not prepared; None if unknown.

    It is that of a published one, or what the call that makes the data set is to draw.
    """
    folder = data.call.get("folder", data.name)
    if data.dir is None or prepared_directory(str(folder), Path(data.dir)) is not None:
        return None
    call: Mapping[str, Any] = data.prepare or {}
    drawn = call.get("train")
    return PUBLISHED.get(data.name, drawn if isinstance(drawn, int) else None)


def cost_of(config: RunConfig, known: dict[str, Summary], devices: int = 1) -> Cost:
    """Compute the cost of a run.

    Args:
        config: config of the run.
        known: cache of summaries by config, to which this net is added.
        devices: that share a step's examples.
    """
    view_of(config.data)  # a dry run reports mistakes too
    check_kept_classes(config.data)
    values = config.plain()
    key = json.dumps([values["model"], config.data.example, config.transfer.truncate_at])
    if key not in known:
        known[key] = summarise(build.build_model(config), build.example_of(config))
    plan = build.make_plan(config, train_size(config), known[key])
    images = plan.settings.steps * plan.settings.batch_size * views(config)
    flops = 2.0 * PASSES * plan.summary.macs * images
    return Cost(
        plan=plan,
        images=images,
        memory=training_bytes(config, plan.summary, devices),
        hours={
            name: flops / (peak[config.train.dtype] * (config.mode.utilisation or 1)) / 3600
            for name, peak in (config.mode.peaks or {}).items()
        },
    )


def views(config: RunConfig) -> int:
    """Return the number of images that pass through the net per labelled image of a training
    batch.
    """
    consistency = config.train.consistency
    return 1 if consistency is None else 1 + 2 * consistency.ratio


def training_bytes(
    config: RunConfig, summary: Summary, devices: int = 1, batch_size: int | None = None
) -> int:
    """Return the memory of training on one device, in bytes.

    Args:
        config: config of the run.
        summary: summary of its net.
        devices: that share a step's examples.
        batch_size: batch size instead of the config's.
    """
    batch_size = config.train.batch_size if batch_size is None else batch_size
    rows = math.ceil(batch_size * views(config) / config.train.accumulate / devices)
    return round(4 * _copies(config) * summary.parameters) + rows * summary.residual_bytes


def _copies(config: RunConfig) -> float:
    """Return the number of values stored per parameter."""
    return 2 + optimizer_values(config) + (config.train.ema is not None)


def optimizer_values(config: RunConfig) -> float:
    """Return the number of values that the optimizer stores per parameter."""
    optimizer = construct(config.optimizer).transformation(lambda step: 0.0)
    layer = {"layer": {"kernel": jax.ShapeDtypeStruct((256, 256), jnp.float32)}}
    state = jax.tree.leaves(jax.eval_shape(optimizer.init, layer))
    return sum(leaf.size for leaf in state if leaf.ndim) / 256**2


def check_memory(config: RunConfig, summary: Summary, devices: Sequence[Any]) -> None:
    """Raise a UserError if a run cannot fit the memory of its devices.

    A run close to the limit passes. Runs with frozen layers are not checked, since they keep fewer
    activations than the formula says.

    Args:
        config: config of the run.
        summary: summary of its net.
        devices: that share a step's examples.
    """
    if config.transfer.phases:
        return
    room, count = memory_of(devices), len(devices)
    needed = training_bytes(config, summary, count)
    fixed = training_bytes(config, summary, count, batch_size=0)
    if fixed + LEAST_KEPT * (needed - fixed) <= room:
        return
    batch_size = config.train.batch_size
    message = (
        f"train.batch_size={batch_size} cannot fit: training needs about {needed / GIB:,.1f} GiB "
        f"on each device, which has {room / GIB:,.1f} GiB ({fixed / GIB:,.1f} GiB for parameters, "
        f"gradients and optimizer, the rest for activations). "
    )
    unit = count * config.train.accumulate
    rows = int((room - fixed) / (summary.residual_bytes * views(config)))
    if rows < 1:
        raise UserError(f"{message}No batch fits: take a smaller net, or more memory.")
    parts = _parts(config, summary, devices)
    accumulate = f", or train.accumulate={parts}" if parts else ""
    raise UserError(f"{message}train.batch_size={rows * unit} fits{accumulate}.")


def _parts(config: RunConfig, summary: Summary, devices: Sequence[Any]) -> int | None:
    """Return the smallest number of micro-batches per step that fits; None if there is none."""
    fixed = training_bytes(config, summary, batch_size=0)
    rows = (memory_of(devices) - fixed) / (summary.residual_bytes * views(config))
    share = config.train.batch_size // len(devices)
    least = math.ceil(share / rows)
    return next((parts for parts in range(least, share + 1) if share % parts == 0), None)


def memory_of(devices: Sequence[Any]) -> int:
    """Return the memory of each device in bytes; CPU devices share the machine's memory."""
    here = [device for device in devices if device.process_index == jax.process_index()]
    limits = [(device.memory_stats() or {}).get("bytes_limit") for device in here]
    known = [limit for limit in limits if limit]
    return min(known) if known else psutil.virtual_memory().total // len(here)
