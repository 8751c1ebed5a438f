"""Hydra's launcher ``hydra/launcher=slurm``. It has to be in this namespace for Hydra to find it.

Every Hydra program on the machine imports this module, so it has no slow imports.
"""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class SlurmLauncher(Launcher):
    """Submits a sweep's arms as a job array; see `deeper.sweep.slurm`.

    Args:
        settings: settings of conf/hydra/launcher/slurm.yaml.
    """

    def __init__(self, **settings: Any):
        plain: Any = OmegaConf.to_container(OmegaConf.create(settings), resolve=True)
        self._settings: dict[str, Any] = plain

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Store Hydra's arguments."""
        self._context, self._config = hydra_context, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Submit the arms; exit with the sweep's exit status unless all of them finished."""
        from deeper.cli.launching import launch_composed

        loader = self._context.config_loader
        return launch_composed(loader, self._config, job_overrides, "slurm", self._settings)
