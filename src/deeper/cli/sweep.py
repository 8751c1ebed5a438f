"""``deeper sweep status|resume|cancel``: a sweep from any terminal, also days later."""

import json
import os
import shlex
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from deeper.cli.status_table import summary, table
from deeper.cli.terminal import open_console
from deeper.config.compose import directories_of
from deeper.config.identity import study_directory
from deeper.config.verbs import read_launcher
from deeper.errors import ExitCode, UserError
from deeper.record.atomic_files import read_json
from deeper.record.run_directory import ENVIRONMENT
from deeper.sweep import slurm_queue
from deeper.sweep.code_snapshot import Code, freeze
from deeper.sweep.status import ALIVE, TO_RESUME, State, runs_in, states_of
from deeper.sweep.submission import now, update_submission

if TYPE_CHECKING:
    from deeper.sweep.claim import Arm


def run(config: DictConfig) -> int:
    """Show a sweep, go on with it, or end it; return the exit status."""
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
    """Whether the command says whose arms it means, rather than leaving it to the defaults."""
    given = [word.lstrip("+").partition("=")[0] for word in HydraConfig.get().overrides.task]
    return bool({"study", "runs"} & set(given))


def _order(state: State) -> tuple[str, int, str]:
    submission = state.submission
    where = ("", 0) if submission is None else (submission.sweep, submission.index)
    return (*where, state.name)


def _resume(states: Sequence[State], config: DictConfig, console: Console) -> int:
    """Give what is not finished to a launcher again, from the frozen configs."""
    # Heavy: to show or cancel takes none of it.
    from deeper.cli.launching import start, status_command

    todo = [state for state in states if state.word in TO_RESUME]
    left = sum(state.word in ALIVE for state in states)
    console.print(f"{summary(states)}. To go on with: {len(todo)}")
    if not todo:
        return ExitCode.FINISHED
    groups: dict[str, tuple[Any, list[Arm]]] = {}
    status: int = ExitCode.FINISHED
    for state in todo:
        how = _how(state, config)
        try:
            arm = _arm(state)
        except UserError as error:
            console.print(f"{state.name} is left out: {error}", soft_wrap=True)
            status = ExitCode.USER_ERROR
            continue
        key = json.dumps([*how[:2], how[2].plain()], sort_keys=True)
        groups.setdefault(key, (how, []))[1].append(arm)
    # A local launcher stays until its arms have ended: it is the last.
    ordered = sorted(groups.values(), key=lambda group: group[0][0] == "local")
    directories = directories_of(HydraConfig.get())
    for number, ((launcher, settings, code), arms) in enumerate(ordered, start=1):
        stays = number == len(ordered) or launcher == "local"
        launch = config.launch if stays else "detach"
        show = status_command(arms[0].config, directories)
        started = start(arms, Path(config.runs), launcher, settings, code, launch, show)
        status = max(status, started)
    if left:
        console.print(f"{left} arms were under way and were left alone.")
    return status


def _arm(state: State) -> "Arm":
    from deeper.sweep.claim import Arm, frozen_config

    submission, frozen = state.submission, frozen_config(state.directory)
    if submission is not None:
        return Arm(state.name, state.directory, frozen, submission.overrides, submission.cwd)
    # `deeper train`, by hand: its overrides stand in the record.
    record = read_json(state.directory / ENVIRONMENT) or {}
    given = record.get("overrides")
    if given is None:  # of runs that recorded the command alone
        given = shlex.split(record.get("command") or "")[2:]
    return Arm(state.name, state.directory, frozen, given)


def _how(state: State, config: DictConfig) -> tuple[str, dict[str, Any], Code]:
    """Return the launcher of an arm that is resumed, its settings, and the code."""
    submission = state.submission
    if submission is None or config.code is not None:
        code = freeze(config.code or "snapshot", Path(config.runs))
    else:
        code = Code(**submission.code)
        if code.root is not None and not Path(code.root).is_dir():
            raise UserError(
                f"{code.root}, the code of {state.name}, is gone: code=snapshot goes on with the "
                "code as it is now."
            )
    given = _given_launcher(config)
    if given is not None:
        return (*given, code)
    if submission is not None:
        return submission.launcher, submission.settings, code
    return "local", {"jobs": config.jobs}, code


def _given_launcher(config: DictConfig) -> tuple[str, dict[str, Any]] | None:
    """Return the launcher that the command line names, with its settings."""
    hydra = HydraConfig.get()
    if not any(word.startswith("hydra/launcher=") for word in hydra.overrides.hydra):
        return None
    settings: Any = OmegaConf.to_container(hydra.launcher, resolve=True)
    settings.pop("_target_")
    launcher = str(hydra.runtime.choices["hydra/launcher"])
    return launcher, read_launcher(launcher, settings)


def _cancel(states: Sequence[State], console: Console) -> int:
    """End what waits or runs, with a line each; what runs makes a checkpoint."""
    alive = [state for state in states if state.word in ALIVE]
    if not alive:
        console.print("Nothing waits or runs.")
        return ExitCode.FINISHED
    for state in alive:
        if state.submission is not None:
            update_submission(state.directory, state.submission.sweep, cancelled=now())
    on_slurm = [s.submission for s in alive if s.submission and s.submission.launcher == "slurm"]
    slurm_queue.cancel(list(slurm_queue.waiting_and_running(on_slurm).values()))
    status: int = ExitCode.FINISHED
    for state in alive:
        line, done = _cancel_one(state)
        status = status if done else ExitCode.FAILED
        console.print(f"{state.name}: {line}", soft_wrap=True)
    return status


def _cancel_one(state: State) -> tuple[str, bool]:
    """End an arm of this machine; say what was done, and whether it was."""
    submission = state.submission
    if submission is None:
        return f"left alone: it is {state.remark}; end it there", False
    if submission.launcher == "slurm":
        how = "stops at a checkpoint" if state.word == "running" else "cancelled"
        return f"job {state.job} {how}", True
    process = submission.process
    if process is None:
        return "will not be started", True
    if not process.here:
        return f"runs on {process.host}: give this command there", False
    if process.alive:
        os.kill(process.pid, signal.SIGTERM)
        return f"process {process.pid} stops at a checkpoint", True
    return "has ended", True
