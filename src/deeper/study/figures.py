"""A study's figures, as SVG and PNG, the same bytes for the same numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator

from deeper.study.collect import Collection, Run
from deeper.study.statistics import mean_of

# Okabe and Ito's palette, which the colour-blind can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "deeper",
    "svg.fonttype": "path",
    "figure.dpi": 160,
}


def make_figures(collection: Collection, directory: Path) -> dict[str, Path]:
    """Draw all figures of a study.

    Returns:
        Name of the figure -> path of its SVG; the PNG lies beside it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    ordered = collection.definition["x"] != "label"
    with mpl.rc_context(STYLE):
        drawn = {
            "error": _error(collection) if ordered else _families(collection),
            "curves": _curves(collection),
            "macs": _macs(collection),
        }
        paths = {}
        for name, figure in drawn.items():
            FigureCanvasAgg(figure)
            paths[name] = directory / f"{name}.svg"
            figure.savefig(paths[name], metadata={"Date": None})
            figure.savefig(directory / f"{name}.png", metadata={"Software": None})
    return paths


def _figure(width: float, height: float, columns: int = 1, **kwargs: Any) -> tuple[Figure, list]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False, **kwargs)
    return figure, list(axes[0])


def _lines(collection: Collection) -> dict[str, list[Run]]:
    """Group the finished runs by the study's line, named as the study names them."""
    key = collection.definition.get("line")
    names = {str(k).lower(): v for k, v in (collection.definition.get("line_names") or {}).items()}
    groups: dict[str, list[Run]] = {}
    for run in collection.finished:
        value = str(run.value(key)).lower() if key else ""
        groups.setdefault(names.get(value, value), []).append(run)
    return dict(sorted(groups.items(), reverse=True))


def _points(runs: Sequence[Run], x: str, metric: str) -> dict[Any, list[float]]:
    points: dict[Any, list[float]] = {}
    for run in sorted(runs, key=lambda r: r.value(x)):
        points.setdefault(run.value(x), []).append(float(run.value(metric)))
    return points


def _draw_line(axes: Axes, points: dict[Any, list[float]], colour: str, label: str, **kw: Any):
    """A line of means with 95 % intervals; single runs as faint dots."""
    xs = list(points)
    means = [mean_of(values) for values in points.values()]
    axes.plot(xs, [m.mean for m in means], color=colour, marker="o", ms=5, label=label, **kw)
    for x, values in points.items():
        axes.plot([x] * len(values), values, ".", color=colour, alpha=0.35, ms=6, zorder=1)
    for x, mean in zip(xs, means, strict=True):
        if mean.half_width:
            ends = (mean.mean - mean.half_width, mean.mean + mean.half_width)
            axes.plot([x, x], ends, color=colour, lw=1.6, alpha=0.35, zorder=1)
    axes.annotate(
        label,
        (xs[-1], means[-1].mean),
        xytext=(8, 0),
        textcoords="offset points",
        va="center",
        color=colour,
        fontweight="bold",
    )


def _error(collection: Collection) -> Figure:
    """Test and training error against the study's x, a line each."""
    study = collection.definition
    figure, (test, train) = _figure(8.6, 3.6, 2, sharey=True)
    panels = ((test, study["metric"], "test error"), (train, "train/error", "training error"))
    for axes, metric, title in panels:
        top = []
        for colour, (name, runs) in zip(COLOURS, _lines(collection).items(), strict=False):
            points = _points(runs, study["x"], metric)
            _draw_line(axes, points, colour, name)
            top += [value for values in points.values() for value in values]
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_xlabel(study.get("x_label", study["x"]))
        axes.set_xticks(sorted({run.value(study["x"]) for run in collection.finished}))
        axes.margins(x=0.05)
        left, right = axes.get_xlim()
        axes.set_xlim(left, right + 0.24 * (right - left))
    # Wide intervals of few seeds must not squeeze the points: the axis follows the runs.
    values = [float(run.value(metric)) for run in collection.finished for _, metric, _ in panels]
    room = 0.12 * (max(values) - min(values)) or 1.0
    test.set_ylim(max(0.0, min(values) - room), max(values) + room)
    test.set_ylabel("error (%)")
    return figure


