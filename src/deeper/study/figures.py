"""The figures of a study, as SVG and PNG; the same numbers give the same bytes."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from deeper.plotting import COLOURS, INK, STYLE
from deeper.record.schema import RunRecord
from deeper.study import baseline, curves, published
from deeper.study.definition import Study
from deeper.study.label_placement import place_beside, spread, width_of
from deeper.study.means import Mean, mean_of
from deeper.study.metrics import in_words, on_training
from deeper.study.read_runs import Collection
from deeper.study.tables import by_arm

LABEL_BOX = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}  # labels cover the grid lines
LABEL_SHARE = 0.2  # of a panel's width, at most; longer names are in a legend
TICK_GAP = 3.0  # points between the labels of two ticks
LABEL_HEIGHT = 0.07  # of an axis
SAME_COST = 1.1  # costs of a ratio below it are not drawn against: the order would be an accident
Points = dict[Any, list[float]]  # x -> one value per seed


def make_figures(collection: Collection, directory: Path) -> dict[str, Path]:
    """Draw all figures of a study.

    Returns:
        Name of the figure -> path of its SVG; the PNG has the same stem. Names are error, curves,
        macs and, for nets without an order, parameters; or error, difference and overfitting for a
        study with a baseline; and bars for published numbers. Figures without numbers are left out.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({**mpl.rcParamsDefault, **STYLE, "backend": "agg"}):
        return {
            name: save(figure, directory / name)
            for name, figure in draw_all(collection).items()
            if figure is not None
        }


def draw_all(collection: Collection) -> dict[str, Figure | None]:
    """Draw the figures of `make_figures` in the present style; None without numbers."""
    lines = lines_of(collection)
    drawn: dict[str, Figure | None]
    if collection.study.base is None:
        drawn = {
            "error": error_figure(collection),
            "curves": curves.curves_figure(collection, lines, COLOURS),
            "macs": macs_figure(collection),
        }
        if collection.study.x == "label":  # families, whose parameters do not follow depth
            drawn["parameters"] = cost_figure(collection, "parameters", "million parameters")
    else:
        drawn = {
            "error": error_figure(collection) if len(lines) <= len(COLOURS) else None,
            "difference": baseline.difference_figure(collection),
            "overfitting": baseline.overfitting_figure(collection),
        }
    return drawn | {"bars": published.bars_figure(collection.study.bars)}


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as SVG and PNG, with the same bytes each time; return the SVG's path."""
    svg = path.with_suffix(".svg")
    figure.savefig(svg, metadata={"Date": None, "Creator": None})
    figure.savefig(path.with_suffix(".png"), metadata={"Software": None})
    return svg


def lines_of(collection: Collection) -> dict[str, list[RunRecord]]:
    """Group the finished runs by the study's ``line``, names in reverse alphabetical order."""
    study = collection.study
    groups: dict[str, list[RunRecord]] = {}
    for run in collection.finished:
        name = study.line_of(run.value(study.line)) if study.line else ""
        groups.setdefault(name, []).append(run)
    return dict(sorted(groups.items(), reverse=True))


def error_figure(collection: Collection) -> Figure | None:
    """Draw test and training error against x, one line per group.

    Nets without an order have a row each, of the test error; with a single x there is nothing to
    draw a line through, and each group has a row.
    """
    study = collection.study
    if study.x == "label":
        return _rows_figure(by_arm(collection), {study.metric: study.metric_label})
    lines = lines_of(collection)
    single = _single_x(collection)
    if single is not None:
        groups = {name or runs[0].arm: runs for name, runs in lines.items()}
        train = f"training {in_words(study.metric)}{study.unit}"
        metrics_of_rows = {study.metric: study.metric_label, on_training(study.metric): train}
        title = f"{study.x_label or study.x}: {single:,g}"
        return _rows_figure(groups, metrics_of_rows, title)
    figure = Figure(figsize=(8.4, 3.7), layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(1, 2, sharey=True))
    metrics = (study.metric, on_training(study.metric))
    series = [
        {name: _points(runs, collection.study.x, metric) for name, runs in lines.items()}
        for metric in metrics
    ]
    values = [v for by_name in series for points in by_name.values() for v in _all(points)]
    low, high = _limits(values)
    panels[0].set_ylim(low, high)
    titles = (_title(study.metric_label), f"Training {in_words(study.metric)}")
    widest = figure.get_figwidth() * 72 / len(panels) * LABEL_SHARE
    named = (
        any(lines)
        and all(width_of(name) <= widest for name in lines)
        and not any(_crowded(points, high - low) for points in series)
    )
    for axes, by_name, title in zip(panels, series, titles, strict=True):
        axes.set_title(title)
        axes.set_xlabel(collection.study.x_label or collection.study.x)
        _draw_lines(axes, by_name, named)
    panels[0].set_ylabel(f"{in_words(study.metric)}{study.unit}")
    if not named and any(lines):
        entries = [
            Line2D([], [], color=colour, lw=1.8, marker="o", ms=5, label=name)
            for colour, (name, _) in _coloured(lines)
        ]
        figure.legend(handles=entries, loc="outside lower center", ncols=len(entries))
    return figure


