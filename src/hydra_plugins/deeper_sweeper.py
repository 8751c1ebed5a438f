"""Hydra's own sweeper, which leaves it to the launcher to say of each run what is wrong with it.

It has to be in this namespace for Hydra to find it.
"""

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper


class DeeperSweeper(BasicSweeper):
    """The product of the overrides' values; a run that does not compose stops no other."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Leave it to `deeper.cli.launching.composed_arms`."""
