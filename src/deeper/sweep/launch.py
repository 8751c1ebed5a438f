"""Giving the runs of a sweep to this process, to a process of their own, or to Slurm."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deeper.errors import UserError
from deeper.record.lock import Lock, take_lock
from deeper.sweep import local, slurm, slurm_queue
from deeper.sweep.claim import Arm, Claim, claim
from deeper.sweep.code_snapshot import Code

Mistakes = Sequence[tuple[str, str]]  # runs that cannot be run, by their overrides, with the reason


@contextmanager
def held_here(
    arms: Sequence[Arm],
    runs: Path,
    settings: dict[str, Any],
    code: Code,
    mistakes: Mistakes = (),
) -> Iterator[Claim]:
    """Take runs for this process, until the end of the block; `local.Sweep` runs them.

    Args:
        arms: of one sweep.
        runs: where run directories go.
        settings: of the launcher: ``jobs``.
        code: what is to run.
        mistakes: arms that cannot be run.
    """
    locks: list[Lock] = []  # other launchers see by them that this process has the runs
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
    """Give runs to a launcher in a process of its own; return its number, None if it has no work.

    Args:
        arms: see `held_here`, as the others.
        runs: where run directories go.
        settings: of the launcher.
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
    """Submit runs to Slurm, in as many job arrays as it takes.

    Args:
        arms: see `held_here`, as the others.
        runs: where run directories go.
        settings: of the launcher.
        code: what is to run.
        mistakes: arms that cannot be run.

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
    taken.failed.extend(mistakes)
    return taken


def work_of(taken: Claim, jobs: int | None) -> local.Work:
    """Return what a local launcher has to do for the runs that it took."""
    return local.Work(
        folder=str(taken.folder),
        total=taken.total,
        finished=len(taken.finished) + len(taken.elsewhere),
        failed=taken.failed,
        directories=[str(arm.directory) for arm in taken.todo],
        jobs=jobs,
        devices=taken.todo[0].config.train.devices if taken.todo else None,
    )
