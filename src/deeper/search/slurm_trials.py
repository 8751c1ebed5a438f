"""Runs the trials of a search in Slurm: a job each, so many at a time."""

import time
from collections.abc import Callable
from pathlib import Path

from deeper.errors import UserError
from deeper.search.trials import Trials
from deeper.sweep.status import over, states_of

POLL_SECONDS = 10.0


def run_in_slurm(
    trials: Trials, jobs: int, tell: Callable[[str], None], poll: float = POLL_SECONDS
) -> bool:
    """Submit trials until all are settled.

    The jobs do not need this process: they report to the journal, and the same command goes on
    after it was killed, with the jobs that are still in the queue.

    Args:
        trials: of the search.
        jobs: trials at a time, over all launchers.
        tell: called with a line for each trial that has ended.
        poll: seconds between two looks.

    Returns:
        Whether every trial of this launcher has a score or was cut.
    """
    flying: list[Path] = []
    whole = True
    while flying or not trials.complete():
        try:
            ended = [state for state in states_of(flying) if over(state)]
        except UserError as error:  # for instance while Slurm's controller is restarted
            tell(str(error))
            time.sleep(6 * poll)
            continue
        for state in ended:
            flying.remove(state.directory)
            # A run that was stopped at a checkpoint is submitted again.
            failure = None if state.word == "stopped" else state.remark or state.word
            said = trials.ended(state.directory, failure)
            whole = whole and (said is not None or failure is None)
            tell(f"{state.name}: {said or failure or state.remark}")
        while trials.running < jobs and (directory := trials.next()) is not None:
            flying.append(directory)
        if flying or not trials.complete():
            time.sleep(poll)
    return whole