def _crowded(by_name: dict[str, Points], height: float) -> bool:
    """Return whether names at the lines' ends would have to stand far from them."""
    ends = [mean_of([*points.values()][-1]).mean for points in by_name.values() if points]
    heights = spread(ends, LABEL_HEIGHT * height, -np.inf)
    return any(abs(a - b) > LABEL_HEIGHT * height / 2 for a, b in zip(ends, heights, strict=True))


def _title(metric_label: str) -> str:
    words = metric_label.split(" (")[0]
    return words[:1].upper() + words[1:]


def _points(runs: Sequence[RunRecord], x: str, metric: str) -> Points:
    points: Points = {}
    for run in sorted(runs, key=lambda r: (r.number(x) or 0, r.seed or 0)):
        value = run.number(metric)
        if value is not None and run.number(x) is not None:
            points.setdefault(run.number(x), []).append(value)
    return points


def _all(points: Points) -> list[float]:
    return [value for values in points.values() for value in values]


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """Return axis limits from the single runs, since intervals of few seeds may be very wide.

    Points at zero are seen whole.
    """
    room = 0.12 * (max(values) - min(values)) or 1.0
    return max(-0.25 * room, min(values) - room), max(values) + room


def _draw_lines(axes: Axes, by_name: dict[str, Points], named: bool) -> None:
    """Draw means, single runs and intervals (with enough seeds).

    Args:
        axes: where to.
        by_name: name of the line -> its points.
        named: label each line at its end.
    """
    values = sorted({x for points in by_name.values() for x in points})
    if not values:
        return
    # Logarithmic positions if x spans a decade or more.
    scale = math.log10 if values[0] > 0 and values[-1] / values[0] >= 10 else float
    xs = [scale(x) for x in values]
    width = (xs[-1] - xs[0]) or 1.0
    axes.set_xlim(xs[0] - 0.06 * width, xs[-1] + (0.28 if named else 0.06) * width)
    axes.set_xticks(xs, [f"{x:,g}" if x < 1e4 else f"{x:,.0f}" for x in values])
    _part_labels(axes)
    ends = []
    for number, (colour, (name, points)) in enumerate(_coloured(by_name)):
        # Lines are shifted sideways, so that their markers do not overlap.
        shift = 0.012 * width * (number - (len(by_name) - 1) / 2)
        means = {x: mean_of(values) for x, values in points.items()}
        at = [scale(x) + shift for x in points]
        axes.plot(at, [m.mean for m in means.values()], color=colour, lw=1.8, zorder=3)
        for x, (values, mean) in zip(at, zip(points.values(), means.values()), strict=True):
            _interval(axes, x, mean, colour)
            axes.plot([x] * len(values), values, "o", **baseline.run_style(mean, colour))
            if mean.half_width is not None or mean.n == 1:
                axes.plot(x, mean.mean, "o", color=colour, ms=6, mec="white", mew=1.0, zorder=4)
        if points and named:
            ends.append((at[-1], [*means.values()][-1].mean, name, colour))
    low, high = axes.get_ylim()
    heights = spread([y for _, y, _, _ in ends], LABEL_HEIGHT * (high - low), low)
    for (x, _, name, colour), y in zip(ends, heights, strict=True):
        axes.annotate(
            name, (x, y), (9, 0), textcoords="offset points", va="center", color=colour,
            fontweight="bold", bbox=LABEL_BOX,
        )  # fmt: skip


