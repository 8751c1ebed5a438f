"""The record of a run as it is made: rows to the run directory, and from there to W&B."""

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from deeper.record.run_directory import EXAMPLES, RunDirectory
from deeper.track.wandb_process import Mirror


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
        cls, directory: RunDirectory, config: Mapping[str, Any], warn: Callable[[str], None]
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

    def keep(self, examples: Mapping[str, Any]) -> None:
        """Keep a few examples with what the net says of them, for W&B and for a look of one's own.

        Args:
            examples: name -> array, kept in ``examples.npz``; what W&B shows of it says
                `wandb_upload`.
        """
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **examples)
        self._directory.write(EXAMPLES, buffer.getvalue())

    def finish(self, status: str) -> None:
        """Let W&B take the rest, for a bounded time.

        Args:
            status: finished, interrupted, diverged or failed.
        """
        if self._mirror:
            self._mirror.finish(status)
