"""Cancels the waiting and running arms of a sweep; running arms write a checkpoint first."""

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from deeper.sweep import slurm_queue
from deeper.sweep.status import State
from deeper.sweep.submission import now, update_submission


@dataclass(frozen=True)
class Cancelled:
    """The result of cancelling an arm.

    Attributes:
        name: name of the arm.
        words: description of what was done.
        done: whether the arm ends; otherwise ``words`` say what the user can do.
    """

    name: str
    words: str
    done: bool = True


def cancel(alive: Sequence[State]) -> list[Cancelled]:
    """Cancel arms, and record the request in their directories.

    Args:
        alive: states of the arms that wait or run.

    Raises:
        UserError: Slurm's queue cannot be queried.
    """
    for state in alive:
        if state.submission is not None:
            update_submission(state.directory, state.submission.sweep, cancelled=now())
    on_slurm = [s.submission for s in alive if s.submission and s.submission.launcher == "slurm"]
    slurm_queue.cancel(list(slurm_queue.waiting_and_running(on_slurm).values()))
    return [_cancel_one(state) for state in alive]


def _cancel_one(state: State) -> Cancelled:
    """Stop an arm of this machine; for an arm in Slurm, only describe what its job does."""
    submission, name = state.submission, state.name
    if submission is None:
        words = f"left alone: it is {state.remark}; end it there"
        return Cancelled(name, words, done=False)
    if submission.launcher == "slurm":
        how = "stops at a checkpoint" if state.word == "running" else "cancelled"
        return Cancelled(name, f"job {state.job} {how}")
    process = submission.process
    if process is None:
        return Cancelled(name, "will not be started")
    if not process.here:
        return Cancelled(name, f"runs on {process.host}: give this command there", done=False)
    if process.alive:
        os.kill(process.pid, signal.SIGTERM)
        return Cancelled(name, f"process {process.pid} stops at a checkpoint")
    return Cancelled(name, "has ended")
