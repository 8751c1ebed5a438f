"""Training curves as in He et al. 2015 (arXiv:1512.03385), figures 4 and 6."""

import itertools
import re
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from deeper.record.schema import RunRecord
from deeper.study.means import FEWEST
from deeper.study.metrics import in_words, less_is_better, name_of
from deeper.study.read_runs import Collection

TRAINING: dict[str, Any] = {"ls": (0, (4, 1.5)), "lw": 1.0, "alpha": 0.8}
EACH: dict[str, Any] = {"ls": "-", "lw": 0.8, "alpha": 0.4}  # validation of a single run
VALIDATION: dict[str, Any] = {"ls": "-", "lw": 2.2, "alpha": 1.0}
SOFT = "#5b6570"
TITLE = 18  # letters in a line of the legend's title
TITLES = 64  # letters of the panels' titles side by side


def curves_figure(
    collection: Collection, lines: dict[str, list[RunRecord]], palette: Sequence[str]
) -> Figure | None:
    """Draw the metric by epoch, of training (thin, dashed) and validation (bold), a panel a line.

    Args:
        collection: the study's runs.
        lines: name of the line -> its runs.
        palette: colours of nets without an order; ordered nets go from light to dark.
    """
    key, metric_name = collection.study.x, _metric_of_rows(collection)
    unit = collection.study.unit
    styles = {f"train/{metric_name}": TRAINING, f"validation/{metric_name}": VALIDATION}
    values = sorted({run.value(key) for run in collection.finished}, key=_natural)
    colours: dict[Any, Any] = dict(zip(values, itertools.cycle(palette)))
    if key != "label" or len(values) > len(palette):
        # Light to dark for ordered nets; otherwise hues, if there are more nets than palette
        # colours.
        name, first, last = ("viridis_r", 0.18, 1.0) if key != "label" else ("turbo", 0.06, 0.95)
        shades = mpl.colormaps[name](np.linspace(first, last, max(2, len(values))))
        colours = dict(zip(values, shades, strict=False))
    figure = Figure(figsize=(8.4, 3.7), layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(1, max(1, len(lines)), sharey=True, squeeze=False)[0])
    late: list[float] = []
    everything: list[float] = []
    starts, stops = [], []
    drawn: set[str] = set()
    for axes, (name, runs) in zip(panels, lines.items(), strict=True):
        for value in values:
            same = [run for run in runs if run.value(key) == value]
            for metric, style in styles.items():
                epochs, means = mean_curve(same, metric)
                if len(epochs):
                    drawn.add(metric)
                    # A single value has no line to be seen by, and is seen whole at the edge.
                    alone = len(epochs) == 1
                    look = {"marker": "o" if alone else "", "clip_on": not alone, **style}
                    axes.plot(epochs, means, color=colours[value], **look)
                    late += list(means[len(means) // 4 :])
                    everything += list(means)
                    starts.append(epochs[0])
                    stops.append(epochs[-1])
            if 1 < len(same) < FEWEST:
                for run in same:
                    curve = mean_curve([run], f"validation/{metric_name}")
                    axes.plot(*curve, color=colours[value], **EACH)
        axes.set_title(textwrap.fill(name, max(8, TITLES // len(lines))))
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(5))
    # A task whose metric is taken at evaluations alone, of which there was one, has no curve.
    if not late or (len(drawn) == 1 and min(starts) == max(stops)):
        return None
    # As in the paper, the y axis does not reach the values at the start.
    less = less_is_better(metric_name, collection.finished)
    top, bottom = (max(late), min(everything)) if less else (max(everything), min(late))
    high = min(100.0, 1.08 * top) if unit == " (%)" else max(1.08 * top, 0.92 * top)
    low = min(0.0, 1.08 * bottom) if bottom < 0.12 * high else 0.85 * bottom
    panels[0].set_ylim(low, high)
    length = max(stops) - min(starts) or max(stops)  # a single row has no x range
    for axes in panels:
        axes.set_xlim(min(starts), max(stops) + 0.01 * length)
    panels[0].set_ylabel(f"{in_words(metric_name)}{unit}")
    kinds = [
        (metric.split("/")[0], styles[metric]) for metric in reversed(styles) if metric in drawn
    ]
    _legend(figure, collection, colours, kinds)
    return figure


def _metric_of_rows(collection: Collection) -> str:
    """Return the name of the study's metric, or of the task's if training does not log that."""
    name = name_of(collection.study.metric)
    runs = collection.finished
    if runs and not any(f"train/{name}" in row for run in runs for row in run.rows):
        return str(runs[0].result.get("metric", "error"))
    return name


def _natural(value: Any) -> tuple[bool, list[Any]]:
    """Return a key for natural sorting: numbers first, and vgg11 before vgg101."""
    if not isinstance(value, str):
        return False, [value]
    parts = re.split(r"(\d+)", value)
    return True, [int(part) if part.isdigit() else part for part in parts]


def mean_curve(runs: Sequence[RunRecord], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Return epochs (n,) that all seeds have, and the mean over seeds (n,) at them."""
    curves = [
        {row["epoch"]: row[metric] for row in run.rows if row.get(metric) is not None}
        for run in runs
    ]
    curves = [curve for curve in curves if curve]
    if not curves:
        return np.array([]), np.array([])
    epochs = sorted(set.intersection(*(set(curve) for curve in curves)))
    return np.array(epochs), np.array([np.mean([c[e] for c in curves]) for e in epochs])


def _legend(
    figure: Figure,
    collection: Collection,
    colours: dict[Any, Any],
    kinds: Sequence[tuple[str, dict[str, Any]]],
) -> None:
    """Draw the legend: the colours, deepest net first, and the meaning of bold and dashed."""
    study = collection.study
    ordered = study.x != "label"
    entries: list[Any] = [
        Line2D([], [], color=colours[value], lw=3, label=f"{value:g}" if ordered else str(value))
        for value in (reversed(list(colours)) if ordered else colours)
    ]
    title = textwrap.fill(study.x_label, TITLE) if ordered else "net"
    names = {"train": "training"}
    lines = [Line2D([], [], color=SOFT, label=names.get(kind, kind), **of) for kind, of in kinds]
    look: Any = {"alignment": "left", "handlelength": 2.2}
    figure.legend(handles=lines, loc="outside right lower", **look)
    named = figure.legend(handles=entries, title=title, loc="outside right upper", **look)
    named.get_title().set_color(SOFT)
