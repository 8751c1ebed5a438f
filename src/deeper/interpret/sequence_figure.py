"""Figures of sequences: how much each position counts."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from deeper.interpret.drawing import LOOK
from deeper.interpret.sequence_logo import draw_attribution
from deeper.plotting import ShownFigure

A_LINE = 64  # symbols
LETTERS_OF_DNA = frozenset("ACGTN")
COLOURS = mpl.colormaps["RdBu_r"]


def sequence_figure(
    heading: str,
    maps: Sequence[Float[np.ndarray, " length"]],
    titles: Sequence[str],
    symbols: Sequence[Sequence[str]] | None,
) -> Figure:
    """Return a figure with a part for each sequence.

    The letters of DNA are as high as their value, below zero upside down. Other symbols, characters
    or words, are written one after the other on a ground of the colour of their value: red speaks
    for the class, blue against it. Without symbols the values are drawn as a line.

    Args:
        heading: of the figure.
        maps: a value a position.
        titles: of the sequences.
        symbols: what stands at each position; None where there is nothing to write.
    """
    written = {symbol for row in symbols or () for symbol in row}
    dna = bool(written) and written <= LETTERS_OF_DNA
    if symbols is None:
        lines = [1 for _ in maps]
    else:
        lines = [3 if dna else _places(row)[-1][0] + 1 for row in symbols]
    with mpl.rc_context(LOOK):
        figure = ShownFigure(figsize=(8.0, 0.5 + sum(0.45 + 0.25 * n for n in lines)))
        FigureCanvasAgg(figure)
        figure.suptitle(heading, x=0.01, ha="left", fontsize=11)
        grid = figure.add_gridspec(
            len(maps), 1, height_ratios=[n + 1 for n in lines], left=0.04, right=0.99,
            top=1.0 - 0.45 / figure.get_figheight(), bottom=0.03, hspace=0.6,
        )  # fmt: skip
        for number, (values, title) in enumerate(zip(maps, titles, strict=True)):
            axes = figure.add_subplot(grid[number, 0])
            axes.set_title(title, fontsize=8, loc="left", pad=2)
            if symbols is None:
                axes.plot(values, linewidth=0.6, color="black")
                axes.tick_params(labelsize=6)
            elif dna:
                draw_attribution(axes, values, symbols[number])
            else:
                _write(axes, values, symbols[number])
    return figure


def _places(symbols: Sequence[Any]) -> list[tuple[int, int, int]]:
    """Return line, first column and columns of each symbol; words have a column between them."""
    words = any(len(symbol) > 1 for symbol in symbols)
    places, line, column = [], 0, 0
    for symbol in symbols:
        wide = min(len(symbol), A_LINE) if words else 1
        if column + wide > A_LINE:
            line, column = line + 1, 0
        places.append((line, column, wide))
        column += wide + words
    return places or [(0, 0, 0)]


def _write(axes: Axes, values: np.ndarray, symbols: Sequence[str]) -> None:
    """Write symbols line by line, on the colours of their values."""
    places = _places(symbols)
    colours = np.full((places[-1][0] + 1, A_LINE), np.nan)
    for value, (line, column, wide) in zip(values, places, strict=False):
        colours[line, column : column + wide] = value
    most = max(float(np.abs(values).max()), 1e-12)
    axes.imshow(colours, cmap=COLOURS, vmin=-most, vmax=most, aspect="auto", alpha=0.8)
    for symbol, (line, column, wide) in zip(symbols, places, strict=False):
        axes.text(
            column + (wide - 1) / 2, line, symbol,
            fontsize=7, family="monospace", ha="center", va="center", parse_math=False,
        )  # fmt: skip
    axes.axis("off")
