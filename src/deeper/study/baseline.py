"""Tables and figures of studies that compare their lines with a baseline (``base``)."""

import statistics
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from deeper.plotting import COLOURS, INK, SOFT
from deeper.record.schema import RunRecord
from deeper.record.values import spelled
from deeper.study.label_placement import place_beside
from deeper.study.means import Mean, mean_of
from deeper.study.metrics import in_words, less_is_better, on_training
from deeper.study.read_runs import Collection

Cell = dict[int, RunRecord]  # seed -> run
ABSENT = "–"


def cells(collection: Collection) -> dict[Any, dict[str, Cell]]:
    """Return the finished runs by x, line and seed, in ascending order of x."""
    study = collection.study
    cells: dict[Any, dict[str, Cell]] = {}
    for run in collection.finished:
        x, line = run.value(study.x), run.value(study.line or "label")
        if run.seed is not None:
            cells.setdefault(x, {}).setdefault(spelled(line), {})[run.seed] = run
    return dict(sorted(cells.items()))


def difference(cell: Cell, base: Cell, metric: str, comparisons: int = 1) -> Mean | None:
    """Return the paired difference of the metric to the baseline, over the seeds that both have.

    Args:
        cell: runs by seed.
        base: runs of the baseline by seed.
        metric: key of the results' metrics.
        comparisons: number of simultaneous intervals, see `means.mean_of`.
    """
    pairs = [
        (run.number(metric), base[seed].number(metric))
        for seed, run in sorted(cell.items())
        if seed in base
    ]
    values = [a - b for a, b in pairs if a is not None and b is not None]
    return mean_of(values, comparisons) if values else None


def headings(collection: Collection) -> tuple[str, ...]:
    """Return the headings of `rows`."""
    study = collection.study
    base = study.line_of(study.base)
    return (
        study.x_label or study.x,
        study.line or "net",
        "n",
        study.metric_label.replace("(%)", "%"),
        f"difference to {base}",
        f"train {in_words(study.metric)}{study.unit}".replace("(%)", "%"),
        f"step time, {base} = 1",
    )


def rows(collection: Collection) -> list[tuple[str, ...]]:
    """Return a row for each x and line, the best first: metric, paired difference, step time."""
    study = collection.study
    sign = 1 if less_is_better(study.metric, collection.finished) else -1
    out: list[tuple[str, ...]] = []
    for x, lines in cells(collection).items():
        base = lines.get(spelled(study.base), {})
        for line, cell in sorted(
            lines.items(), key=lambda item: sign * _mean(item[1], study.metric)
        ):
            gap = difference(cell, base, study.metric)
            words = ABSENT if gap is None else gap.write("{:+.2f}")
            runs = [run for _, run in sorted(cell.items())]
            out.append(
                (
                    f"{x:,}" if isinstance(x, int | float) else str(x),
                    study.line_of(line),
                    str(len(cell)),
                    _with_interval(runs, study.metric),
                    "" if line == spelled(study.base) else words,
                    _with_interval(runs, on_training(study.metric)),
                    _cost(cell, base),
                )
            )
    return out


def _mean(cell: Cell, metric: str) -> float:
    return mean_of([run.number(metric) or 0.0 for run in cell.values()]).mean


def _with_interval(runs: Sequence[RunRecord], metric: str) -> str:
    values = [value for run in runs if (value := run.number(metric)) is not None]
    return str(mean_of(values)) if values else ABSENT


def _cost(cell: Cell, base: Cell) -> str:
    """Return the step time relative to the baseline's, median over the seeds that both have."""
    ratios = []
    for seed, run in cell.items():
        ours = run.number("images_per_second")
        theirs = base[seed].number("images_per_second") if seed in base else None
        if ours and theirs:
            ratios.append(theirs / ours)
    return f"{statistics.median(ratios):.2f}" if ratios else ABSENT


def comparisons(collection: Collection) -> int:
    """Return the number of differences with an interval, for which `difference_figure` corrects."""
    study = collection.study
    base = spelled(study.base)
    gaps = [
        difference(cell, lines[base], study.metric)
        for lines in cells(collection).values()
        if base in lines
        for line, cell in lines.items()
        if line != base
    ]
    return sum(gap is not None and gap.half_width is not None for gap in gaps)


