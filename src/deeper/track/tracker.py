"""The record of a run as it is made: rows to the run directory, and from there to W&B."""

import io
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from deeper.record.run_directory import RunDirectory
from deeper.record.schema import EXAMPLES
from deeper.track.wandb_process import Mirror


@dataclass(frozen=True)
class Examples:
    """What a trained net says of a few images, and of all.

    Attributes:
        images: uint8 (n, H, W, C).
        labels: true classes (n,).
        predictions: answers (n,).
        confidences: their probabilities (n,).
        class_names: names of the classes.
        confusion: counts of (true class, answer).
    """

    images: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray
    confidences: np.ndarray
    class_names: tuple[str, ...]
    confusion: np.ndarray


class Tracker:
    """Writes to the record, which must succeed; W&B follows the record by itself and may fail.

    Args:
        directory: the record.
        mirror: the process that follows it, or None.
    """

    def __init__(self, directory: RunDirectory, mirror: Mirror | None):
        self._directory, self._mirror = directory, mirror

    @classmethod
    def start(
        cls, directory: RunDirectory, config: Mapping[str, Any], warn: Callable[[str], None] = print
    ) -> "Tracker":
        """Start the mirror that the config's ``tracker`` section asks for.

        Args:
            directory: with no rows but those that stay; see `RunDirectory.truncate_after`.
            config: of the run.
            warn: told, once, if W&B fails.

        Raises:
            UserError: ``tracker.mode`` is unknown.
        """
        return cls(directory, Mirror.start(directory.path, config["tracker"], warn))

    def log(self, row: Mapping[str, Any]) -> None:
        """Add a row."""
        self._directory.log(row)
        if self._mirror:
            self._mirror.check()

    def fsync(self) -> None:
        """Make the rows so far survive a crash."""
        self._directory.fsync()

    def summary(self, metrics: Mapping[str, float | int], examples: Examples) -> None:
        """Keep example images and the confusion matrix, for W&B and for a look of one's own.

        Args:
            metrics: of the final evaluations; the result holds them, and W&B takes them from it.
            examples: kept in ``examples.npz``.
        """
        del metrics
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **asdict(examples))
        self._directory.write(EXAMPLES, buffer.getvalue())

    def finish(self, status: str) -> None:
        """Let W&B take the rest, for a bounded time.

        Args:
            status: finished, interrupted, diverged or failed.
        """
        if self._mirror:
            self._mirror.finish(status)
