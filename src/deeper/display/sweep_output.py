"""Output of the launchers: claimed runs, the progress of jobs on Slurm, and the outcome."""

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live

from deeper.display.status_table import summary, table
from deeper.errors import ExitCode, UserError
from deeper.sweep.claim import Claim
from deeper.sweep.local import Outcome
from deeper.sweep.status import FAILED_STATES, State, over, states_of

POLL_SECONDS = 10.0


def print_claim(taken: Claim, console: Console) -> None:
    """Print the number of runs, those that cannot be run, and the code that they run."""
    line = f"{taken.total} runs: {len(taken.finished)} finished before, {len(taken.todo)} to do"
    if taken.elsewhere:
        line += f", {len(taken.elsewhere)} with another launcher"
    if taken.failed:
        line += f", {len(taken.failed)} that will not run"
    console.print(line)
    for arm, where in taken.elsewhere[:3]:
        console.print(f"  {arm.name}: {where}", soft_wrap=True)
    if len(taken.elsewhere) > 3:
        console.print(f"  and {len(taken.elsewhere) - 3} more; `deeper sweep status` shows all")
    for name, reason in taken.failed:
        console.print(f"  {name}: {reason}", soft_wrap=True, markup=False)
    notice = taken.code.notice()
    if notice and taken.todo:
        console.print(notice, style="yellow", soft_wrap=True)


def print_outcome(outcome: Outcome, console: Console) -> None:
    """Print which runs failed, and how to go on."""
    if outcome.unfinished:
        console.print(
            f"Stopped with {outcome.total - outcome.unfinished} of {outcome.total} runs done; the "
            "same command goes on from here."
        )
    if outcome.failed:
        console.print(f"{len(outcome.failed)} of {outcome.total} runs failed:")
        for failure in outcome.failed:
            where = f"\n    {failure.log}" if failure.log else ""
            console.print(f"  {failure.name}: {failure.reason}{where}", soft_wrap=True)


def follow_slurm(taken: Claim, show: str, console: Console, *, wait: bool) -> ExitCode:
    """Print what was submitted; with ``wait``, show the progress until all runs have ended.

    Args:
        taken: the claimed sweep.
        show: command that shows the sweep in any terminal.
        console: where to show it.
        wait: whether to wait for the end.

    Returns:
        The exit status, which is not 0 if a run failed or was stopped.
    """
    if taken.todo:
        jobs = " and ".join(taken.jobs)
        console.print(
            f"Slurm job {jobs}: {len(taken.todo)} arms. How it goes: {show}", soft_wrap=True
        )
    if not wait or not taken.todo:
        return ExitCode.FAILED if taken.failed else ExitCode.FINISHED
    try:
        states = _watch([arm.directory for arm in taken.todo], console)
    except KeyboardInterrupt:
        cancel = show.replace(" status", " cancel", 1)
        console.print(f"The jobs go on. How: {show}\nTo end them: {cancel}", soft_wrap=True)
        return ExitCode.INTERRUPTED
    console.print(summary(states))
    console.print(table(states, everything=False))
    if taken.failed or any(state.word in FAILED_STATES for state in states):
        return ExitCode.FAILED
    finished = all(state.word == "finished" for state in states)
    return ExitCode.FINISHED if finished else ExitCode.INTERRUPTED


def _watch(directories: Sequence[Path], console: Console) -> list[State]:
    """Show the states of runs until all have ended; a log gets a line per ended run."""
    ended = -1
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            try:
                states = states_of(directories)
            except UserError as error:  # for instance while Slurm's controller is restarted
                console.print(str(error), soft_wrap=True)
                time.sleep(6 * POLL_SECONDS)
                continue
            if console.is_terminal:
                live.update(Group(table(states, everything=False), summary(states)), refresh=True)
            now_ended = sum(map(over, states))
            if not console.is_terminal and now_ended != ended:
                console.print(summary(states))
            ended = now_ended
            if ended == len(states):
                return states
            time.sleep(POLL_SECONDS)
