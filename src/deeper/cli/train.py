"""``deeper train``: trains one run. With -m, a launcher starts `arm` for each arm."""

import shlex
import signal
import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

from deeper.cli.main import tell
from deeper.cli.stop_signals import asking_to_stop
from deeper.config.compose import run_config
from deeper.config.data_sections import word_for_example
from deeper.config.schema import RunConfig
from deeper.display.banner import banner
from deeper.display.cost_table import assumptions
from deeper.display.run_display import RunDisplay
from deeper.display.terminal import open_console
from deeper.display.trained import print_trained
from deeper.errors import ExitCode, UserError
from deeper.run import device, distributed
from deeper.run.check import check
from deeper.run.cost import cost_of
from deeper.run.train import Start, train_run
from deeper.train.rungs import Rungs


def run(config: DictConfig) -> int:
    """Train the configured net, or continue an interrupted run."""
    for key, usual in (("launch", "wait"), ("jobs", None)):
        if config[key] != usual:
            raise UserError(f"{key}={config[key]} is for sweeps: give `deeper train -m`.")
    hydra = HydraConfig.get()
    typed = run_config(config, hydra)
    if typed.mode.dry:
        return _dry(typed, open_console())
    return train_and_tell(typed, overrides=list(hydra.overrides.task))


def train_and_tell(
    config: RunConfig,
    path: Path | None = None,
    overrides: list[str] | None = None,
    rungs: Rungs | None = None,
) -> int:
    """Train the run of a config, show its progress, and return the exit status.

    Args:
        config: config of the run.
        path: the run directory; by default the one named by the config.
        overrides: overrides that make the config, for the record; None if unknown.
        rungs: where it may be cut, as a trial of a search.
    """
    console = open_console()
    check(config)  # before anything is shown or written
    distributed.join()
    console.quiet = not distributed.first()
    stop = _StopSignals(console)
    try:
        with RunDisplay(console, f"{config.label} s{config.seed}") as display:
            trained = train_run(
                config,
                path,
                overrides=overrides,
                command=f"{sys.argv[0]} {shlex.join(sys.argv[1:])}",
                display=display,
                stop_asked=lambda: stop.asked or display.broken,
                rungs=rungs,
            )
    except (Exception, KeyboardInterrupt) as error:
        if distributed.count() > 1:
            distributed.leave(_tell_of_several(error))
        raise
    return print_trained(trained, word_for_example(config.data), console)


def _tell_of_several(error: BaseException) -> int:
    """Report an error in one of several processes; return the exit status."""
    if not distributed.process_is_gone(error):
        return tell(error)
    print(
        "deeper: Another process of this run has ended or cannot be reached. Start the run again: "
        f"it goes on from its last checkpoint. ({str(error)[:200]})",
        file=sys.stderr,
    )
    return ExitCode.FAILED


def _dry(config: RunConfig, console: Console) -> int:
    """Print the banner and the cost of a run; nothing is read, compiled or trained."""
    device.start_jax(config.train.cpu_kernels)
    mesh = device.mesh_of(config.train.devices)
    cost = cost_of(config, {}, devices=mesh.devices.size)
    console.print(banner(Start(config, cost.plan, mesh, 0)))
    hours = ", ".join(f"{value:.3g} (one {name})" for name, value in cost.hours.items())
    console.print(f"hours          {hours}")
    console.print(assumptions(config), style="dim")
    return ExitCode.FINISHED


class _StopSignals:
    """SIGINT, SIGTERM and SIGHUP request a stop after the current call; a second Ctrl-C stops at
    once.

    A second SIGTERM does not, since a batch system sends it to every process of a job, and a
    launcher forwards it too. SIGKILL stops a run at once.
    """

    def __init__(self, console: Console):
        self.asked = False
        self._console = console
        for number in asking_to_stop():
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: Any) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.asked:
            self.asked = True
            self._console.print("Stopping after a checkpoint; Ctrl-C once more stops at once.")
