"""Hydra's basic sweeper without validation, so that the launcher reports mistakes run by run.

It has to be in this namespace for Hydra to find it.
"""

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper


class DeeperSweeper(BasicSweeper):
    """The product of the overrides' values; runs that cannot be composed do not affect others."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Do nothing; see `deeper.cli.launching.composed_arms`."""
