"""Figures of corruptions, shifted data and calibration, drawn from their results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from deeper.plotting import COLOURS, INK, SOFT, STYLE


def _save(figure: Figure, out: Path) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(out, metadata={"Software": None})


def reliability_figure(result: Mapping[str, Any], out: Path) -> None:
    """Draw accuracy against confidence, before and after the temperature.

    Args:
        result: of `deeper.run.calibration.calibrate_run`.
        out: PNG file.
    """
    with mpl.rc_context({**mpl.rcParamsDefault, **STYLE, "backend": "agg"}):
        figure = Figure(figsize=(7.6, 3.9), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        titles = ("As trained", f"Temperature {result['temperature']:.3g}")
        for axes, key, title in zip(panels, ("before", "after"), titles, strict=True):
            bins = result[key]["bins"]
            width, most = 1 / len(bins["n"]), max(bins["n"])
            for place, (n, accuracy) in enumerate(zip(bins["n"], bins["accuracy"], strict=True)):
                if n:  # the more examples a bin has, the stronger its colour
                    axes.bar(
                        (place + 0.5) * width, accuracy, 0.92 * width, color=COLOURS[0],
                        alpha=0.25 + 0.75 * n / most,
                    )  # fmt: skip
            axes.plot([0, 1], [0, 1], color=SOFT, lw=1, ls="--")
            axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", title=title)
            axes.text(
                0.04, 0.94, f"ECE {result[key]['calibration_error']:.2f} %", color=INK, va="top"
            )
        panels[0].set_ylabel("accuracy")
        _save(figure, out)


def corruption_figure(result: Mapping[str, Any], out: Path) -> None:
    """Draw the error of each corruption against its severity.

    Args:
        result: of `deeper.run.robustness.corrupt_run`.
        out: PNG file.
    """
    errors: Mapping[str, Sequence[float]] = result["error_by_corruption"]
    clean = result["clean_error"]
    with mpl.rc_context({**mpl.rcParamsDefault, **STYLE, "backend": "agg"}):
        figure = Figure(figsize=(9.0, 5.4), layout="constrained")
        grid = figure.subplots(3, 5, sharex=True, sharey=True).ravel()
        for axes in grid[len(errors) :]:
            axes.set_visible(False)
        for axes, (name, values) in zip(grid, errors.items(), strict=False):
            axes.axhline(clean, color=SOFT, lw=1, ls="--")
            axes.plot(range(1, len(values) + 1), values, "o-", color=COLOURS[0], ms=3.5)
            axes.set_title(name.replace("_", " "), fontsize=9)
            axes.set_xticks(range(1, len(values) + 1))
            axes.set_ylim(bottom=0)
        figure.supxlabel("severity (dashed: no corruption)", fontsize=10, color=INK)
        figure.supylabel("test error (%)", fontsize=10, color=INK)
        _save(figure, out)


def shift_figure(result: Mapping[str, Any], out: Path) -> None:
    """Draw the error on each data set as a bar.

    Args:
        result: of `deeper.run.robustness.shifted_run`.
        out: PNG file.
    """
    rows = result["sets"][::-1]
    with mpl.rc_context({**mpl.rcParamsDefault, **STYLE, "backend": "agg"}):
        figure = Figure(figsize=(7.2, 1.1 + 0.42 * len(rows)), layout="constrained")
        axes = figure.subplots()
        axes.barh(range(len(rows)), [row["error"] for row in rows], 0.6, color=COLOURS[0])
        for place, row in enumerate(rows):
            axes.annotate(
                f"{row['error']:.1f}", (row["error"], place), (4, 0), va="center",
                textcoords="offset points", fontsize=9, color=INK,
            )  # fmt: skip
        axes.set_yticks(range(len(rows)), [row["title"] for row in rows])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(visible=True, axis="x")
        axes.set(xlim=(0, 108), xlabel="top-1 error (%)")
        _save(figure, out)
