"""Sheets of pictures: filters, activations, attributions, and the deconvnet's figure 2."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from deeper.interpret.gradient_scales import Scales
from deeper.plotting import COLOURS, INK, SOFT, STYLE, ShownFigure

Picture = Float[np.ndarray, "height width channels"]
OVERLAYS_A_ROW = 5
OVERLAY = 0.6  # opacity of a map over a picture
LABEL_WIDTH = 1.75  # inches, of the labels beside rows
LETTER = 0.088  # inches of a title
NARROWEST = 30  # letters in a line of a title
LOOK = {**mpl.rcParamsDefault, **STYLE, "axes.grid": False, "backend": "agg"}


def show(axes: Axes, picture: Picture, *, heat: bool = False) -> None:
    """Draw a picture of values 0 to 1, or a map of heat."""
    axes.axis("off")
    values = np.clip(picture, 0.0, 1.0)
    if heat or values.shape[-1] == 1:
        colours = "inferno" if heat else "gray"
        axes.imshow(values[..., 0], cmap=colours, vmin=0, vmax=1, interpolation="nearest")
    else:
        axes.imshow(values, interpolation="nearest")


def as_picture(image: np.ndarray) -> Picture:
    """Return an image with values 0 to 1: uint8 by its range, else from least to most."""
    return image / 255.0 if image.dtype == np.uint8 else stretched(image, about_zero=False)


def stretched(values: np.ndarray, *, about_zero: bool = True) -> np.ndarray:
    """Scale values to 0..1: about zero, which becomes 0.5, or from the least to the largest."""
    if about_zero:
        return 0.5 + 0.5 * values / max(float(np.abs(values).max()), 1e-12)
    low, high = float(values.min()), float(values.max())
    return (values - low) / max(high - low, 1e-12)


def overlaid(
    picture: Picture, heat: Float[np.ndarray, "height width"]
) -> Float[np.ndarray, "height width 3"]:
    """Return a picture in grey with a map over it, values 0 to 1.

    Non-negative maps are scaled by their largest value, maps of either sign about zero.
    """
    largest = max(float(np.abs(heat).max()), 1e-12)
    signed = bool((heat < 0).any())
    shares = 0.5 + 0.5 * heat / largest if signed else heat / largest
    colours = mpl.colormaps["RdBu_r" if signed else "inferno"](shares)[..., :3]
    grey = np.clip(picture, 0.0, 1.0).mean(axis=-1, keepdims=True)
    return (1 - OVERLAY) * grey + OVERLAY * colours


class Channel(NamedTuple):
    """A channel of the deconvnet's sheet: its strongest places.

    Attributes:
        patches: what lies under them in the images, 0 to 1.
        projections: their projections to pixel space, any scale.
    """

    patches: Sequence[Picture]
    projections: Sequence[Picture]


def deconvnet_sheet(title: str, layers: Mapping[str, Sequence[Channel]], out: Path) -> None:
    """Draw each layer's channels: projections to the left, patches to the right, three by three.

    Zeiler and Fergus 2013, figure 2.
    """
    across = max(len(channels) for channels in layers.values())
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(2.35 * across + 0.3, 1.42 * len(layers) + 0.5))
        FigureCanvasAgg(figure)
        figure.suptitle(title, x=0.01, y=0.995, ha="left", va="top", fontsize=11)
        top = 1.0 - 0.42 / figure.get_figheight()
        grid = figure.add_gridspec(
            len(layers), across, left=0.01, right=0.995, bottom=0.01, top=top, wspace=0.06,
            hspace=0.24,
        )  # fmt: skip
        for row, (layer, channels) in enumerate(layers.items()):
            for column, channel in enumerate(channels):
                cell = figure.add_subplot(grid[row, column])
                cell.axis("off")
                if column == 0:
                    cell.set_title(layer, fontsize=8, loc="left", pad=2)
                pair = grid[row, column].subgridspec(1, 2, wspace=0.03)
                pictures = (channel.projections, channel.patches)
                for side, some in enumerate(pictures):
                    axes = figure.add_subplot(pair[side])
                    show(axes, _nine(some, projected=side == 0))
        figure.savefig(out, metadata={"Software": None})


def _nine(pictures: Sequence[Picture], *, projected: bool) -> Picture:
    """Put up to nine pictures of one size side by side, three in a row."""
    height, width, channels = pictures[0].shape
    board = np.ones((3 * height + 2, 3 * width + 2, channels))
    for number, picture in enumerate(pictures[:9]):
        top, left = (number // 3) * (height + 1), (number % 3) * (width + 1)
        shown = stretched(picture) if projected else picture
        board[top : top + height, left : left + width] = shown
    return board


def grid_sheet(
    title: str,
    rows: Sequence[Sequence[Picture]],
    headings: Sequence[str],
    out: Path,
    *,
    heat: Sequence[bool] = (),
    heat_rows: Sequence[bool] = (),
    labels: Sequence[str] = (),
) -> None:
    """Draw rows of pictures under headings.

    Args:
        title: of the sheet.
        rows: an image and what is made of it, values 0 to 1.
        headings: of the columns.
        out: the PNG.
        heat: which columns are maps of heat.
        heat_rows: which rows are maps of heat.
        labels: of the rows, a few short lines each, beside them.
    """
    with mpl.rc_context(LOOK):
        beside = LABEL_WIDTH if labels else 0.0
        natural = 1.15 * len(headings) + 0.2 + beside
        across = max(NARROWEST, int(natural / LETTER))
        lines = [part for line in title.split("\n") for part in textwrap.wrap(line, across) or [""]]
        width = max(natural, LETTER * max(map(len, lines)))  # a title is not cut off
        room = (0.55 if any(headings) else 0.32) + 0.17 * (len(lines) - 1)
        figure = Figure(figsize=(width, 1.12 * len(rows) + room + 0.05))
        FigureCanvasAgg(figure)
        figure.suptitle("\n".join(lines), x=0.01, y=0.995, ha="left", va="top", fontsize=11)
        panels: Any = figure.subplots(len(rows), len(headings), squeeze=False)
        top = 1.0 - room / figure.get_figheight()
        left = beside / width + (0.0 if labels else 0.01)
        figure.subplots_adjust(left, 0.01, 0.995 * natural / width, top, 0.06, 0.06)
        for number, (axes_of_row, pictures) in enumerate(zip(panels, rows, strict=True)):
            for column, axes in enumerate(axes_of_row):
                hot = bool(heat and heat[column]) or bool(heat_rows and heat_rows[number])
                show(axes, pictures[column], heat=hot)
                if number == 0:
                    axes.set_title(headings[column], fontsize=8, loc="center", pad=3)
            if labels:
                middle = axes_of_row[0].get_position()
                figure.text(
                    0.1 / width, (middle.y0 + middle.y1) / 2, shortened(labels[number], 28),
                    va="center", fontsize=8, parse_math=False,
                )  # fmt: skip
        figure.savefig(out, metadata={"Software": None})


def shortened(text: str, most: int) -> str:
    """Return a text with its long lines cut in the middle."""
    half = (most - 1) // 2
    return "\n".join(
        line if len(line) <= most else f"{line[:half]}…{line[-half:]}" for line in text.split("\n")
    )


def overlay_figure(
    title: str,
    pictures: Sequence[Picture],
    heat: Sequence[Float[np.ndarray, "height width"]],
    headings: Sequence[str],
) -> Figure:
    """Return a figure of pictures, each in grey with its heat map over it, see `overlaid`.

    Args:
        title: of the figure.
        pictures: values 0 to 1.
        heat: a map a picture.
        headings: a picture's, of up to three lines.
    """
    columns = min(len(pictures), OVERLAYS_A_ROW)
    rows = -(-len(pictures) // columns)
    with mpl.rc_context(LOOK):
        figure = ShownFigure(figsize=(2.0 * columns + 0.2, 2.45 * rows + 0.5), layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        panels: Any = figure.subplots(rows, columns, squeeze=False)
        for axes in panels.flat:
            axes.axis("off")
        for axes, picture, values, heading in zip(panels.flat, pictures, heat, headings):
            axes.imshow(overlaid(picture, values))
            axes.set_title(
                shortened(heading, 32), fontsize=8, loc="center", pad=3, parse_math=False
            )
    return figure


def matrix_sheet(
    title: str,
    values: Float[np.ndarray, "rows columns"],
    names: tuple[Sequence[str], Sequence[str]],
    labels: tuple[str, str],
    out: Path,
) -> None:
    """Draw values of 0 to 1 for every pair of layers, the image's side at the lower left.

    Args:
        title: of the sheet.
        values: CKA; rows are layers of the first net, columns layers of the second.
        names: of the rows and of the columns.
        labels: of the two nets.
        out: the PNG.
    """
    rows, columns = values.shape
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(2.2 + 0.21 * columns, 1.9 + 0.21 * rows), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        drawn = axes.imshow(values, cmap="magma", vmin=0, vmax=1, origin="lower")
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_yticks(range(rows), names[0], fontsize=6)
        axes.set_xticks(range(columns), names[1], fontsize=6, rotation=90)
        axes.tick_params(length=0)
        axes.set_ylabel(labels[0])
        axes.set_xlabel(labels[1])
        figure.colorbar(drawn, ax=axes, shrink=0.6, label="linear CKA")
        figure.savefig(out, metadata={"Software": None})


def depth_sheet(
    title: str, label: str, lines: Mapping[str, tuple[Sequence[int], Sequence[float]]], out: Path
) -> None:
    """Draw values against depth, a line for each net.

    Args:
        title: of the figure.
        label: of the values, with their unit.
        lines: net -> depths and values.
        out: the PNG.
    """
    with mpl.rc_context({**LOOK, "axes.grid": True}):
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        for (name, (depths, values)), colour in zip(lines.items(), COLOURS, strict=False):
            axes.plot(depths, values, "o-", color=colour, label=name, markersize=3, linewidth=1.4)
        axes.set(xlabel="depth (layers with weights)", ylabel=label, title=title, ylim=(0, None))
        if len(lines) > 1:
            axes.legend()
        figure.savefig(out, metadata={"Software": None})


def dynamics_sheet(title: str, nets: Mapping[str, Mapping[int, Scales]], out: Path) -> None:
    """Draw the size of values and gradients against depth, a column a net and a line a step.

    Args:
        title: of the figure.
        nets: net -> step -> scales.
        out: the PNG.
    """
    steps = sorted({step for by_step in nets.values() for step in by_step})
    shades = mpl.colormaps["viridis"](np.linspace(0.0, 0.9, len(steps)))
    colours = dict(zip(steps, shades, strict=True))
    with mpl.rc_context({**LOOK, "axes.grid": True}):
        figure = Figure(figsize=(4.2 * len(nets) + 1.2, 5.6), layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        panels: Any = figure.subplots(2, len(nets), sharex="col", sharey="row", squeeze=False)
        for column, (name, by_step) in enumerate(nets.items()):
            for row, what in enumerate(("activation", "gradient")):
                axes = panels[row, column]
                for step in sorted(by_step):
                    scales = by_step[step]
                    axes.semilogy(
                        scales.depths, getattr(scales, what), color=colours[step], label=f"{step}",
                        linewidth=1.3,
                    )  # fmt: skip
            panels[0, column].set_title(name)
            panels[1, column].set_xlabel("depth (layers with weights)")
        panels[0, 0].set_ylabel("values (RMS)")
        panels[1, 0].set_ylabel("gradient by the values (norm)")
        handles, labels = [], []
        for axes in panels[0]:
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                if label not in labels:
                    handles.append(handle)
                    labels.append(label)
        order = np.argsort([int(label) for label in labels])
        figure.legend(
            [handles[i] for i in order], [labels[i] for i in order], title="step",
            loc="outside right center", labelcolor=SOFT,
        )  # fmt: skip
        figure.savefig(out, metadata={"Software": None})


def scores_sheet(
    title: str,
    methods: Sequence[str],
    shares: Sequence[float],
    curves: Mapping[str, Mapping[str, Sequence[float]]],
    hits: Mapping[str, tuple[float, float]],
    cascades: Mapping[str, Mapping[str, float | None]],
    out: Path,
) -> None:
    """Draw scores of attribution: a panel each for the curves, the hits and the cascades.

    Args:
        title: of the figure.
        methods: all that are shown, in the order of their colours; the last is random maps.
        shares: of the places, along the curves.
        curves: insertion, deletion -> method -> probabilities.
        hits: method -> share of hits in the pointing game, and half its interval.
        cascades: method -> layer initialised anew -> rank correlation; None where there is none.
        out: the PNG.
    """
    styles = {
        name: {"color": COLOURS[i % len(COLOURS)], "linestyle": "-" if i < len(COLOURS) else "--"}
        for i, name in enumerate(methods)
    }
    styles[methods[-1]] = {"color": SOFT, "linestyle": ":"}
    panels = [*curves, *["pointing game"] * bool(hits), *["sanity check"] * bool(cascades)]
    with mpl.rc_context({**LOOK, "axes.grid": True}):
        figure = Figure(figsize=(3.6 * len(panels) + 1.4, 3.4), layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        axes_of = dict(zip(panels, np.ravel(figure.subplots(1, len(panels))), strict=True))
        for panel, by_method in curves.items():
            axes_of[panel].set(
                title=panel, xlabel=f"share {'shown' if panel == 'insertion' else 'hidden'}",
                ylabel="probability", ylim=(0, 1),
            )  # fmt: skip
            for name, curve in by_method.items():
                axes_of[panel].plot(shares, curve, label=name, linewidth=1.4, **styles[name])
        if hits:
            axes = axes_of["pointing game"]
            axes.set(title="pointing game", xlabel="hits", xlim=(0, 1))
            for name, (mean, half) in hits.items():
                colour = to_rgba(styles[name]["color"], 0.6)  # the interval shows on black too
                axes.barh(name, mean, xerr=half, color=colour, ecolor=INK)
            axes.invert_yaxis()
            axes.grid(axis="y", visible=False)
        if cascades:
            axes = axes_of["sanity check"]
            axes.set(
                title="sanity check", xlabel="initialised anew down to", ylabel="rank correlation"
            )
            for name, by_layer in cascades.items():
                values = [np.nan if value is None else value for value in by_layer.values()]
                axes.plot(
                    [*by_layer], values, marker="o", markersize=3, label=name, linewidth=1.4,
                    **styles[name],
                )  # fmt: skip
            axes.tick_params(axis="x", rotation=60)
        handles: dict[str, Any] = {}
        for axes in axes_of.values():
            handles |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        if handles:
            figure.legend([*handles.values()], [*handles], loc="outside right center")
        figure.savefig(out, metadata={"Software": None})