def difference_figure(collection: Collection) -> Figure | None:
    """Draw each line's difference to the baseline, one panel per x.

    Five seeds or more give simultaneous 95 % paired t intervals; with fewer, the differences of the
    single seeds are drawn.
    """
    study = collection.study
    by_x = {x: lines for x, lines in cells(collection).items() if spelled(study.base) in lines}
    names = {line for lines in by_x.values() for line in lines} - {spelled(study.base)}
    if not names:
        return None

    number = max(1, comparisons(collection))
    less = less_is_better(study.metric, collection.finished)

    def gaps(line: str) -> dict[Any, Mean]:
        gaps = {
            x: difference(lines[line], lines[spelled(study.base)], study.metric, number)
            for x, lines in by_x.items()
            if line in lines
        }
        return {x: gap for x, gap in gaps.items() if gap is not None}

    sign = 1 if less else -1
    order = sorted(names, key=lambda line: -sign * sum(g.mean for g in gaps(line).values()))
    figure = Figure(figsize=(2.2 + 2.4 * len(by_x), 1.4 + 0.34 * len(order)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(by_x), sharex=True, sharey=True, squeeze=False)[0]
    for axes, x in zip(panels, by_x, strict=True):
        axes.axvline(0.0, color=SOFT, lw=1.0, zorder=1)
        for y, line in enumerate(order):
            gap = gaps(line).get(x)
            if gap is None:
                continue
            colour = _colour(gap, less)
            if gap.half_width is not None:
                ends = (gap.mean - gap.half_width, gap.mean + gap.half_width)
                axes.plot(ends, (y, y), color=colour, lw=2.0, alpha=0.45, solid_capstyle="butt")
            else:
                axes.plot(gap.values, [y] * gap.n, "o", **run_style(gap, colour))
            if gap.half_width is not None or gap.n == 1:
                axes.plot(gap.mean, y, "o", color=colour, ms=6, mec="white", mew=1.0, zorder=3)
            else:
                axes.plot(gap.mean, y, "|", color=colour, ms=13, mew=1.8, zorder=3)
        axes.set_title(_title(x, study.x_label))
        axes.grid(visible=True, axis="x")
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.spines["left"].set_visible(False)
        axes.set_ylim(-0.6, len(order) - 0.4)
    panels[0].set_yticks(range(len(order)), [study.line_of(line) for line in order])
    unit = " (points)" if study.unit == " (%)" else study.unit
    label = f"{study.metric_label.split(' (')[0]} minus that of {study.line_of(study.base)}{unit}"
    figure.supxlabel(label, fontsize=10, color=INK)
    return figure


def _title(x: Any, label: str) -> str:
    """Return a panel's title: 550 training images; of one, whose noun would be wrong, label: 1."""
    if not isinstance(x, int | float):
        return str(x)
    return f"{label}: 1" if x == 1 else f"{x:,} {label}"


def run_style(mean: Mean, colour: str) -> dict[str, Any]:
    """Return the marker style of single runs: faint where an interval is drawn, opaque
    otherwise.
    """
    if mean.half_width is not None or mean.n == 1:
        return {"color": colour, "alpha": 0.5, "ms": 4, "mew": 0, "zorder": 3.5}
    return {"color": colour, "ms": 5, "mec": "white", "mew": 0.8, "zorder": 5}


def _colour(gap: Mean, less_is_better: bool) -> str:
    """Return blue if the interval lies on the better side of zero, orange if on the worse one, grey
    otherwise.
    """
    if not gap.half_width or not abs(gap.mean) > gap.half_width:
        return SOFT
    return COLOURS[0] if (gap.mean < 0) == less_is_better else COLOURS[1]


def overfitting_figure(collection: Collection) -> Figure | None:
    """Draw the metric on the test split against that on the training split, one panel per x.

    Nothing is drawn of a metric that the training split does not have.
    """
    study = collection.study
    by_x = {
        x: lines
        for x, lines in cells(collection).items()
        if all(
            run.number(on_training(study.metric)) is not None
            for cell in lines.values()
            for run in cell.values()
        )
    }
    if not by_x:
        return None
    figure = Figure(figsize=(0.6 + 3.3 * len(by_x), 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(by_x), squeeze=False)[0]
    labelled = []
    for axes, (x, lines) in zip(panels, by_x.items(), strict=True):
        points = [
            (
                _mean(cell, on_training(study.metric)),
                _mean(cell, study.metric),
                study.line_of(line),
                colour,
            )
            for line, cell in lines.items()
            for colour in [INK if line == spelled(study.base) else COLOURS[0]]
        ]
        for px, py, _, colour in points:
            axes.plot(px, py, "o", color=colour, ms=6, mec="white", mew=1.0, zorder=3)
        _set_limits(axes, points)
        axes.set_title(_title(x, study.x_label))
        axes.grid(visible=True, axis="both")
        labelled.append((axes, points))
    panels[0].set_ylabel(study.metric_label)
    train = f"training {in_words(study.metric)}{study.unit}, final net, images as stored"
    figure.supxlabel(train, fontsize=10, color=INK)
    for axes, points in labelled:  # after the layout of everything else
        place_beside(axes, points, [])
    return figure


def _set_limits(axes: Axes, points: Sequence[tuple[float, float, str, str]]) -> None:
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    width, height = max(max(xs) - min(xs), 0.5), max(max(ys) - min(ys), 0.5)
    axes.set_xlim(min(xs) - 0.3 * width, max(xs) + 0.4 * width)
    low, high = axes.get_xlim()
    axes.set_xticks([tick for tick in axes.get_xticks() if max(0.0, low) <= tick <= high])
    axes.set_xlim(low, high)
    axes.set_ylim(min(ys) - 0.15 * height, max(ys) + 0.15 * height)
