"""The console that all output goes through: text is printed as it is, as wide as fits."""

import os
from typing import TextIO

from rich.console import Console, ConsoleDimensions

WIDEST = 100  # columns; longer lines of prose are hard to read


class _Console(Console):
    @property  # type: ignore[misc]
    def size(self) -> ConsoleDimensions:
        """Return the terminal's present size, `WIDEST` columns at most; of a log, these."""
        width, height = super().size
        if not self.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
            width = WIDEST
        return ConsoleDimensions(min(width, WIDEST), height)


def open_console(*, stderr: bool = False, file: TextIO | None = None) -> Console:
    """Return a console that takes no text for markup, emoji codes or something to highlight.

    Paths, class names and log lines may hold any characters. Style with ``style=`` or
    `rich.text.Text`.

    Args:
        stderr: write there instead of to the standard output.
        file: write there instead.
    """
    return _Console(stderr=stderr, file=file, markup=False, emoji=False, highlight=False)