def _part_labels(axes: Axes) -> None:
    """Turn labels of neighbouring ticks away from each other where they would touch."""
    low, high = axes.get_xlim()
    points = axes.get_window_extent().width * 72 / axes.figure.dpi
    labels = axes.get_xticklabels()
    for (x, label), (next_x, following) in itertools.pairwise(zip(axes.get_xticks(), labels)):
        widths = width_of(label.get_text()) + width_of(following.get_text())
        if (next_x - x) * points / (high - low) < widths / 2 + TICK_GAP:
            label.set_horizontalalignment("right")
            following.set_horizontalalignment("left")


def _coloured(by_name: dict[str, Any]) -> list[tuple[str, tuple[str, Any]]]:
    return list(zip(itertools.cycle(COLOURS), by_name.items()))


def _interval(axes: Axes, at: float, mean: Mean, colour: str, across: bool = False) -> None:
    """Draw a 95 % interval; an end outside the axes is drawn as an arrowhead at the edge."""
    if not mean.half_width:
        return
    low, high = axes.get_xlim() if across else axes.get_ylim()
    edge = 0.012 * (high - low)
    ends = (mean.mean - mean.half_width, mean.mean + mean.half_width)
    shown = (max(ends[0], low + edge), min(ends[1], high - edge))
    style: Any = {"color": colour, "alpha": 0.32, "zorder": 2, "solid_capstyle": "butt"}
    axes.plot(*((shown, (at, at)) if across else ((at, at), shown)), lw=1.2, **style)
    marks = ("<" if across else "v", ">" if across else "^")
    for end, where, arrow in zip(ends, shown, marks, strict=True):
        inside = end == where
        mark = ("|" if across else "_") if inside else arrow
        style = {"color": colour, "alpha": 0.32, "ms": 6 if inside else 4, "mew": 1.2 * inside}
        axes.plot(*((where, at) if across else (at, where)), mark, zorder=2, **style)


def _single_x(collection: Collection) -> float | None:
    """Return the one x that all finished runs have; None if there are several, or none."""
    values = {run.number(collection.study.x) for run in collection.finished} - {None}
    return values.pop() if len(values) == 1 else None


def _rows_figure(
    groups: Mapping[str, Sequence[RunRecord]], metrics: Mapping[str, str], title: str = ""
) -> Figure:
    """Draw a row for each group of runs, the best on top.

    Args:
        groups: name of the row -> runs, one per seed.
        metrics: metric -> label of its panel's axis; the first one orders the rows, and others have
            a panel where there are such numbers.
        title: of the figure.
    """
    first, *others = metrics
    values = {
        metric: {
            name: [value for run in runs if (value := run.number(metric)) is not None]
            for name, runs in groups.items()
        }
        for metric in metrics
    }
    order = sorted(groups, key=lambda name: -mean_of(values[first][name]).mean)
    short = short_names(order)
    shown = [first, *(metric for metric in others if any(values[metric].values()))]
    size = (7.2 if len(shown) == 1 else 8.4, 1.1 + 0.42 * len(order) + 0.3 * bool(title))
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, shown, strict=True):
        axes.set_xlim(*_limits([value for row in values[metric].values() for value in row]))
        for y, name in enumerate(order):
            if values[metric][name]:
                _draw_row(axes, y, values[metric][name])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.spines["left"].set_visible(False)
        axes.grid(visible=True, axis="x")
        axes.set_xlabel(metrics[metric])
    panels[0].set_yticks(range(len(order)), [short[name] for name in order])
    panels[0].set_ylim(-0.6, len(order) - 0.35)
    if title:
        panels[0].set_title(title)
    return figure


def _draw_row(axes: Axes, y: int, values: list[float]) -> None:
    """Draw the runs of a row, with their mean and its interval."""
    mean = mean_of(values)
    _interval(axes, y, mean, COLOURS[0], across=True)
    axes.plot(values, [y] * mean.n, "o", **baseline.run_style(mean, COLOURS[0]))
    mark, size = ("o", 7) if mean.half_width is not None or mean.n == 1 else ("|", 14)
    edge = {"mec": "white", "mew": 1.0} if mark == "o" else {"mew": 1.8}
    axes.plot(mean.mean, y, mark, color=COLOURS[0], ms=size, zorder=4, **edge)
    axes.annotate(
        f"{mean.mean:.2f}", (mean.mean, y), (0, 7), textcoords="offset points", ha="center",
        fontsize=9, color=INK,
    )  # fmt: skip


