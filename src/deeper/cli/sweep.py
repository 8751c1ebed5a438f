"""``deeper sweep status|resume|cancel``: manages a sweep from any terminal, also days later."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from deeper.config.compose import directories_of
from deeper.config.identity import study_directory
from deeper.config.verbs import read_launcher
from deeper.display.status_table import summary, table
from deeper.display.terminal import open_console
from deeper.errors import ExitCode, UserError
from deeper.sweep.cancel import cancel
from deeper.sweep.status import ALIVE, TO_RESUME, State, runs_in, states_of, status_command


def run(config: DictConfig) -> int:
    """Show, resume or cancel a sweep; return the exit status."""
    if config.action == "cancel" and not _names_a_sweep():
        raise UserError(
            "deeper sweep cancel: say which sweep is to end: study=NAME with its mode=MODE, or "
            "study=none for all that run in no study."
        )
    study = study_directory(config.runs, config.study, config.mode.name).absolute()
    directories = runs_in(study)
    if not directories:
        raise UserError(
            f"There is no run in {study}. Say which sweep it is: study=NAME, mode=MODE and "
            "runs=DIRECTORY, as they were given to `deeper train`."
        )
    states = sorted(states_of(directories), key=_order)
    console = open_console()
    if config.action == "resume":
        return _resume(states, config, console)
    if config.action == "cancel":
        return _cancel(states, console)
    if config.format == "json":
        print(json.dumps([state.plain() for state in states], indent=1))
        return ExitCode.FINISHED
    console.print(table(states, everything=config.all))
    console.print(summary(states))
    return ExitCode.FINISHED


def _names_a_sweep() -> bool:
    """Return whether the command names a sweep, rather than using the defaults."""
    keys = [word.lstrip("+").partition("=")[0] for word in HydraConfig.get().overrides.task]
    return bool({"study", "runs"} & set(keys))


def _order(state: State) -> tuple[str, int, str]:
    submission = state.submission
    where = ("", 0) if submission is None else (submission.sweep, submission.index)
    return (*where, state.name)


def _resume(states: Sequence[State], config: DictConfig, console: Console) -> int:
    """Pass unfinished arms to a launcher again, from their frozen configs."""
    # Heavy imports, not needed by status and cancel.
    from deeper.cli.launching import start
    from deeper.sweep.resume import arm_of, groups_of

    todo = [state for state in states if state.word in TO_RESUME]
    left = sum(state.word in ALIVE for state in states)
    console.print(f"{summary(states)}. To go on with: {len(todo)}")
    if not todo:
        return ExitCode.FINISHED
    arms = []
    status: int = ExitCode.FINISHED
    for state in todo:
        try:
            arms.append((state, arm_of(state)))
        except UserError as error:
            console.print(f"{state.name} is left out: {error}", soft_wrap=True)
            status = ExitCode.USER_ERROR
    runs, launcher = Path(config.runs), named_launcher(config)
    groups = groups_of(arms, runs, code=config.code, launcher=launcher, jobs=config.jobs)
    directories = directories_of(HydraConfig.get())
    for number, group in enumerate(groups, start=1):
        # A local launcher blocks until its arms have ended.
        stays = number == len(groups) or group.launcher == "local"
        launch = config.launch if stays else "detach"
        show = status_command(group.arms[0].config, directories)
        started = start(group.arms, runs, group.launcher, group.settings, group.code, launch, show)
        status = max(status, started)
    if left:
        console.print(f"{left} arms were under way and were left alone.")
    return status


def named_launcher(config: DictConfig) -> tuple[str, dict[str, Any]] | None:
    """Return the launcher that the command line names, with its settings."""
    hydra = HydraConfig.get()
    if not any(word.startswith("hydra/launcher=") for word in hydra.overrides.hydra):
        return None
    settings: Any = OmegaConf.to_container(hydra.launcher, resolve=True)
    settings.pop("_target_")
    launcher = str(hydra.runtime.choices["hydra/launcher"])
    return launcher, read_launcher(launcher, settings)


def _cancel(states: Sequence[State], console: Console) -> int:
    """Cancel waiting and running arms, and print a line for each; running arms write a
    checkpoint.
    """
    alive = [state for state in states if state.word in ALIVE]
    if not alive:
        console.print("Nothing waits or runs.")
        return ExitCode.FINISHED
    ended = cancel(alive)
    for arm in ended:
        console.print(f"{arm.name}: {arm.words}", soft_wrap=True)
    return ExitCode.FINISHED if all(arm.done for arm in ended) else ExitCode.FAILED
