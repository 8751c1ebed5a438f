"""How a run's splits are fed to the compiled step: from the devices' memory or from the host.

Of several processes each one feeds its own rows of a batch.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from deeper.config.data_sections import OwnDataset
from deeper.config.schema import RunConfig
from deeper.data.dataset import Split
from deeper.data.decode_pool import free_memory
from deeper.data.epoch_order import batch_indices, padded_batches
from deeper.data.host_batches import Workers, stream
from deeper.errors import UserError
from deeper.platform_support import core_count
from deeper.run.dataset import Splits
from deeper.train.data_parallel import Form, own_rows
from deeper.train.device_feed import OWN, Feed, Resident, Streamed, on_device
from deeper.train.evaluate import Split as EvaluatedSplit

# A seed offset for each further stream, so that its order never coincides with any run's.
STREAM_SEED = 1 << 32

# A data set up to this share of a device's memory lives on the device.
RESIDENT_SHARE = 0.25

# More threads than this wait for Python's lock: experiments/bench/README.md.
THREADS_GAIN_TO = 4
ROOM = 1 << 30  # bytes of shared memory: a container may have next to none


def fits(config: RunConfig, splits: Splits) -> bool:
    """Decide whether the examples live on the devices."""
    wish = config.data.on_device
    columns = splits.train.columns.values()
    if not all(isinstance(column, np.ndarray) for column in columns):
        if wish is True:
            raise UserError("data.on_device=true: photographs of any size come from the host.")
        return False
    if wish != "auto":
        return bool(wish)
    parts = (splits.train, splits.validation, splits.test, splits.unlabelled)
    size = sum(
        column.nbytes
        for part in parts
        if part is not None
        for column in part.columns.values()
        if isinstance(column, np.ndarray)
    )
    memory = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", 8 * 2**30)
    return size <= RESIDENT_SHARE * memory


def workers_of(data: Any) -> Workers:
    """Return who decodes photographs; one that its own target opens may say so in the same keys."""
    if data.of_any_size:
        count, processes = data.workers, data.processes
    elif isinstance(data, OwnDataset):
        count, processes = data.call.get("workers"), data.call.get("processes", False)
    else:
        return Workers()
    if processes == "auto":
        processes = (count or core_count()) > THREADS_GAIN_TO and free_memory() > ROOM
    return Workers(count, bool(processes))


def resident(
    parts: dict[str, Split],
    batch_size: int,
    repeats: int,
    streams: Mapping[str, int],
    seed: int,
    mesh: Mesh,
) -> tuple[Feed, dict[str, EvaluatedSplit]]:
    """All splits in one array on the device, so that evaluation is compiled once for all.

    Args:
        parts: the splits by name; ``shown`` is a beginning of ``train``.
        batch_size: examples a step.
        repeats: copies of an example in a batch.
        streams: further splits of which a training batch holds examples; see `Task.streams`.
        seed: of the order.
        mesh: the devices.

    Returns:
        The training feed, and the splits to evaluate by name.
    """
    stored = {name: part for name, part in parts.items() if name != "shown"}
    columns = {
        name: np.concatenate([part.columns[name] for part in stored.values()])
        for name in parts["train"].columns
    }
    source = on_device(columns, mesh)
    rows = own_rows(mesh, batch_size)
    offsets, total = {"shown": 0}, 0
    for name, part in stored.items():  # train is first: "shown" is its beginning
        offsets[name] = total
        total += len(part)

    evaluated = {}
    for name, part in parts.items():
        if name == "train" or name in streams:
            continue
        numbers, mask = padded_batches(len(part), batch_size)
        numbers = np.where(mask, numbers + offsets[name], -1).astype(np.int32)[:, rows]
        feed = Resident(source, partial(_own_numbers, numbers))
        evaluated[name] = EvaluatedSplit(name, feed, len(part), len(numbers))

    orders = _orders(parts, batch_size, repeats, streams, seed)

    def numbers_of(step: int) -> dict[str, np.ndarray]:
        return {
            name: order(step)[rows] + np.int32(offsets["train" if name == OWN else name])
            for name, order in orders.items()
        }

    return Resident(source, numbers_of), evaluated


def _own_numbers(numbers: np.ndarray, step: int) -> dict[str, np.ndarray]:
    return {OWN: numbers[step]}


def _orders(
    parts: dict[str, Split], batch_size: int, repeats: int, streams: Mapping[str, int], seed: int
) -> dict[str, Callable[[int], np.ndarray]]:
    """Return step -> the examples in a training batch, (B,); of a stream (B, how many)."""
    orders: dict[str, Callable[[int], np.ndarray]] = {
        OWN: partial(batch_indices, len(parts["train"]), batch_size, seed, repeats=repeats)
    }
    for place, (name, count) in enumerate(streams.items(), start=1):

        def order(step: int, name: str = name, count: int = count, place: int = place) -> Any:
            size, own_seed = len(parts[name]), seed + place * STREAM_SEED
            return batch_indices(size, batch_size * count, own_seed, step).reshape(-1, count)

        orders[name] = order
    return orders


def streamed_split(
    name: str, part: Split, batch_size: int, mesh: Mesh, form: Form, workers: Workers
) -> EvaluatedSplit:
    """A split to evaluate, its batches gathered on the host."""
    numbers, mask = padded_batches(len(part), batch_size)
    numbers = np.where(mask, numbers, -1)
    threads, rows = Workers(workers.count), own_rows(mesh, batch_size)
    middles = partial(stream, part, stop=len(numbers), workers=threads, rows=rows)
    feed = Streamed(partial(middles, numbers.__getitem__), mesh, form)
    return EvaluatedSplit(name, feed, len(part), len(numbers))


def streamed(
    parts: dict[str, Split],
    batch_size: int,
    repeats: int,
    streams: Mapping[str, int],
    seed: int,
    mesh: Mesh,
    form: Form,
    workers: Workers,
) -> tuple[Feed, dict[str, EvaluatedSplit]]:
    """Batches gathered on the host, computed ahead.

    Args:
        parts: see `resident`, as the next five.
        batch_size: examples a step.
        repeats: copies of an example in a batch.
        streams: further splits of which a training batch holds examples.
        seed: of the order.
        mesh: the devices.
        form: shard_map or pmap, for which batches are laid out.
        workers: who decodes photographs.

    Returns:
        As `resident`.
    """
    rows = own_rows(mesh, batch_size)
    evaluated = {
        name: streamed_split(name, part, batch_size, mesh, form, workers)
        for name, part in parts.items()
        if name != "train" and name not in streams
    }
    orders = _orders(parts, batch_size, repeats, streams, seed)
    training = partial(stream, stop=None, workers=workers)

    def batches(first: int) -> Iterator[dict[str, Any]]:
        with ExitStack() as stack:

            def opened(place: int, name: str, count: int) -> Iterator[dict[str, Any]]:
                split = parts["train" if name == OWN else name]
                numbers = partial(_flat, orders[name])
                own = slice(rows.start * count, rows.stop * count)
                stream_seed = seed + place * STREAM_SEED
                found = training(split, numbers, first, seed=stream_seed, rows=own)
                return stack.enter_context(closing(found))

            own = opened(0, OWN, 1)
            others = [opened(place, *item) for place, item in enumerate(streams.items(), start=1)]
            for batch, *more in zip(own, *others, strict=True):
                yield batch | {
                    name: {key: _by_example(leaf, streams[name]) for key, leaf in other.items()}
                    for name, other in zip(streams, more, strict=True)
                }

    return Streamed(batches, mesh, form), evaluated


def _flat(order: Callable[[int], np.ndarray], step: int) -> np.ndarray:
    return order(step).reshape(-1)


def _by_example(leaf: np.ndarray, count: int) -> np.ndarray:
    """Return (B * count, ...) as (B, count, ...)."""
    return leaf.reshape(-1, count, *leaf.shape[1:])
