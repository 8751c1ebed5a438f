"""Draws parameters, multiply-accumulates and receptive fields of nets against their depth."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from deeper.plotting import COLOURS, SOFT, STYLE


@dataclass(frozen=True)
class Net:
    """Numbers of a net.

    Attributes:
        family: nets of one family are joined by a line.
        label: name in the figure.
        depth: layers with weights.
        parameters: trained values.
        macs: multiply-accumulates per example.
        field: receptive field of the last feature map, in pixels or positions.
    """

    family: str
    label: str
    depth: int
    parameters: int
    macs: int
    field: int


def draw(nets: Sequence[Net], out: Path, size: int, unit: str = "pixels") -> None:
    """Draw three panels.

    Args:
        nets: the nets to draw.
        out: a .png or .svg file.
        size: height of an image or length of a sequence, a line in the panel of receptive fields.
        unit: of the size.
    """
    panels = (
        ("parameters", [net.parameters / 1e6 for net in nets], "parameters (million)"),
        ("cost", [net.macs / 1e9 for net in nets], "multiply-accumulates (billion)"),
        ("receptive field", [float(net.field) for net in nets], f"receptive field ({unit})"),
    )
    families = list(dict.fromkeys(net.family for net in nets))
    with mpl.rc_context({**mpl.rcParamsDefault, **STYLE, "backend": "agg"}):
        figure = Figure(figsize=(11, 3.6), layout="constrained")
        FigureCanvasAgg(figure)
        for axes, (title, values, label) in zip(figure.subplots(1, 3), panels):
            for number, family in enumerate(families):
                points = sorted(
                    (net.depth, value)
                    for net, value in zip(nets, values, strict=True)
                    if net.family == family
                )
                x, y = zip(*points)
                colour = COLOURS[number % len(COLOURS)]
                axes.plot(x, y, "o-", color=colour, label=family, markersize=5, linewidth=1.5)
            if title == "receptive field":
                axes.axhline(size, color=SOFT, linewidth=0.8, linestyle=":")
                axes.annotate(
                    "the input", (1.0, size), xycoords=("axes fraction", "data"),
                    xytext=(-2, 3), textcoords="offset points", ha="right", color=SOFT, fontsize=8,
                )  # fmt: skip
            axes.set(title=title, xlabel="depth (layers with weights)", ylabel=label, yscale="log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_locator(NullLocator())
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(families), fontsize=9)
        out.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"Date": None} if out.suffix == ".svg" else {"Software": None}
        figure.savefig(out, metadata=metadata)
