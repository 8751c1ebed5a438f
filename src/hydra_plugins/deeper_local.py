"""Hydra's launcher ``hydra/launcher=local``. It has to be in this namespace for Hydra to find it.

Every Hydra program on the machine imports this module, so it has no slow imports.
"""

from collections.abc import Sequence

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class LocalLauncher(Launcher):
    """Runs a sweep's arms in processes of their own; see `deeper.sweep.local`.

    Args:
        jobs: number of simultaneous arms; see `deeper.sweep.resources.shares`.
    """

    def __init__(self, jobs: int | None):
        self._jobs = jobs

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Store Hydra's arguments."""
        self._context, self._config = hydra_context, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the arms; exit with the sweep's exit status unless all of them finished."""
        from deeper.cli.launching import launch_composed

        loader = self._context.config_loader
        return launch_composed(loader, self._config, job_overrides, "local", {"jobs": self._jobs})
