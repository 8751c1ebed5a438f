"""How a run's splits are fed to the compiled step: from the devices' memory or from the host.

Of several processes each one feeds its own rows of a batch.
"""

import os
from contextlib import closing
from functools import partial

import jax
import numpy as np
from jax.sharding import Mesh
from omegaconf import DictConfig

from deeper.cli.splits import Splits
from deeper.data.batches import Workers, stream
from deeper.data.order import batch_indices, padded_batches
from deeper.data.photographs import Photographs
from deeper.data.processes import free_memory
from deeper.data.sources import Split
from deeper.errors import UserError
from deeper.train.evaluate import Split as EvaluatedSplit
from deeper.train.feed import Feed, Resident, ResidentPair, Streamed, on_device
from deeper.train.parallel import Form, own_rows

TRAINED_ON = ("train", "unlabelled")
UNLABELLED_SEED = 1 << 32  # keeps the order of the unlabelled images apart from every run's seed

# A data set up to this share of a device's memory lives on the device.
RESIDENT_SHARE = 0.25

# More threads than this wait for Python's lock: experiments/bench/README.md.
THREADS_GAIN_TO = 4
ROOM = 1 << 30  # bytes of shared memory: a container may have next to none


def fits(config: DictConfig, splits: Splits) -> bool:
    """Decide whether the examples live on the devices."""
    wish = config.data.on_device
    if wish not in ("auto", True, False):
        raise UserError(f"data.on_device={wish} is unknown; choose auto, true or false.")
    if isinstance(splits.train.images, Photographs):
        if wish is True:
            raise UserError("data.on_device=true: photographs of any size come from the host.")
        return False
    if wish != "auto":
        return bool(wish)
    parts = (splits.train, splits.validation, splits.test, splits.unlabelled)
    images = [part.images for part in parts if part is not None]
    size = sum(each.nbytes for each in images if not isinstance(each, Photographs))
    memory = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", 8 * 2**30)
    return size <= RESIDENT_SHARE * memory


def workers_of(data: DictConfig) -> Workers:
    """Return who decodes photographs."""
    if data.get("crop") is None:
        return Workers()
    if data.workers is not None and data.workers < 1:
        raise UserError(f"data.workers={data.workers}: give at least 1.")
    processes = data.processes
    if processes not in ("auto", True, False):
        raise UserError(f"data.processes={processes} is unknown; choose auto, true or false.")
    if processes == "auto":
        count = data.workers or len(os.sched_getaffinity(0))
        processes = count > THREADS_GAIN_TO and free_memory() > ROOM
    return Workers(data.workers, processes)


def resident(
    parts: dict[str, Split],
    batch_size: int,
    ratio: int,
    seed: int,
    mesh: Mesh,
    form: Form,
    workers: Workers,
) -> tuple[Feed, dict[str, EvaluatedSplit]]:
    """All splits in one array on the device, so that evaluation is compiled once for all."""
    del form, workers
    stored = {name: part for name, part in parts.items() if name != "shown"}
    source = on_device(
        np.concatenate([part.images for part in stored.values()]),
        np.concatenate([part.labels for part in stored.values()]),
        mesh,
    )
    rows = own_rows(mesh, batch_size)
    offsets, total = {"shown": 0}, 0
    for name, part in stored.items():  # train is first: "shown" is its beginning
        offsets[name] = total
        total += len(part.labels)

    train_size = len(stored["train"].labels)
    evaluated = {}
    for name, part in parts.items():
        if name in TRAINED_ON:
            continue
        numbers, mask = padded_batches(len(part.labels), batch_size)
        numbers = np.where(mask, numbers + offsets[name], -1).astype(np.int32)[:, rows]
        feed = Resident(source, numbers.__getitem__)
        evaluated[name] = EvaluatedSplit(name, feed, len(part.labels), len(numbers))

    def labelled(step):
        return batch_indices(train_size, batch_size, seed, step)[rows]

    if not ratio:
        return Resident(source, labelled), evaluated
    unlabelled = partial(
        batch_indices, len(stored["unlabelled"].labels), batch_size * ratio, seed + UNLABELLED_SEED
    )
    other_rows = own_rows(mesh, batch_size * ratio)

    def both(step):
        return {
            "labelled": labelled(step),
            "unlabelled": unlabelled(step)[other_rows] + np.int32(offsets["unlabelled"]),
        }

    return ResidentPair(source, both), evaluated


def streamed_split(
    name: str, part: Split, batch_size: int, mesh: Mesh, form: Form, workers: Workers
) -> EvaluatedSplit:
    """A split to evaluate, its batches gathered on the host."""
    numbers, mask = padded_batches(len(part.labels), batch_size)
    numbers = np.where(mask, numbers, -1)
    threads, rows = Workers(workers.count), own_rows(mesh, batch_size)
    middles = partial(stream, part, stop=len(numbers), workers=threads, rows=rows)
    feed = Streamed(partial(middles, numbers.__getitem__), mesh, form)
    return EvaluatedSplit(name, feed, len(part.labels), len(numbers))


def streamed(
    parts: dict[str, Split],
    batch_size: int,
    ratio: int,
    seed: int,
    mesh: Mesh,
    form: Form,
    workers: Workers,
) -> tuple[Feed, dict[str, EvaluatedSplit]]:
    """Batches gathered on the host, computed ahead."""
    rows, train = own_rows(mesh, batch_size), parts["train"]

    def order(step):
        return batch_indices(len(train.labels), batch_size, seed, step)

    evaluated = {}
    for name, part in parts.items():
        if name in TRAINED_ON:
            continue
        evaluated[name] = streamed_split(name, part, batch_size, mesh, form, workers)
    training = partial(stream, stop=None, workers=workers, rows=rows)
    if not ratio:
        return Streamed(partial(training, train, order, seed=seed), mesh, form), evaluated
    without, other_rows = parts["unlabelled"], own_rows(mesh, batch_size * ratio)

    def other_order(step):
        return batch_indices(len(without.labels), batch_size * ratio, seed + UNLABELLED_SEED, step)

    def both(first):
        other_seed = seed + UNLABELLED_SEED
        with (
            closing(training(train, order, first, seed=seed)) as labelled,
            closing(
                training(without, other_order, first, seed=other_seed, rows=other_rows)
            ) as unlabelled,
        ):
            for one, other in zip(labelled, unlabelled, strict=True):
                yield one | {"unlabelled": other["image"]}

    return Streamed(both, mesh, form), evaluated
