"""Letters whose height is a value: attribution of DNA, and motifs as logos."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

from deeper.interpret.drawing import LOOK
from deeper.interpret.motifs import Matrix, information

# As most logos have them since Schneider and Stephens 1990.
COLOURS = {"A": "#109648", "C": "#255c99", "G": "#f7b32b", "T": "#d62839", "N": "#999999"}
BASES = "ACGT"
WIDTH = 0.9  # of a letter, in positions
BITS = 2.0  # highest information of a position
_FONT = FontProperties(family="DejaVu Sans", weight="bold")


def draw_letter(axes: Axes, letter: str, place: float, low: float, height: float) -> None:
    """Draw a letter over one position; of negative height, upside down below ``low``."""
    outline = TextPath((0, 0), letter, size=1, prop=_FONT)
    box = outline.get_extents()
    scale = Affine2D().translate(-box.x0, -box.y0).scale(WIDTH / box.width, height / box.height)
    shape = scale.translate(place - WIDTH / 2, low).transform_path(outline)
    axes.add_patch(PathPatch(shape, facecolor=COLOURS.get(letter, "#444444"), linewidth=0))


def draw_attribution(
    axes: Axes, values: Float[np.ndarray, " length"], symbols: Sequence[str]
) -> None:
    """Draw the letter of each position as high as its value; values below zero hang down."""
    for place, (letter, value) in enumerate(zip(symbols, values, strict=False)):
        if value:
            draw_letter(axes, letter, place, 0.0, float(value))
    axes.axhline(0.0, color="black", linewidth=0.5)
    shown = values[: len(symbols)]
    low, high = float(shown.min(initial=0.0)), float(shown.max(initial=0.0))
    axes.set_ylim(1.05 * low, 1.05 * high if high > low else 1.0)
    axes.set_xlim(-0.5, max(1, len(symbols)) - 0.5)
    axes.tick_params(labelsize=6)


def draw_motif(axes: Axes, matrix: Matrix) -> None:
    """Draw a motif's logo: each base as high as its share of the position's bits."""
    for place, heights in enumerate(information(matrix)):
        low = 0.0
        for number in np.argsort(heights):
            if heights[number] > 0.01:
                draw_letter(axes, BASES[number], place, low, float(heights[number]))
                low += float(heights[number])
    axes.set_xlim(-0.5, len(matrix) - 0.5)
    axes.set_ylim(0.0, BITS)
    axes.tick_params(labelsize=6)


def motif_figure(heading: str, motifs: Sequence[tuple[str, Matrix]], columns: int = 2) -> Figure:
    """Return a figure of logos with their titles, row by row."""
    rows = max(1, -(-len(motifs) // columns))
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(4.0 * columns, 0.5 + 1.15 * rows))
        FigureCanvasAgg(figure)
        figure.suptitle(heading, x=0.01, ha="left", fontsize=11)
        grid = figure.add_gridspec(
            rows, columns, left=0.05, right=0.99, bottom=0.06, hspace=0.7, wspace=0.12,
            top=1.0 - 0.55 / figure.get_figheight(),
        )  # fmt: skip
        for number, (title, matrix) in enumerate(motifs):
            axes = figure.add_subplot(grid[number // columns, number % columns])
            axes.set_title(title, fontsize=8, loc="left", pad=2)
            draw_motif(axes, matrix)
    return figure
