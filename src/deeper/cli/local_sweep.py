"""A sweep in this process, which signals stop."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from deeper.cli.stop_signals import asking_to_stop
from deeper.display.sweep_bars import SweepBars
from deeper.display.sweep_output import print_outcome
from deeper.errors import ExitCode
from deeper.sweep.local import Supply, Sweep, Work


def run_here(work: Work, console: Console, supply: Supply | None = None) -> ExitCode:
    """Run a sweep in this process, with further runs from a supply; return the exit status."""
    with SweepBars(console) as display:
        sweep = Sweep(work, display, supply)
        with _stopping(sweep, console):
            outcome = sweep.run()
    print_outcome(outcome, console)
    return outcome.status


@contextmanager
def _stopping(sweep: Sweep, console: Console) -> Iterator[None]:
    """Stop the runs at checkpoints at the first signal, and kill them at the second.

    A second SIGHUP is ignored, since a closed terminal sends two.
    """
    asked = False

    def stop(number: int, frame: Any) -> None:
        nonlocal asked
        again, asked = asked, True
        if again and number == signal.SIGHUP:
            return
        if not again:
            console.print("Stopping after checkpoints; once more stops at once.")
        sweep.stop(at_once=again)

    previous = {number: signal.signal(number, stop) for number in asking_to_stop()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
