"""Logs a run: writes rows to the run directory, which a separate process mirrors to W&B."""

import io
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from deeper.record.run_directory import EXAMPLES, RunDirectory
from deeper.track.wandb_process import Mirror


@dataclass(frozen=True)
class Examples:
    """Predictions of a trained net for a few images, and its confusion matrix.

    Attributes:
        images: uint8 (n, H, W, C).
        labels: true classes (n,).
        predictions: predicted classes (n,).
        confidences: probabilities of the predicted classes (n,).
        class_names: in the order of the labels.
        confusion: counts of (true class, predicted class) over the whole test split.
    """

    images: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray
    confidences: np.ndarray
    class_names: tuple[str, ...]
    confusion: np.ndarray


class Tracker:
    """Logs one run. Writing to the run directory must succeed; the mirror at W&B may fail.

    Args:
        directory: the run directory.
        mirror: the process that sends its rows to W&B, or None.
    """

    def __init__(self, directory: RunDirectory, mirror: Mirror | None):
        self._directory, self._mirror = directory, mirror

    @classmethod
    def start(
        cls, directory: RunDirectory, config: Mapping[str, Any], warn: Callable[[str], None] = print
    ) -> "Tracker":
        """Start the tracker, with the mirror that the ``tracker`` section of the config asks for.

        Args:
            directory: the run directory, without rows after the checkpoint that the run continues
                from; see `RunDirectory.truncate_after`.
            config: config of the run.
            warn: called with a message, once, if W&B fails.

        Raises:
            UserError: ``tracker.mode`` is unknown.
        """
        return cls(directory, Mirror.start(directory.path, config["tracker"], warn))

    def log(self, row: Mapping[str, Any]) -> None:
        """Append a row to ``metrics.jsonl``."""
        self._directory.log(row)
        if self._mirror:
            self._mirror.check()

    def fsync(self) -> None:
        """Flush the rows to disk."""
        self._directory.fsync()

    def summary(self, metrics: Mapping[str, float | int], examples: Examples) -> None:
        """Store example images and the confusion matrix in ``examples.npz``.

        Args:
            metrics: unused: the mirror reads the final metrics from the result.
            examples: the examples to store.
        """
        del metrics
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **asdict(examples))
        self._directory.write(EXAMPLES, buffer.getvalue())

    def finish(self, status: str) -> None:
        """Wait for a limited time until the mirror has sent the remaining rows.

        Args:
            status: finished, interrupted, diverged or failed.
        """
        if self._mirror:
            self._mirror.finish(status)
