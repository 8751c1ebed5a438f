"""Freezing the configs of a sweep's runs in their directories, and claiming them for a launcher.

Each run is executed once, even if several launchers are started: a launcher claims runs while it
holds the lock of the study's directory, and only if no process and no job has the run already.
"""

import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deeper.config.identity import LAUNCHING, config_hash, run_directory
from deeper.config.instantiate import require_trusted, trust_in_children
from deeper.config.schema import RunConfig
from deeper.errors import UserError
from deeper.record.atomic_files import disk_errors, read_json
from deeper.record.lock import Lock, holder_of, take_lock
from deeper.record.run_directory import RunDirectory
from deeper.record.schema import CONFIG, RESULT, SUBMISSION, read_config
from deeper.record.values import of_overrides
from deeper.run.check import check, check_same_data
from deeper.sweep import slurm_queue
from deeper.sweep.code_snapshot import Code
from deeper.sweep.submission import (
    Submission,
    read_submission,
    write_submission,
)

CLAIM_SECONDS = 60.0  # timeout for another launcher that is submitting


@dataclass
class Arm:
    """One run of a sweep.

    Attributes:
        name: display name.
        directory: its run directory.
        config: the frozen config.
        overrides: overrides of `deeper train`.
        cwd: working directory, to which relative paths of the config refer.
        search: see `Submission`.
    """

    name: str
    directory: Path
    config: RunConfig
    overrides: list[str]
    cwd: str = field(default_factory=os.getcwd)
    search: dict[str, Any] | None = None

    def status(self) -> str | None:
        """Return the status of its result, or None."""
        return (read_json(self.directory / RESULT) or {}).get("status")


@dataclass
class Claim:
    """The runs of a sweep, sorted by what a launcher has to do.

    Attributes:
        folder: folder of the launch.
        code: the code that they run.
        todo: the arms that this launcher runs, in order.
        finished: arms that were finished before.
        failed: names of arms with reasons: diverged before, finished on other data, or mistakes
            in their configs.
        elsewhere: arms that another process or job has, each with the name of that process or job.
        jobs: ids of batch jobs, if any.
    """

    folder: Path
    code: Code
    todo: list[Arm] = field(default_factory=list)
    finished: list[Arm] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    elsewhere: list[tuple[Arm, str]] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Return the number of arms."""
        return len(self.todo) + len(self.finished) + len(self.failed) + len(self.elsewhere)

    def extend(self, other: "Claim") -> None:
        """Add another claim of the same sweep."""
        for name in ("todo", "finished", "failed", "elsewhere", "jobs"):
            getattr(self, name).extend(getattr(other, name))


def arms_of(configs: Sequence[RunConfig], overrides: Sequence[Sequence[str]]) -> list[Arm]:
    """Return the arms of a sweep; configs of the same run are listed once.

    Args:
        configs: configs of the runs.
        overrides: overrides of `deeper train` for each config.
    """
    arms: dict[Path, Arm] = {}
    for config, words in zip(configs, overrides, strict=True):
        directory = run_directory(config.plain()).absolute()
        name = f"{config.label} s{config.seed}"
        of_the_run = [word for word in words if word.partition("=")[0] not in LAUNCHING]
        arms.setdefault(directory, Arm(name, directory, config, of_the_run))
    _tell_apart(list(arms.values()))
    return list(arms.values())


def _tell_apart(arms: list[Arm]) -> None:
    """Add to the arms' names the settings in which they differ, except those in the label."""
    values: dict[str, set[str]] = {}
    for arm in arms:
        for key, value in of_overrides(arm.overrides).items():
            values.setdefault(key, set()).add(value)
    in_label = ("model", "model.depth", "seed")
    differing = [key for key, some in values.items() if len(some) > 1 and key not in in_label]
    for arm in arms:
        settings = of_overrides(arm.overrides)
        arm.name = " ".join([arm.name, *(settings[key] for key in differing if key in settings)])


def frozen_config(directory: Path) -> RunConfig:
    """Return the config that was frozen in a run directory.

    Raises:
        UserError: the config is missing, was edited, is not valid, or names a target that is not
            trusted.
    """
    plain = read_config(directory)
    if plain is None:
        raise UserError(f"{directory} has no {CONFIG}: it is no run directory.")
    frozen = plain.pop("config_hash", None)
    if "choices" not in plain:
        raise UserError(
            f"{directory / CONFIG} does not say which groups were chosen, as those of an older "
            "deeper: repeat the command `deeper train` that made it."
        )
    if frozen != config_hash(plain):
        raise UserError(
            f"{directory / CONFIG} was edited: its config_hash is {frozen}, but what it says has "
            f"{config_hash(plain)}. Undo that, or give `deeper train` the new values."
        )
    require_trusted(plain, str(directory / CONFIG))
    return RunConfig.of(plain)


