"""The record of a run as it is made: rows to the run directory, and from there to W&B."""

from collections.abc import Callable, Mapping
from typing import Any

from deeper.track.mirror import Examples, Mirror
from deeper.track.run_directory import RunDirectory


class Tracker:
    """Writes each row to the record first, then to the mirror, which may fail.

    Args:
        directory: the record.
        mirror: W&B, or None.
    """

    def __init__(self, directory: RunDirectory, mirror: Mirror | None):
        self._directory, self._mirror = directory, mirror

    @classmethod
    def start(
        cls, directory: RunDirectory, config: Mapping[str, Any], warn: Callable[[str], None] = print
    ) -> "Tracker":
        """Start the mirror that the config's ``tracker`` section asks for."""
        settings = config["tracker"]
        return cls(directory, Mirror.start(directory.path, config, settings, warn))

    def log(self, row: Mapping[str, Any]) -> None:
        """Add a row."""
        self._directory.log(row)
        if self._mirror:
            self._mirror.log(row)

    def fsync(self) -> None:
        """Make the rows so far survive a crash."""
        self._directory.fsync()

    def summary(self, metrics: Mapping[str, float | int], examples: Examples) -> None:
        """Show the final metrics, example images and the confusion matrix."""
        if self._mirror:
            self._mirror.summary(metrics, examples)

    def finish(self, status: str) -> None:
        """End the mirror's run."""
        if self._mirror:
            self._mirror.finish(status)


__all__ = ["Examples", "Tracker"]