def macs_figure(collection: Collection) -> Figure | None:
    """Draw the error against the multiply-accumulates of one example's forward pass."""
    words = "million multiply-accumulates an example (forward pass)"
    return cost_figure(collection, "macs", words)


def cost_figure(collection: Collection, cost: str, words: str) -> Figure | None:
    """Draw the error against what a net costs.

    Args:
        collection: the runs.
        cost: macs or parameters.
        words: the axis's label; values are shown in millions.
    """
    study = collection.study
    single = study.x != "label" and _single_x(collection) is not None
    ordered = study.x != "label" and not single
    figure = Figure(figsize=(7.2, 3.7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.set_ylabel(study.metric_label)
    axes.set_xlabel(words)
    labelled, ends = [], []
    for colour, (name, runs) in _coloured(lines_of(collection)):
        points = _cost_points(runs, cost, study, by_net=not ordered and not single)
        xs, ys = [x for _, x, _ in points], [y for _, _, y in points]
        axes.plot(xs, ys, "o-" if ordered else "o", color=colour, ms=6, mec="white", mew=1.0)
        for of_point, x, y in points:
            labelled.append((x, y, name or of_point if single else of_point, colour))
        if xs and name and not single:  # else its points have the name
            ends.append((xs[-1], ys[-1], name, colour))
    if not labelled:
        return None
    low, high = min(x for x, *_ in labelled), max(x for x, *_ in labelled)
    if high < SAME_COST * low and not single:
        return None
    ratio = max(high / low, 2.0)
    # Space for the labels at the right.
    axes.set_xlim(low / ratio**0.08, high * ratio ** (0.22 if ends or not ordered else 0.08))
    axes.set_ylim(*_limits([y for _, y, _, _ in labelled]))
    _plain_log_ticks(axes)
    bottom, top = axes.get_ylim()
    heights = spread([y for _, y, _, _ in ends], 0.07 * (top - bottom), bottom)
    taken = [
        axes.annotate(
            name, (x, y), (10, 0), textcoords="offset points", va="center", color=colour,
            fontweight="bold", bbox=LABEL_BOX,
        )
        for (x, _, name, colour), y in zip(ends, heights, strict=True)
    ]  # fmt: skip
    place_beside(axes, labelled, taken)
    return figure


def _cost_points(
    runs: Sequence[RunRecord], cost: str, study: Study, *, by_net: bool
) -> list[tuple[str, float, float]]:
    """Return the label, the cost in millions and the mean error of each point, in order of x.

    Args:
        runs: of one line.
        cost: macs or parameters.
        study: the study.
        by_net: a point for each arm; otherwise for each x.
    """
    groups: dict[Any, list[RunRecord]] = {}
    for run in runs:
        if run.number(cost) is not None and run.number(study.metric) is not None:
            groups.setdefault(run.arm if by_net else run.number(study.x), []).append(run)
    short = short_names([*groups]) if by_net else {x: f"{x:g}" for x in groups}
    points = []
    for group in sorted(groups) if not by_net else groups:
        same = groups[group]
        millions = mean_of([run.number(cost) or 0.0 for run in same]).mean / 1e6
        error = mean_of([run.number(study.metric) or 0.0 for run in same]).mean
        points.append((short[group], millions, error))
    return points


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Return names without the words, or beginnings such as ``arm=``, that all of them share."""
    words = {name: name.split() for name in names}
    shared = set.intersection(*(set(some) for some in words.values())) if words else set()
    left = {name: [word for word in some if word not in shared] for name, some in words.items()}
    if len(names) < 2 or not all(left.values()):
        return {name: name for name in names}
    keys = {word.partition("=")[0] for some in left.values() for word in some}
    if len(keys) == 1 and all(len(some) == 1 and "=" in some[0] for some in left.values()):
        return {name: some[0].partition("=")[2] for name, some in left.items()}
    return {name: " ".join(some) for name, some in left.items()}


def _plain_log_ticks(axes: Axes) -> None:
    """Label a logarithmic axis at 1, 2, 5, 10, ... only, or with more digits if it is short."""
    low, high = axes.get_xlim()
    steps = [(1,), (1, 2, 5), range(1, 10), [n / 10 for n in range(10, 100)]]
    for multiples in steps[0 if high / low > 1e3 else 1 :]:
        ticks = [m * 10.0**e for e in range(-4, 7) for m in multiples]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) > 1:
            break
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(FixedLocator(inside))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