def claim(
    arms: Sequence[Arm],
    runs: Path,
    launcher: str,
    code: Code,
    settings: dict[str, Any],
    submit: Callable[[Claim], None],
    folder: Path | None = None,
) -> Claim:
    """Freeze and claim the arms that have to be run.

    Args:
        arms: arms of the sweep.
        runs: root of the run directories.
        launcher: name of the launcher.
        code: the code to run.
        settings: settings of the launcher, for a later `deeper sweep resume`.
        submit: hands the claim to a batch system or a process while the lock is held; if it raises,
            nothing is claimed.
        folder: of a launcher that claims its runs one by one; by default a new one.

    Raises:
        UserError: another launcher holds the lock for too long, or the disk refuses.
    """
    # The arms' processes check trust again, so they have to inherit it.
    trust_in_children(arm.config.plain() for arm in arms)
    folder = folder or new_folder(runs, arms[0].directory.parent.name)
    taken = Claim(folder, code)
    with locked(sorted({arm.directory.parent for arm in arms})):
        before = [read_submission(arm.directory) for arm in arms]
        try:
            for arm, where in zip(arms, alive_among(before), strict=True):
                status = arm.status()
                if status == "finished":
                    other = _on_other_data(arm)
                    if other is None:
                        taken.finished.append(arm)
                    else:
                        taken.failed.append((arm.name, other))
                elif status is not None:
                    taken.failed.append((arm.name, f"{status} before"))
                elif where is not None:
                    taken.elsewhere.append((arm, where))
                else:
                    _take(arm, taken, launcher, settings)
            if taken.todo:
                with disk_errors(folder):
                    folder.mkdir(parents=True, exist_ok=True)
                submit(taken)
        except BaseException:
            for arm, old in zip(arms, before, strict=True):
                if not any(arm is mine for mine in taken.todo):
                    continue
                if old is not None:
                    write_submission(arm.directory, old)
                else:
                    (arm.directory / SUBMISSION).unlink(missing_ok=True)
            raise
    return taken


def new_folder(runs: Path, name: str) -> Path:
    """Return the folder of a new launch; it does not exist yet."""
    launch = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    return runs.absolute() / ".sweep" / launch


def _on_other_data(arm: Arm) -> str | None:
    """Return a message if a finished arm was trained on other data than the present ones."""
    try:
        with chdir(arm.cwd):
            check_same_data(arm.directory, arm.config)
    except UserError as error:
        return str(error)
    return None


def _take(arm: Arm, taken: Claim, launcher: str, settings: dict[str, Any]) -> None:
    """Freeze an arm in its directory, unless `deeper train` is already running it."""
    try:
        with chdir(arm.cwd):
            check(arm.config)
        with disk_errors(arm.directory):
            arm.directory.mkdir(parents=True, exist_ok=True)
    except UserError as error:
        taken.failed.append((arm.name, str(error)))
        return
    try:
        take_lock(arm.directory).release()
    except UserError as error:
        taken.elsewhere.append((arm, str(error)))
        return
    plain = arm.config.plain()
    try:
        with RunDirectory.open(arm.directory, plain, config_hash(plain)) as opened:
            if _on_other_data(arm) is None:  # otherwise the arm reports the mistake itself
                opened.take_config()
    except UserError as error:
        taken.failed.append((arm.name, str(error)))
        return
    submission = Submission(
        launcher=launcher,
        sweep=str(taken.folder),
        index=len(taken.todo),
        name=arm.name,
        overrides=arm.overrides,
        cwd=arm.cwd,
        code=taken.code.plain(),
        settings=settings,
        search=arm.search,
    )
    write_submission(arm.directory, submission)
    taken.todo.append(arm)


def alive_among(submissions: Sequence[Submission | None]) -> list[str | None]:
    """Return a description of the process or job of each arm, or None, with one query of Slurm."""
    known = [each for each in submissions if each is not None]
    on_slurm = [each for each in known if each.launcher == "slurm"]
    jobs = slurm_queue.waiting_and_running(on_slurm) if on_slurm else {}
    folders = {each.sweep for each in known if each.launcher == "local"}
    holders = {folder: holder_of(Path(folder)) for folder in folders}

    def holder(submission: Submission | None) -> str | None:
        if submission is None:
            return None
        if submission.launcher == "slurm":
            job = jobs.get((submission.sweep, submission.index))
            return None if job is None else f"job {job.id} ({job.state.lower()})"
        process = holders[submission.sweep]
        return None if process is None or submission.ended else str(process)

    return [holder(each) for each in submissions]


@contextmanager
def locked(directories: Sequence[Path]) -> Iterator[None]:
    """Hold the locks of directories, such as the studies' while runs are claimed."""
    locks: list[Lock] = []
    deadline = time.monotonic() + CLAIM_SECONDS
    try:
        for directory in directories:
            with disk_errors(directory):
                directory.mkdir(parents=True, exist_ok=True)
            while True:
                try:
                    locks.append(take_lock(directory))
                    break
                except UserError:
                    if time.monotonic() > deadline:
                        raise
                time.sleep(0.2)
        yield
    finally:
        for lock in locks:
            lock.release()
