"""Draws a window sliding over a map, with the numbers of an example.

As in Dumoulin and Visin's figures: the input with its padding on the left, the result on the right,
the window and its output in colour.
"""

import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from deeper.errors import UserError
from deeper.plotting import COLOURS, INK, SOFT, STYLE
from deeper.profile.conv_arithmetic import Geometry, apply

LARGEST = 16  # largest readable number of cells per side
MAP, RESULT, PADDING = "#d6e6f4", "#cdeadf", "white"
MILLISECONDS = 600


def example(geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Return a small input and kernel: Dumoulin and Visin's for 5x5 under 3x3, figure 1."""
    size, k = (geometry.height, geometry.width), geometry.kernel
    if size == (5, 5) and k == 3:
        x = [[3, 3, 2, 1, 0], [0, 0, 1, 3, 1], [3, 1, 2, 2, 3], [2, 0, 0, 2, 2], [2, 0, 0, 0, 1]]
        return np.array(x, float), np.array([[0, 1, 2], [2, 2, 0], [0, 1, 2]], float)
    rng = np.random.default_rng(0)
    return rng.integers(0, 4, size).astype(float), rng.integers(0, 3, (k, k)).astype(float)


def draw(geometry: Geometry, out: Path, animate: bool) -> None:
    """Draw the window at its first, a middle and its last position; or, animated, at all positions.

    Args:
        geometry: geometry of one channel, with maps of at most 16x16.
        out: .png or .svg file, or .gif for an animation.
        animate: draw an animation.

    Raises:
        UserError: the map is too large, or the suffix of the file does not fit.
    """
    largest = max(geometry.height, geometry.width, *geometry.output[:2]) + 2 * geometry.padding
    if largest > LARGEST:
        raise UserError(
            f"A map of {largest} cells a side cannot be drawn; the picture is for up to {LARGEST}: "
            "leave out=... away for the numbers alone."
        )
    if animate != (out.suffix == ".gif") or out.suffix not in (".png", ".svg", ".gif"):
        raise UserError(f"out={out}: give a .gif with animate=true, else a .png or .svg.")
    moving = geometry.kind == "transposed"
    rows, columns = (geometry.height, geometry.width) if moving else geometry.output[:2]
    places = [(i, j) for i in range(rows) for j in range(columns)]
    out.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({**mpl.rcParamsDefault, **STYLE, "axes.grid": False, "backend": "agg"}):
        if animate:
            frames = [_frame(geometry, [place]) for place in places]
            first, *rest = (_image(frame) for frame in frames)
            first.save(out, save_all=True, append_images=rest, duration=MILLISECONDS, loop=0)
            return
        shown = list(dict.fromkeys((places[0], places[len(places) // 2], places[-1])))
        metadata = {"Date": None} if out.suffix == ".svg" else {"Software": None}
        _frame(geometry, shown).savefig(out, metadata=metadata)


def _image(figure: Figure) -> Image.Image:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    return Image.open(buffer).convert("P", palette=Image.Palette.ADAPTIVE)


def _frame(geometry: Geometry, places: list[tuple[int, int]]) -> Figure:
    """Return a figure with one row of input, kernel and result per position."""
    x, kernel = example(geometry)
    y = apply(geometry, x, kernel)
    pool = geometry.kind == "pool"
    figure = Figure(figsize=(8.2, 2.9 * len(places) + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    around = 0 if geometry.kind == "transposed" else geometry.padding
    widths = (x.shape[1] + 2 * around, geometry.kernel, y.shape[1])
    # One scale for all panels, from the highest one.
    height = max(x.shape[0] + 2 * around, geometry.kernel, y.shape[0])
    grid = figure.subplots(len(places), 3, squeeze=False, width_ratios=widths)
    for (left, middle, right), (row, column) in zip(grid, places, strict=True):
        window = geometry.window(row, column)
        if geometry.kind == "transposed":
            _map(left, x, MAP, 0, [(row, column)])
            inside = [(i, j) for i, j in window if 0 <= i < y.shape[0] and 0 <= j < y.shape[1]]
            _map(right, y, RESULT, 0, inside)
        else:
            _map(left, x, MAP, around, window)
            _map(right, y, RESULT, 0, [(row, column)])
        if pool:
            middle.text(0.5, 0.5, "max", ha="center", va="center", fontsize=13, color=SOFT)
            middle.set_axis_off()
        else:
            _map(middle, kernel, "#fbe3d2", 0, [])
        for axes in (left, middle, right):
            low, high = sorted(axes.get_ylim())
            spare = (height + 0.2 - (high - low)) / 2
            axes.set_ylim(high + spare, low - spare)
        left.set_title("input", fontsize=10)
        middle.set_title("" if pool else "kernel", fontsize=10)
        right.set_title("result", fontsize=10)
    title = f"{geometry.kernel}x{geometry.kernel} {'max pooling' if pool else geometry.kind}"
    parts = [f"stride {geometry.stride}", f"padding {geometry.padding}"]
    if geometry.dilation > 1:
        parts.append(f"dilation {geometry.dilation}")
    size = f"{x.shape[0]}x{x.shape[1]} to {y.shape[0]}x{y.shape[1]}"
    figure.suptitle(f"{title}, {', '.join(parts)}: {size}", fontsize=11, color=INK)
    return figure


def _map(
    axes: Axes, values: np.ndarray, colour: str, padding: int, lit: list[tuple[int, int]]
) -> None:
    """Draw a map as cells with their numbers; lit cells are highlighted."""
    height, width = values.shape
    for i in range(-padding, height + padding):
        for j in range(-padding, width + padding):
            inside = 0 <= i < height and 0 <= j < width
            axes.add_patch(
                Rectangle(
                    (j, i),
                    1,
                    1,
                    facecolor=colour if inside else PADDING,
                    edgecolor="#9aa3ac",
                    linewidth=0.8,
                    linestyle="-" if inside else (0, (2, 2)),
                )
            )
            text = f"{values[i, j]:g}" if inside else "0"
            axes.text(
                j + 0.5,
                i + 0.5,
                text,
                ha="center",
                va="center",
                fontsize=9 if max(values.shape) <= 9 else 7,
                color=INK if inside else "#9aa3ac",
            )
    for i, j in lit:
        axes.add_patch(Rectangle((j, i), 1, 1, facecolor=COLOURS[1], alpha=0.35, edgecolor="none"))
        axes.add_patch(Rectangle((j, i), 1, 1, fill=False, edgecolor=COLOURS[1], linewidth=1.6))
    axes.set_xlim(-padding - 0.1, width + padding + 0.1)
    axes.set_ylim(height + padding + 0.1, -padding - 0.1)
    axes.set_aspect("equal")
    axes.set_axis_off()
