"""A few examples of a split with the predictions of the net, as a person reads them."""

from typing import Any

import numpy as np

from deeper.config.instantiate import build
from deeper.data.dataset import Dataset, Split
from deeper.train.evaluate import Predictions


def batch_of_first(split: Split, count: int) -> dict[str, np.ndarray]:
    """Return the columns of the first examples of a split."""
    first = split.select(slice(count))
    return {name: np.asarray(column[:]) for name, column in first.columns.items()}


def with_predictions(
    task: Any, batch: dict[str, np.ndarray], predictions: Predictions, dataset: Dataset
) -> dict[str, Any]:
    """Return the first examples with predictions, for `Tracker.write_examples`.

    Args:
        task: of the run, which has a method ``examples``.
        batch: the first examples.
        predictions: of all examples of the split.
        dataset: of the run, which has class names and perhaps a reader.
    """
    examples: dict[str, Any] = task.examples(batch, predictions, dataset.class_names)
    if dataset.reader is not None and "inputs" in examples:
        examples |= _as_given(examples["inputs"], build(dataset.reader))
    return examples


def _as_given(inputs: np.ndarray, reader: Any) -> dict[str, Any]:
    """Return examples as a person reads or hears them, as far as their reader knows."""
    if hasattr(reader, "text"):
        return {"texts": np.array([reader.text(row) for row in inputs])}
    return {"rate": reader.rate} if hasattr(reader, "rate") else {}
