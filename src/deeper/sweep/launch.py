"""Launches the runs of a sweep in this process, in a detached process, or in Slurm."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deeper.errors import UserError
from deeper.record.lock import Lock, take_lock
from deeper.sweep import local, slurm, slurm_queue
from deeper.sweep.claim import Arm, Claim, claim
from deeper.sweep.code_snapshot import Code

Mistakes = Sequence[tuple[str, str]]  # (overrides, reason) of arms that cannot be run


@contextmanager
def claimed_runs(
    arms: Sequence[Arm],
    runs: Path,
    settings: dict[str, Any],
    code: Code,
    mistakes: Mistakes = (),
) -> Iterator[Claim]:
    """Claim runs for this process until the end of the block; `local.Sweep` runs them.

    Args:
        arms: arms of one sweep.
        runs: where run directories go.
        settings: settings of the launcher: ``jobs``.
        code: what is to run.
        mistakes: arms that cannot be run.
    """
    locks: list[Lock] = []  # show other launchers that this process has the runs
    try:
        taken = claim(arms, runs, "local", code, settings, lambda it: _hold(it, locks))
        taken.failed.extend(mistakes)
        yield taken
    finally:
        for lock in locks:
            lock.release()


def _hold(taken: Claim, locks: list[Lock]) -> None:
    locks.append(take_lock(taken.folder))


def detached(
    arms: Sequence[Arm],
    runs: Path,
    settings: dict[str, Any],
    code: Code,
    mistakes: Mistakes = (),
) -> tuple[Claim, int | None]:
    """Start a detached launcher for runs; return its process id, or None if there is nothing to
    run.

    Args:
        arms: see `claimed_runs`, as the others.
        runs: where run directories go.
        settings: settings of the launcher.
        code: what is to run.
        mistakes: arms that cannot be run.
    """
    numbers: list[int] = []

    def hand_over(taken: Claim) -> None:
        taken.failed.extend(mistakes)
        numbers.append(local.detach(work_of(taken, settings["jobs"])))

    taken = claim(arms, runs, "local", code, settings, hand_over)
    if not taken.todo:
        taken.failed.extend(mistakes)
    return taken, numbers[0] if numbers else None


def submitted(
    arms: Sequence[Arm],
    runs: Path,
    settings: dict[str, Any],
    code: Code,
    mistakes: Mistakes = (),
) -> Claim:
    """Submit runs to Slurm, in as many job arrays as needed.

    Args:
        arms: see `claimed_runs`, as the others.
        runs: where run directories go.
        settings: settings of the launcher.
        code: what is to run.
        mistakes: arms that cannot be run.

    Raises:
        UserError: submitit or Slurm is missing, or Slurm refuses.
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
    taken.failed.extend(mistakes)
    return taken


def work_of(taken: Claim, jobs: int | None) -> local.Work:
    """Return the work of a local launcher for its claimed runs."""
    return local.Work(
        folder=str(taken.folder),
        total=taken.total,
        finished=len(taken.finished) + len(taken.elsewhere),
        failed=taken.failed,
        directories=[str(arm.directory) for arm in taken.todo],
        jobs=jobs,
        devices=taken.todo[0].config.train.devices if taken.todo else None,
    )
