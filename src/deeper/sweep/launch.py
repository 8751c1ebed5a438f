"""From a composed sweep, or from frozen arms, to a launcher."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from deeper.cli import dry
from deeper.cli.main import FINISHED
from deeper.cli.terminal import open_console
from deeper.config.instantiate import trust
from deeper.config.verbs import read_keys, read_launcher
from deeper.errors import UserError
from deeper.record.lock import Lock, take_lock
from deeper.run import build
from deeper.study.definition import Study
from deeper.sweep import local, slurm, slurm_queue
from deeper.sweep.claim import Arm, Claim, arms_of, claim
from deeper.sweep.code_snapshot import Code, freeze


def sweep(
    configs: Sequence[DictConfig],
    overrides: Sequence[Sequence[str]],
    launcher: str,
    settings: dict[str, Any],
    uncomposed: Sequence[tuple[str, str]] = (),
) -> int:
    """Run or submit a sweep as Hydra composed it; return the exit status.

    Args:
        configs: of the arms, with Hydra's section.
        overrides: of each.
        launcher: local or slurm.
        settings: of the launcher.
        uncomposed: arms that have no config, by their overrides, each with the reason.
    """
    first = configs[0]
    read_keys("train", {key: first[key] for key in ("launch", "jobs", "runs")})
    settings = read_launcher(launcher, settings)
    if first.mode.dry:
        if uncomposed:
            raise UserError(uncomposed[0][1])
        return dry.run(configs, overrides)
    if first.study is not None:
        Study.of(build.plain_config(build.frozen(first, first.hydra))["study"])
    runs = Path(first.runs)
    code = freeze(first.code, runs)
    arms, mistakes = arms_of(configs, overrides)
    mistakes = [*uncomposed, *mistakes]
    if not arms:
        raise UserError(mistakes[0][1])
    trust(arm.config for arm in arms)  # that this process was told to run; the arms ask again
    return start(arms, runs, launcher, settings, code, first.launch, mistakes)


def start(
    arms: Sequence[Arm],
    runs: Path,
    launcher: str,
    settings: dict[str, Any],
    code: Code,
    launch: str,
    mistakes: Sequence[tuple[str, str]] = (),
) -> int:
    """Give frozen arms to a launcher; return the exit status.

    Args:
        arms: of one study.
        runs: where run directories go.
        launcher: local or slurm.
        settings: of the launcher.
        code: what is to run.
        launch: wait until all have ended, or detach.
        mistakes: arms that cannot be run, by their overrides, each with the reason.
    """
    console = open_console()
    show = _show_command(arms[0])
    if launcher == "slurm":
        taken = _submitted(arms, runs, settings, code)
        taken.failed.extend(mistakes)
        taken.say(console)
        return slurm.follow(taken, show, console, wait=launch == "wait")

    def detach(taken: Claim) -> None:
        taken.failed.extend(mistakes)
        number = local.detach(_work(taken, settings["jobs"]))
        log = taken.folder / local.LOG
        console.print(f"Process {number} is the launcher; its log: {log}", soft_wrap=True)

    locks: list[Lock] = []  # they tell other launchers that this process has the arms
    try:
        take = detach if launch == "detach" else lambda it: locks.append(take_lock(it.folder))
        taken = claim(arms, runs, launcher, code, settings, take)
        if launch != "detach" or not taken.todo:
            taken.failed.extend(mistakes)
        taken.say(console)
        if launch == "detach" and taken.todo:
            console.print(f"How it goes: {show}", soft_wrap=True)
            return FINISHED
        return local.run(_work(taken, settings["jobs"]))
    finally:
        for lock in locks:
            lock.release()


def _submitted(arms: Sequence[Arm], runs: Path, settings: dict[str, Any], code: Code) -> Claim:
    """Submit arms to Slurm, in as many arrays as it takes.

    Raises:
        UserError: submitit or Slurm is not there, or Slurm refuses.
    """
    most = slurm_queue.largest_array()
    taken: Claim | None = None
    for begin in range(0, len(arms), most):
        try:
            some = claim(arms[begin : begin + most], runs, "slurm", code, settings, slurm.submit)
        except UserError as error:
            if taken is None or not taken.todo:
                raise
            jobs = " and ".join(taken.jobs)
            raise UserError(
                f"{error} The {len(taken.todo)} before them were, as job {jobs}: the same command "
                "submits the others."
            ) from error
        if taken is None:
            taken = some
        else:
            taken.extend(some)
    assert taken is not None
    return taken


def _work(taken: Claim, jobs: int | None) -> local.Work:
    return local.Work(
        folder=str(taken.folder),
        total=taken.total,
        finished=len(taken.finished) + len(taken.elsewhere),
        failed=taken.failed,
        directories=[str(arm.directory) for arm in taken.todo],
        jobs=jobs,
        devices=taken.todo[0].config.train.devices if taken.todo else None,
    )


def _show_command(arm: Arm) -> str:
    """Return what shows the sweep of an arm in any terminal."""
    config = arm.config
    words = ["deeper", "sweep", "status"]
    if config.study:
        words.append(f"study={config.choices.study}")
        if config.mode.name != "full":
            words.append(f"mode={config.choices.mode}")
    elif config.runs == "runs":
        words.append("study=none")
    if config.runs != "runs":
        words.append(f"runs={config.runs}")
    return shlex.join(words)
