"""Logs a run: writes rows to the run directory, which separate processes mirror to W&B and
TensorBoard.
"""

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from deeper.record.atomic_files import disk_errors
from deeper.record.run_directory import ReadOnlyRunDirectory, RunDirectory
from deeper.record.schema import EXAMPLES, HISTOGRAMS, PREDICTIONS
from deeper.track.wandb_process import Mirror


class Tracker:
    """Logs one run. Writing to the run directory must succeed; the mirrors may fail.

    Args:
        directory: the run directory.
        *mirrors: the processes that send its rows to W&B and TensorBoard.
    """

    def __init__(self, directory: RunDirectory, *mirrors: Mirror):
        self._directory, self._mirrors = directory, mirrors

    @classmethod
    def start(
        cls, directory: RunDirectory, config: Mapping[str, Any], warn: Callable[[str], None]
    ) -> "Tracker":
        """Start the tracker, with the mirrors that the ``tracker`` section of the config asks for.

        Args:
            directory: the run directory, without rows after the checkpoint that the run continues
                from; see `RunDirectory.truncate_after`.
            config: config of the run.
            warn: called with a message, once, if a mirror fails.

        Raises:
            UserError: ``tracker.mode`` is unknown.
        """
        started = (
            Mirror.start(directory.path, config["tracker"], warn),
            Mirror.start_events(directory.path, config["tracker"], warn),
        )
        return cls(directory, *(mirror for mirror in started if mirror))

    @property
    def writes(self) -> bool:
        """Whether this process writes the record; of several, the first one does."""
        return not isinstance(self._directory, ReadOnlyRunDirectory)

    def log(self, row: Mapping[str, Any]) -> None:
        """Append a row to ``metrics.jsonl``."""
        self._directory.log(row)
        for mirror in self._mirrors:
            mirror.check()

    def fsync(self) -> None:
        """Flush the rows to disk."""
        self._directory.fsync()

    def write_examples(self, examples: Mapping[str, Any]) -> None:
        """Write a few examples with the predictions of the net.

        Args:
            examples: name -> array, written to ``examples.npz``; `wandb_upload` shows them at W&B.
        """
        self._write(EXAMPLES, examples)

    def write_predictions(self, step: int, examples: Mapping[str, Any]) -> None:
        """Write the predictions of the net for a few validation examples.

        Call it before logging the row of the evaluation, with which the mirrors send them.

        Args:
            step: of the evaluation.
            examples: as in `write_examples`.
        """
        self._write(PREDICTIONS.format(step), examples)

    def write_histograms(self, step: int, histograms: Mapping[str, np.ndarray]) -> None:
        """Write histograms of the weights and gradients; call it as `write_predictions`.

        Args:
            step: of the evaluation.
            histograms: names (n,), counts (n, bins) and edges (n, bins + 1).
        """
        self._write(HISTOGRAMS.format(step), histograms)

    def _write(self, name: str, arrays: Mapping[str, Any]) -> None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        file = self._directory.path / name
        with disk_errors(file.parent):
            file.parent.mkdir(exist_ok=True)
        self._directory.write(name, buffer.getvalue())

    def finish(self, status: str, reason: str = "") -> None:
        """Wait for a limited time until the mirrors have sent the remaining rows.

        Args:
            status: finished, interrupted, diverged or failed.
            reason: the error of a run that failed, for an alert.
        """
        for mirror in self._mirrors:
            mirror.finish(status, reason=reason)
