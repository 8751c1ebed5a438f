"""Collects unfinished runs for a launcher."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deeper.config.schema import RunConfig
from deeper.errors import UserError
from deeper.record.schema import read_run
from deeper.sweep.claim import Arm, frozen_config
from deeper.sweep.code_snapshot import Code, freeze
from deeper.sweep.status import State

Launcher = tuple[str, dict[str, Any]]  # (name, settings)


@dataclass(frozen=True)
class Group:
    """Arms for one launcher.

    Attributes:
        launcher: local or slurm.
        settings: settings of the launcher.
        code: the code to run.
        arms: arms of the frozen configs.
    """

    launcher: str
    settings: dict[str, Any]
    code: Code
    arms: list[Arm] = field(default_factory=list)


def arm_of(state: State) -> Arm:
    """Return the arm of a run directory.

    Raises:
        UserError: its config cannot be read, or names a target that is not trusted.
    """
    submission, frozen = state.submission, frozen_config(state.directory)
    if submission is not None:
        return Arm(state.name, state.directory, frozen, submission.overrides, submission.cwd)
    # started by hand with `deeper train`: its overrides are in the record
    return Arm(state.name, state.directory, frozen, read_run(state.directory).words)


def groups_of(
    arms: Iterable[tuple[State, Arm]],
    runs: Path,
    *,
    code: str | None = None,
    launcher: Launcher | None = None,
    jobs: int | None = None,
) -> list[Group]:
    """Group arms by launcher, settings and code, by default those of their submissions.

    Args:
        arms: arms with their states.
        runs: root of the run directories.
        code: snapshot or tree for the present code; None for that of each submission.
        launcher: for all arms; None for that of each submission.
        jobs: number of simultaneous arms, for arms without a submission.

    Returns:
        The groups, with local launchers last, since they block until their arms have ended.

    Raises:
        UserError: the snapshot of an arm's code does not exist any more.
    """
    groups: dict[str, Group] = {}
    for state, arm in arms:
        of_arm = _code(state, code, runs, arm.config)
        name, settings = launcher or _launcher_before(state, jobs)
        key = json.dumps([name, settings, of_arm.plain()], sort_keys=True)
        groups.setdefault(key, Group(name, settings, of_arm)).arms.append(arm)
    return sorted(groups.values(), key=lambda group: group.launcher == "local")


def _code(state: State, choice: str | None, runs: Path, frozen: RunConfig) -> Code:
    """Return the code with which an arm continues."""
    if state.submission is None or choice is not None:
        return freeze(choice or "snapshot", runs, [frozen.plain()])
    code = Code(**state.submission.code)
    if code.root is not None and not Path(code.root).is_dir():
        raise UserError(
            f"{code.root}, the code of {state.name}, is gone: code=snapshot continues with the "
            "code as it is now."
        )
    return code


def _launcher_before(state: State, jobs: int | None) -> Launcher:
    """Return the launcher of an arm's submission; the local one without a submission."""
    if state.submission is None:
        return "local", {"jobs": jobs}
    return state.submission.launcher, state.submission.settings
