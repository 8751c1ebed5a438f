"""Runs the trials of a search on this machine or in Slurm."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from deeper.errors import ExitCode, UserError
from deeper.record.atomic_files import disk_errors
from deeper.record.lock import take_lock
from deeper.search.slurm_trials import run_in_slurm
from deeper.search.trials import Search, Trials
from deeper.sweep.claim import Arm
from deeper.sweep.code_snapshot import Code
from deeper.sweep.local import Work


def trials_of(
    search: Search, total: int, launcher: str, settings: dict[str, Any], runs: Path, code: Code
) -> Trials:
    """Return the trials that a launcher runs; see `Trials`.

    Raises:
        UserError: for Slurm, the number of trials at a time is missing.
    """
    if launcher == "slurm" and settings["array_parallelism"] is None:
        raise UserError("In Slurm say how many trials run at a time: jobs=N.")
    return Trials(search, total, launcher, settings, runs, code)


def run_trials(
    trials: Trials, run_here: Callable[[Work, Trials], ExitCode], tell: Callable[[str], None]
) -> ExitCode:
    """Run trials until all are settled, or until a stop is asked for; return the exit status.

    Args:
        trials: from `trials_of`.
        run_here: runs the work on this machine, with the trials as its supply.
        tell: called with a line for each trial that has ended in Slurm.
    """
    if trials.complete():
        return ExitCode.FINISHED
    if trials.launcher == "slurm":
        try:
            whole = run_in_slurm(trials, trials.settings["array_parallelism"], tell)
        except KeyboardInterrupt:
            tell("The jobs go on; the same command goes on with the search.")
            return ExitCode.INTERRUPTED
        return ExitCode.FINISHED if whole else ExitCode.FAILED
    with disk_errors(trials.folder):
        trials.folder.mkdir(parents=True)
    lock = take_lock(trials.folder)  # shows other launchers that this one has its trials
    try:
        return run_here(_work(trials), trials)
    finally:
        lock.release()


def _work(trials: Trials) -> Work:
    _, base = trials.search.definition.config()
    return Work(
        folder=str(trials.folder),
        total=trials.total,
        finished=trials.settled,
        failed=[],
        directories=[],
        jobs=trials.settings["jobs"],
        devices=base.train.devices,
    )


def arm_to_finish(search: Search, number: int | None) -> Arm:
    """Return the arm of a trial that was cut, to be trained to its end.

    Raises:
        UserError: there is no such trial, or its run has not begun.
    """
    trials = search.journal.trials()
    if number is None or number >= len(trials) or search.directory_of(number) is None:
        raise UserError(
            f"trial={number}: say which of the trials 0 to {len(trials) - 1} that have begun is to "
            "be trained to its end; `deeper search status` shows them."
        )
    if not trials[number].settled:
        raise UserError(f"trial={number} has not ended yet: the same search goes on with it.")
    return search.arm(trials[number], rungs=False)
