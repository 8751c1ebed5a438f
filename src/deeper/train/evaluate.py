"""Exact evaluation: every example of a split once, padding masked, metrics computed on the host.

The devices return predictions per example; the host summarises them in the order of the split, so
the metrics do not depend on the number of devices.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from deeper.errors import UserError
from deeper.train import data_parallel
from deeper.train.device_feed import Feed

if TYPE_CHECKING:
    from deeper.tasks.task import Task

Predictions = dict[str, np.ndarray]  # leaves (n, ...), in the split's order
Change = Callable[[Any, int], Any]  # see `Evaluator.of_changed`


@dataclass(frozen=True)
class Split:
    """A split to evaluate.

    Attributes:
        name: train, validation or test.
        feed: its batches, in the split's order, the last one padded.
        size: its number of examples.
        batches: its number of batches.
    """

    name: str
    feed: Feed
    size: int
    batches: int


def predictions_of(model: nn.Module, task: "Task") -> Callable[[Any, Any], dict[str, jax.Array]]:
    """Return a function from (variables, stored batch) to the task's predictions."""

    def predict(variables, batch):
        count = len(batch["mask"])
        inputs, *_ = task.inputs(no_keys, jnp.arange(count), batch, train=False)
        outputs = model.apply(variables, inputs, train=False)
        return task.predict(outputs, batch)

    return predict


def unchanged(feed: Any, count: int) -> Any:
    """Return what a feed sends as it is."""
    del count
    return feed


def no_keys(purpose: int) -> Any:
    raise AssertionError(f"evaluation draws nothing, but was asked for key {purpose}")


class Evaluator:
    """Compiled evaluation of a net on any split.

    Args:
        predict: (variables, stored batch) -> predictions of each example, see `predictions_of`.
        mesh: the devices.
        form: see `data_parallel.parallelise`.
        take: a feed's ``take``, which is the same for all evaluated splits.
        batches_per_call: number of batches per compiled call.
    """

    def __init__(
        self,
        predict: Callable[[Any, Any], dict[str, jax.Array]],
        mesh: Mesh,
        form: data_parallel.Form,
        take: Callable[[Any, Any], Any],
        batches_per_call: int,
    ):
        def many_batches(variables, source, feed, count):
            def one_batch(number):
                batch = take(source, jax.tree.map(lambda leaf: leaf[number], feed))
                return predict(variables, batch) | {"mask": batch["mask"]}

            def body(number, predictions):
                new = one_batch(number)
                return jax.tree.map(lambda all_, one: all_.at[number].set(one), predictions, new)

            capacity = len(jax.tree.leaves(feed)[0])
            predictions = jax.tree.map(
                lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype),
                jax.eval_shape(lambda: one_batch(0)),
            )
            predictions = jax.lax.fori_loop(0, count, body, predictions)
            return jax.tree.map(
                lambda leaf: jax.lax.all_gather(leaf, data_parallel.DATA_AXIS, axis=1, tiled=True),
                predictions,
            )

        self._call = data_parallel.parallelise(many_batches, mesh, form, donate_first=False)
        self._capacity = batches_per_call

    def __call__(
        self,
        variables: Any,
        split: Split,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Predictions:
        """Return every example's predictions, in the split's order.

        Args:
            variables: params and batch_stats.
            split: what to evaluate.
            progress: called with (batches done, total).

        Raises:
            RuntimeError: the feed did not deliver every example exactly once.
        """
        return self.of_changed(variables, split, {"": unchanged}, progress)[""]

    def of_changed(
        self,
        variables: Any,
        split: Split,
        changes: Mapping[str, Change],
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> dict[str, Predictions]:
        """Return every example's predictions under each change of the batches, read once.

        Args:
            variables: as for a call, as the other arguments.
            split: what to evaluate.
            changes: name -> function of what the feed sends, a pytree of (steps, rows, ...), and of
                how many of its steps, from the first on, are batches.
            progress: called with (batches done, total), each change counting.

        Raises:
            RuntimeError: the feed did not deliver every example exactly once.
        """
        parts: dict[str, list[Predictions]] = {name: [] for name in changes}
        done, total = 0, split.batches * len(changes)
        for first in range(0, split.batches, self._capacity):
            count = min(self._capacity, split.batches - first)
            feed = split.feed.steps(first, count, self._capacity)
            for name, change in changes.items():
                changed = change(feed, count)
                kept: Any = self._call(variables, split.feed.source, changed, np.int32(count))
                parts[name].append({key: _flat(leaf, count) for key, leaf in kept.items()})
                done += count
                progress(done, total)
        return {name: _whole(split, found) for name, found in parts.items()}


def _whole(split: Split, parts: list[Predictions]) -> Predictions:
    """Return the predictions of all batches, without padding."""
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    mask = whole.pop("mask")
    n_seen = int(mask.sum())
    if n_seen != split.size:
        raise RuntimeError(f"evaluation of {split.name} saw {n_seen} of {split.size} examples")
    return {name: leaf[mask] for name, leaf in whole.items()}


def _flat(leaf: Any, count: int) -> np.ndarray:
    """Return the examples of the first ``count`` batches, concatenated."""
    host = np.asarray(leaf)[:count]
    return host.reshape(-1, *host.shape[2:])


def metrics_of(task: "Task", split: str, predictions: Predictions) -> dict[str, float | int]:
    """Return the metrics of a split by names such as ``test/error``, and ``test/n_seen``.

    Raises:
        UserError: the task's metric is not among them.
    """
    numbers = task.summarise(predictions)
    if task.metric not in numbers:
        raise UserError(
            f"The task's metric is {task.metric}, and its summarise() returns "
            f"{', '.join(numbers) or 'nothing'}: let it return the metric, too."
        )
    n_seen = len(next(iter(predictions.values())))
    return {f"{split}/{name}": value for name, value in (numbers | {"n_seen": n_seen}).items()}
