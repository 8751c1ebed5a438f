"""Sheets of pictures: filters, activations, attributions, and the deconvnet's figure 2."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from deeper.interpret.gradient_scales import Scales
from deeper.plotting import COLOURS, SOFT, STYLE

Picture = Float[np.ndarray, "height width channels"]
OVERLAYS_A_ROW = 5
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
    """Bring values to 0..1: zero to a half and the largest size to an end, or least to most."""
    if about_zero:
        return 0.5 + 0.5 * values / max(float(np.abs(values).max()), 1e-12)
    low, high = float(values.min()), float(values.max())
    return (values - low) / max(high - low, 1e-12)


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
) -> None:
    """Draw rows of pictures under headings.

    Args:
        title: of the sheet.
        rows: an image and what is made of it, values 0 to 1.
        headings: of the columns.
        out: the PNG.
        heat: which columns are maps of heat.
        heat_rows: likewise which rows.
    """
    with mpl.rc_context(LOOK):
        natural = 1.15 * len(headings) + 0.2
        width = max(natural, 0.088 * len(title))  # a title is not cut off
        room = 0.55 if any(headings) else 0.32
        figure = Figure(figsize=(width, 1.12 * len(rows) + room + 0.05))
        FigureCanvasAgg(figure)
        figure.suptitle(title, x=0.01, y=0.995, ha="left", va="top", fontsize=11)
        panels: Any = figure.subplots(len(rows), len(headings), squeeze=False)
        top = 1.0 - room / figure.get_figheight()
        figure.subplots_adjust(0.01, 0.01, 0.995 * natural / width, top, 0.06, 0.06)
        for number, (axes_of_row, pictures) in enumerate(zip(panels, rows, strict=True)):
            for column, axes in enumerate(axes_of_row):
                hot = bool(heat and heat[column]) or bool(heat_rows and heat_rows[number])
                show(axes, pictures[column], heat=hot)
                if number == 0:
                    axes.set_title(headings[column], fontsize=8, loc="center", pad=3)
        figure.savefig(out, metadata={"Software": None})


def overlay_figure(
    title: str,
    pictures: Sequence[Picture],
    heat: Sequence[Float[np.ndarray, "height width"]],
    headings: Sequence[str],
) -> Figure:
    """Return a figure of pictures, each in grey with its heat map over it.

    Args:
        title: of the figure.
        pictures: values 0 to 1.
        heat: a map a picture; non-negative maps are scaled by their largest value, maps of either
            sign about zero.
        headings: a picture's.
    """
    columns = min(len(pictures), OVERLAYS_A_ROW)
    rows = -(-len(pictures) // columns)
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(1.6 * columns + 0.2, 1.85 * rows + 0.4), layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        panels: Any = figure.subplots(rows, columns, squeeze=False)
        for axes in panels.flat:
            axes.axis("off")
        for axes, picture, values, heading in zip(panels.flat, pictures, heat, headings):
            axes.imshow(picture.mean(axis=-1), cmap="gray", vmin=0, vmax=1)
            largest = max(float(np.abs(values).max()), 1e-12)
            signed = bool((values < 0).any())
            colours, least = ("RdBu_r", -largest) if signed else ("inferno", 0.0)
            axes.imshow(values, cmap=colours, vmin=least, vmax=largest, alpha=0.6)
            axes.set_title(heading, fontsize=8, loc="center", pad=3)
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
        values: a row a layer of the one net, a column a layer of the other.
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
    """Draw values against depth, a line a net.

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
    """Draw the size of values and gradients against depth, a column a net, a line a step.

    Args:
        title: of the figure.
        nets: net -> step -> what was measured.
        out: the PNG.
    """
    steps = sorted({step for found in nets.values() for step in found})
    shades = mpl.colormaps["viridis"](np.linspace(0.0, 0.9, len(steps)))
    colours = dict(zip(steps, shades, strict=True))
    with mpl.rc_context({**LOOK, "axes.grid": True}):
        figure = Figure(figsize=(4.2 * len(nets) + 1.2, 5.6), layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        panels: Any = figure.subplots(2, len(nets), sharex="col", sharey="row", squeeze=False)
        for column, (name, found) in enumerate(nets.items()):
            for row, what in enumerate(("activation", "gradient")):
                axes = panels[row, column]
                for step in sorted(found):
                    scales = found[step]
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