def _families(collection: Collection) -> Figure:
    """Test error of nets without an order: a dot and an interval each."""
    groups: dict[str, list[float]] = {}
    for run in collection.finished:
        groups.setdefault(run.label, []).append(float(run.value(collection.definition["metric"])))
    order = sorted(groups, key=lambda label: -float(np.mean(groups[label])))
    figure, (axes,) = _figure(7.2, 1.0 + 0.42 * len(order))
    for y, label in enumerate(order):
        mean = mean_of(groups[label])
        axes.plot(groups[label], [y] * len(groups[label]), ".", color=COLOURS[0], alpha=0.4)
        axes.errorbar(mean.mean, y, xerr=mean.half_width, fmt="o", color=COLOURS[0], capsize=3)
    axes.set_yticks(range(len(order)), order)
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.set_xlabel("test error (%)")
    return figure


def _curves(collection: Collection) -> Figure:
    """Training error (thin) and validation error (bold) by epoch, as He et al. fig. 4 and 6."""
    lines = _lines(collection)
    figure, panels = _figure(8.6, 3.8, max(1, len(lines)), sharey=True)
    labels = sorted({run.value("depth") or run.label for run in collection.finished}, key=str)
    depths = sorted(labels, key=lambda v: (isinstance(v, str), v))
    shades = mpl.colormaps["viridis"](np.linspace(0.0, 0.88, max(2, len(depths))))
    highest: list[float] = []
    for axes, (name, runs) in zip(panels, lines.items(), strict=True):
        for shade, depth in zip(shades, depths, strict=False):
            same = [r for r in runs if (r.value("depth") or r.label) == depth]
            for metric, width, alpha, style in (
                ("train/error", 0.9, 0.75, "-"),
                ("validation/error", 2.0, 1.0, "-"),
            ):
                epochs, means = _mean_curve(same, metric)
                if len(epochs):
                    shown = str(depth) if metric == "validation/error" else None
                    axes.plot(epochs, means, style, color=shade, lw=width, alpha=alpha, label=shown)
                    highest += list(means[(len(means) + 1) // 4 :])
        axes.set_title(name, loc="left", fontsize=11)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(6))
    if highest:
        panels[0].set_ylim(0, min(100.0, 1.1 * max(highest)))
    panels[0].set_ylabel("error (%): thin training, bold validation")
    panels[-1].legend(title=collection.definition.get("x_label", ""), ncols=2, loc="upper right")
    return figure


def _mean_curve(runs: Sequence[Run], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean over seeds at the epochs that all of them have."""
    curves = [
        {row["epoch"]: row[metric] for row in r.rows if row.get(metric) is not None} for r in runs
    ]
    curves = [curve for curve in curves if curve]
    if not curves:
        return np.array([]), np.array([])
    epochs = sorted(set.intersection(*(set(curve) for curve in curves)))
    return np.array(epochs), np.array([np.mean([c[e] for c in curves]) for e in epochs])


def _macs(collection: Collection) -> Figure:
    """Test error against the multiply-accumulates of an image."""
    figure, (axes,) = _figure(6.2, 3.6)
    metric = collection.definition["metric"]
    for colour, (name, runs) in zip(COLOURS, _lines(collection).items(), strict=False):
        points = _points(runs, "macs", metric)
        xs = [x / 1e6 for x in points]
        ys = [float(np.mean(v)) for v in points.values()]
        style = "o-" if collection.definition["x"] != "label" else "o"
        axes.plot(xs, ys, style, color=colour, ms=5, label=name or None)
        named = {run.value("macs"): run for run in runs}
        for macs, x, y in zip(points, xs, ys, strict=True):
            text = str(named[macs].value("depth") or named[macs].label)
            if collection.definition["x"] == "label":
                text = named[macs].label
            axes.annotate(
                text,
                (x, y),
                xytext=(0, 6),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=colour,
            )
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    ticks = [t for e in range(-4, 6) for t in (10.0**e, 2 * 10.0**e, 5 * 10.0**e)]
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks([t for t in ticks if low <= t <= high])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.margins(y=0.15)
    axes.set_xlabel("million multiply-accumulates an image")
    axes.set_ylabel("test error (%)")
    if len(_lines(collection)) > 1:
        axes.legend()
    return figure
