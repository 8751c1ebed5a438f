"""Output of `deeper search`: its trials, and what it has chosen."""

from collections import Counter

from rich.console import Console

from deeper.display.terminal import tables
from deeper.search.report import FIGURE, SearchReport, rows_of
from deeper.search.trials import Search


def print_answer(status: int, shown: Search | SearchReport | None, console: Console) -> int:
    """Print what `deeper search` has found; return the exit status.

    Args:
        status: of the command.
        shown: a search whose trials are shown, or the report of one.
        console: where to print.
    """
    if isinstance(shown, Search):
        _print_trials(shown, console)
    elif shown is not None:
        _print_report(shown, console)
    return status


def _print_trials(search: Search, console: Console) -> None:
    """Print a row for each trial, and how many are in which state."""
    trials = search.journal.trials()
    headings, rows = rows_of(search, trials)
    for table in tables(headings, rows, console.width):
        console.print(table)
    counts = Counter(row[1] for row in rows)
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    console.print(f"{len(trials)} trials: {states}\n{search.directory}", soft_wrap=True)


def _print_report(report: SearchReport, console: Console) -> None:
    """Print what was chosen, and the command that trains it; the last line is the figure's path."""
    for line in report.sentences():
        console.print(line)
    console.print(f"To train it: {report.command()}", soft_wrap=True)
    console.print(str((report.search.directory / FIGURE).with_suffix(".png")), soft_wrap=True)
