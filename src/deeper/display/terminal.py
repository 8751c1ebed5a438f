"""The console of all output: it prints text without markup, and adapts to the terminal's width."""

import os
import re
from collections.abc import Iterator, Sequence
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleDimensions
from rich.table import Table

WIDEST = 100  # columns; longer lines are hard to read
SHORTEST_NAME = 14  # narrowest first column of a table


class _Console(Console):
    @property  # type: ignore[misc]
    def size(self) -> ConsoleDimensions:
        """Return the terminal's present size, at most `WIDEST` columns; a log has `WIDEST`
        columns.
        """
        width, height = super().size
        if not self.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
            width = WIDEST
        return ConsoleDimensions(min(width, WIDEST), height)


def open_console(*, stderr: bool = False, file: TextIO | None = None) -> Console:
    """Return a console without markup, emoji codes and highlighting.

    Paths, class names and log lines may hold any characters. Style with ``style=`` or
    `rich.text.Text`.

    Args:
        stderr: write to standard error instead of standard output.
        file: file to write to instead.
    """
    return _Console(stderr=stderr, file=file, markup=False, emoji=False, highlight=False)


def facts_table() -> Table:
    """Return a table of names and values; long values are wrapped."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    return table


def tables(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int,
    *,
    left: int = 1,
    padding: int = 2,
    totals: int = 0,
) -> Iterator[Table]:
    """Split a table by columns into parts that fit a width.

    Each part starts with the first column, which is wrapped if that helps.

    Args:
        headings: headings of the columns.
        rows: the cells.
        width: columns of the terminal.
        left: number of left-aligned first columns; the others are right-aligned.
        padding: spaces between columns.
        totals: number of last rows that are separated and bold.
    """
    widths = [
        max(cell_len(line) for cell in column for line in cell.split("\n"))
        for column in zip(headings, *rows, strict=True)
    ]
    first = widths[0]
    if sum(widths) + padding * len(widths) > width:
        room = width - sum(widths[1:]) - padding * len(widths)
        widest = max(widths[1:], default=0) + 2 * padding
        first = max(1, min(first, max(room, SHORTEST_NAME), width - widest))
    parts: list[list[int]] = [[]]
    free = width - first - padding
    for number, needed in enumerate(widths[1:], start=1):
        if needed + padding > free and parts[-1]:
            parts.append([])
            free = width - first - padding
        parts[-1].append(number)
        free -= needed + padding
    for part in parts:
        table = Table(box=None, header_style="bold", padding=(0, padding, 0, 0))
        for number in (0, *part):
            heading = folded(headings[0], first) if number == 0 else headings[number]
            table.add_column(
                heading,
                justify="left" if number < left else "right",
                min_width=first if number == 0 else None,
                overflow="fold",
            )
        for place, row in enumerate(rows):
            style = "bold" if place >= len(rows) - totals else None
            table.add_row(folded(row[0], first), *(row[n] for n in part), style=style)
        yield table


def folded(text: str, width: int) -> str:
    """Wrap a name after spaces and slashes, or anywhere if necessary."""
    lines = [""]
    for part in re.findall(r"[^\s/]*[\s/]?", text):
        if lines[-1] and cell_len(lines[-1] + part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)
