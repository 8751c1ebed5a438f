"""Passes sweeps, composed by Hydra or frozen, to a launcher."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from deeper.cli import dry
from deeper.cli.local_sweep import run_here
from deeper.cli.main import explain
from deeper.config.compose import directories_of, run_config
from deeper.config.schema import RunConfig
from deeper.config.verbs import read_keys, read_launcher
from deeper.display.sweep_output import follow_slurm, print_claim
from deeper.display.terminal import open_console
from deeper.errors import ExitCode, UserError
from deeper.sweep import launch, local
from deeper.sweep.claim import Arm, arms_of
from deeper.sweep.code_snapshot import Code, freeze
from deeper.sweep.planned import check_study
from deeper.sweep.status import status_command


def run_sweep(
    composed: Sequence[DictConfig],
    overrides: Sequence[Sequence[str]],
    launcher: str,
    settings: dict[str, Any],
    uncomposed: launch.Mistakes = (),
) -> int:
    """Run or submit a sweep; return the exit status.

    Args:
        composed: config of each run, with Hydra's section.
        overrides: overrides of each.
        launcher: local or slurm.
        settings: settings of the launcher.
        uncomposed: (overrides, reason) of runs whose config cannot be composed.
    """
    first = composed[0]
    given = read_keys("train", {key: first[key] for key in ("launch", "jobs", "runs")})
    settings = read_launcher(launcher, settings)
    configs, words, mistakes = _read(composed, overrides)
    mistakes = [*uncomposed, *mistakes]
    if not configs or (mistakes and first.mode.dry):
        raise UserError(mistakes[0][1])
    if first.mode.dry:
        return dry.run(configs, words)
    for sentence in check_study(configs, words):
        open_console().print(sentence, style="yellow", soft_wrap=True)
    runs = Path(given["runs"])
    code = freeze(first.code, runs, [config.plain() for config in configs])
    arms = arms_of(configs, words)
    show = status_command(arms[0].config, directories_of(first.hydra))
    return start(arms, runs, launcher, settings, code, first.launch, show, mistakes)


def launch_composed(
    loader: Any,
    config: DictConfig,
    overrides: Sequence[Sequence[str]],
    launcher: str,
    settings: dict[str, Any],
) -> list[JobReturn]:
    """Give a sweep to a launcher as Hydra asks for it.

    Args:
        loader: Hydra's.
        config: of the sweep.
        overrides: of each arm.
        launcher: local or slurm.
        settings: of the launcher.

    Returns:
        As Hydra expects it, of each arm that it is done.

    Raises:
        SystemExit: with the sweep's exit status, unless all arms finished.
    """
    configs, words, mistakes = composed_arms(loader, config, overrides)
    status = run_sweep(configs, words, launcher, settings, mistakes)
    if status:
        sys.exit(status)
    return [JobReturn(status=JobStatus.COMPLETED, _return_value=0) for _ in overrides]


def composed_arms(
    loader: Any, config: DictConfig, overrides: Sequence[Sequence[str]]
) -> tuple[list[DictConfig], list[list[str]], list[tuple[str, str]]]:
    """Return the configs of a sweep's arms with their overrides, and the mistakes in others.

    Arms that cannot be composed do not affect the others.

    Args:
        loader: config loader of Hydra.
        config: config of the sweep.
        overrides: overrides of each arm.

    Returns:
        Configs with Hydra's section, and their overrides; and (overrides, reason) of each arm that
        cannot be composed.

    Raises:
        HydraException: no arm can be composed; the error of the first arm.
    """
    configs: list[DictConfig] = []
    words: list[list[str]] = []
    mistakes: list[tuple[str, str]] = []
    first: Exception | None = None
    for arguments in overrides:
        try:
            configs.append(loader.load_sweep_config(config, list(arguments)))
        except (HydraException, OmegaConfBaseException) as error:
            first = first or error
            mistakes.append((" ".join(arguments), explain(error)))
        else:
            words.append(list(arguments))
    if first is not None and not configs:
        raise first
    return configs, words, mistakes


def _read(
    composed: Sequence[DictConfig], overrides: Sequence[Sequence[str]]
) -> tuple[list[RunConfig], list[Sequence[str]], list[tuple[str, str]]]:
    """Return the valid configs with their overrides, and (overrides, reason) of the others."""
    configs, words, mistakes = [], [], []
    for config, of_run in zip(composed, overrides, strict=True):
        try:
            configs.append(run_config(config, config.hydra))
        except UserError as error:
            mistakes.append((" ".join(of_run), str(error)))
        else:
            words.append(of_run)
    return configs, words, mistakes


def start(
    arms: Sequence[Arm],
    runs: Path,
    launcher: str,
    settings: dict[str, Any],
    code: Code,
    how: str,
    show: str,
    mistakes: launch.Mistakes = (),
) -> int:
    """Pass frozen runs to a launcher; return the exit status.

    Args:
        arms: arms of one study.
        runs: root of the run directories.
        launcher: local or slurm.
        settings: settings of the launcher.
        code: the code to run.
        how: wait until all have ended, or detach.
        show: command that shows the sweep in any terminal.
        mistakes: (overrides, reason) of arms that cannot be run.
    """
    console = open_console()
    if launcher == "slurm":
        taken = launch.submitted(arms, runs, settings, code, mistakes)
        print_claim(taken, console)
        return follow_slurm(taken, show, console, wait=how == "wait")
    if how == "detach":
        return _detach(arms, runs, settings, code, show, console, mistakes)
    with launch.claimed_runs(arms, runs, settings, code, mistakes) as taken:
        print_claim(taken, console)
        return run_here(launch.work_of(taken, settings["jobs"]), console)


def _detach(
    arms: Sequence[Arm],
    runs: Path,
    settings: dict[str, Any],
    code: Code,
    show: str,
    console: Console,
    mistakes: launch.Mistakes,
) -> int:
    taken, number = launch.detached(arms, runs, settings, code, mistakes)
    if number is None:
        print_claim(taken, console)
        return run_here(launch.work_of(taken, settings["jobs"]), console)
    log = taken.folder / local.LOG
    console.print(f"Process {number} is the launcher; its log: {log}", soft_wrap=True)
    print_claim(taken, console)
    console.print(f"How it goes: {show}", soft_wrap=True)
    return ExitCode.FINISHED
