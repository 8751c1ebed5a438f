"""Writes predictions and histograms at each evaluation, for W&B and TensorBoard.

It reads the run and changes nothing of it: with and without, a run has the same numbers.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from deeper.config.schema import RunConfig
from deeper.run.dataset import Splits
from deeper.run.examples import batch_of_first, with_predictions
from deeper.track.tracker import Tracker
from deeper.train.evaluate import Predictions

BINS = 64


class Observer:
    """Observes one run; see `deeper.train.observers.Observer`.

    Args:
        config: of the run.
        task: of the run.
        splits: with a validation split.
        tracker: writes what is observed; that of a process which is not the first writes nothing.
    """

    def __init__(self, config: RunConfig, task: Any, splits: Splits, tracker: Tracker):
        self._task, self._dataset, self._tracker = task, splits.dataset, tracker
        self._histograms = config.tracker.histograms
        assert splits.validation is not None
        shows = tracker.writes and hasattr(task, "examples")
        count = config.tracker.predictions if shows else 0
        self._batch = batch_of_first(splits.validation, count) if count else None

    def evaluated(
        self, step: int, params: Any, predictions: Predictions, gradients: Callable[[], Any]
    ) -> None:
        """Write what the config asks for."""
        if self._batch is not None:
            examples = with_predictions(self._task, self._batch, predictions, self._dataset)
            examples.pop("confusion", None)  # of all examples, and at the end of the run alone
            self._tracker.write_predictions(step, examples)
        if self._histograms:  # in all processes, since they compute the gradients together
            trees = {"weights": params, "gradients": gradients()}
            if self._tracker.writes:
                self._tracker.write_histograms(step, histograms_of(trees))


def observer_of(
    config: RunConfig, task: Any, splits: Splits, tracker: Tracker, say: Callable[[str], None]
) -> Observer | None:
    """Return the observer that a config asks for, or None.

    Args:
        config: of the run.
        task: of the run.
        splits: its data.
        tracker: writes what is observed.
        say: called with a message if the run cannot be observed.
    """
    asked = [key for key in ("predictions", "histograms") if getattr(config.tracker, key)]
    if not asked:
        return None
    if splits.validation is None:
        say(
            f"tracker.{' and tracker.'.join(asked)}: this run has no validation split to be "
            "evaluated on; data.validation=N makes one."
        )
        return None
    if config.tracker.predictions and not hasattr(task, "examples"):
        say("tracker.predictions: the task has no method `examples` that shows any.")
    return Observer(config, task, splits, tracker)


def histograms_of(trees: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return the histograms of all arrays in trees, for `Tracker.write_histograms`.

    Args:
        trees: first part of the names -> replicated arrays; values that are not finite are left
            out.
    """
    names, counts, edges = [], [], []
    for kind, tree in trees.items():
        for name, values in _leaves(tree):
            count, edge = np.histogram(values[np.isfinite(values)], BINS)
            names.append(f"{kind}/{name}")
            counts.append(count)
            edges.append(edge.astype(np.float32))
    return {"names": np.array(names), "counts": np.array(counts), "edges": np.array(edges)}


def _leaves(tree: Any) -> Iterator[tuple[str, np.ndarray]]:
    for place, leaf in jax.tree.leaves_with_path(tree):
        # Not np.asarray(leaf), which caches a copy in the array, so that it could not be donated.
        values = np.asarray(leaf.addressable_data(0))
        yield jax.tree_util.keystr(place, simple=True, separator="/"), values
