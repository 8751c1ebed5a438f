"""The figure of a search: history, rungs, importance, and the reruns."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from deeper.plotting import COLOURS, SOFT, STYLE
from deeper.study.intervals import Interval

# state of a trial -> colour, marker and name in the legend
STATES = {
    "complete": (COLOURS[0], "o", "to its end"),
    "pruned": (COLOURS[5], "v", "cut at a rung"),
    "running": (SOFT, ".", "not ended"),
}


@dataclass(frozen=True)
class Drawn:
    """What the figure shows.

    Attributes:
        metric: on the validation split.
        less_is_better: whether less of it is better.
        whole: the whole run, in shares of a run.
        curves: of each trial its number, state, and share of the run -> metric.
        best: number of the chosen trial.
        importance: key -> share of the variance.
        compared: share of the run and number of trials of the importance.
        rerun: winner and baseline -> metric of each rerun on the test split.
        rerun_metric: its name.
        intervals: winner and baseline -> intervals of the reruns' mean.
    """

    metric: str
    less_is_better: bool
    whole: int
    curves: Sequence[tuple[int, str, dict[int, float]]]
    best: int
    importance: dict[str, float]
    compared: tuple[int, int]
    rerun: dict[str, list[float]]
    rerun_metric: str
    intervals: dict[str, list[Interval]]


def save_figure(drawn: Drawn, stem: Path) -> None:
    """Write the figure as SVG and PNG."""
    with mpl.rc_context({**mpl.rcParamsDefault, **STYLE, "backend": "agg"}):
        figure = Figure(figsize=(10, 7), layout="constrained")
        FigureCanvasAgg(figure)
        (history, rungs), (importance, reruns) = figure.subplots(2, 2)
        _draw_history(history, drawn)
        _draw_rungs(rungs, drawn)
        # Few trials reach that corner, and the colours are the same.
        rungs.legend(*history.get_legend_handles_labels(), fontsize=8, loc="upper right")
        _draw_importance(importance, drawn)
        _draw_reruns(reruns, drawn)
        figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None, "Creator": None})
        figure.savefig(stem.with_suffix(".png"), metadata={"Software": None})


def _draw_history(axes: Axes, drawn: Drawn) -> None:
    """Draw each trial's last value, and the best at the end of a run so far."""
    better = np.fmin if drawn.less_is_better else np.fmax
    known = [one for one in drawn.curves if one[2]]
    for state, (colour, marker, label) in STATES.items():
        points = [(number, values[max(values)]) for number, word, values in known if word == state]
        if points:
            axes.plot(
                *zip(*points, strict=True), marker, color=colour, ms=5, alpha=0.8, label=label
            )
    ends = [values.get(drawn.whole, math.nan) for _, _, values in known]
    if known:
        numbers = [number for number, _, _ in known]
        axes.step(
            numbers, better.accumulate(ends), where="post", color=COLOURS[6], label="best so far"
        )
        at = numbers.index(drawn.best) if drawn.best in numbers else None
        if at is not None and not math.isnan(ends[at]):
            axes.plot([drawn.best], [ends[at]], "*", color=COLOURS[1], ms=14, label="chosen")
    _limit(axes, [value for _, _, values in known for value in values.values()], drawn)
    axes.set_title("History")
    axes.set_xlabel("trial")
    axes.set_ylabel(f"last {drawn.metric}")


def _draw_rungs(axes: Axes, drawn: Drawn) -> None:
    """Draw each trial's values at the rungs."""
    for number, state, values in drawn.curves:
        chosen = number == drawn.best
        colour = COLOURS[1] if chosen else STATES.get(state, STATES["running"])[0]
        shares = sorted(values)
        axes.plot(
            [share / drawn.whole for share in shares],
            [values[share] for share in shares],
            "o-",
            color=colour,
            alpha=1.0 if chosen else 0.45,
            linewidth=2.2 if chosen else 1.0,
            ms=3.5,
            zorder=3 if chosen else 2,
        )
    shares = sorted({share for _, _, values in drawn.curves for share in values})
    axes.set_xscale("log")
    axes.set_xticks(
        [share / drawn.whole for share in shares], [f"{s}/{drawn.whole}" for s in shares]
    )
    axes.minorticks_off()
    _limit(axes, [value for _, _, values in drawn.curves for value in values.values()], drawn)
    axes.set_title("Rungs")
    axes.set_xlabel("share of the run")
    axes.set_ylabel(drawn.metric)


def _limit(axes: Axes, values: Sequence[float], drawn: Drawn) -> None:
    """Keep trials that learnt nothing from pressing the others together."""
    if len(values) < 4:
        return
    low, high = min(values), max(values)
    edge = np.percentile(values, 85 if drawn.less_is_better else 15)
    room = 0.08 * abs(edge - (low if drawn.less_is_better else high)) or 1.0
    if drawn.less_is_better:
        axes.set_ylim(low - room, min(high + room, edge + 4 * room))
    else:
        axes.set_ylim(max(low - room, edge - 4 * room), high + room)


def _draw_importance(axes: Axes, drawn: Drawn) -> None:
    axes.set_title("Importance (fANOVA)")
    if not drawn.importance:
        _say(axes, "too few trials")
        return
    names = list(reversed(drawn.importance))
    axes.barh(names, [drawn.importance[name] for name in names], color=COLOURS[0], height=0.6)
    axes.grid(axis="x")
    axes.set_xlim(0, 1)
    share, trials = drawn.compared
    axes.set_xlabel(f"share of variance at {share}/{drawn.whole} of the run, {trials} trials")


def _draw_reruns(axes: Axes, drawn: Drawn) -> None:
    """Draw the reruns of winner and baseline with their intervals, each with its name."""
    axes.set_title("Reruns with fresh seeds")
    if not drawn.rerun:
        _say(axes, "not finished")
        return
    for row, (name, values) in enumerate(drawn.rerun.items()):
        axes.plot(values, [row] * len(values), "o", color=COLOURS[0], alpha=0.4, ms=5)
        for number, interval in enumerate(drawn.intervals[name]):
            at, colour = row + 0.18 * (number + 1), COLOURS[1 + number]
            label = interval.way.split(", ")[0] if row == 0 else ""
            axes.hlines(at, interval.low, interval.high, color=colour, linewidth=2.5, label=label)
            axes.plot([interval.mean], [at], "|", color=colour, ms=12, mew=2.5)
    axes.set_yticks(range(len(drawn.rerun)), list(drawn.rerun))
    axes.set_ylim(len(drawn.rerun) + 0.35, -0.4)
    axes.grid(axis="x")
    axes.set_xlabel(drawn.rerun_metric)
    axes.legend(fontsize=8, loc="lower center", ncols=1)


def _say(axes: Axes, words: str) -> None:
    """Write words in the place of a drawing."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, words, ha="center", color=SOFT, transform=axes.transAxes)
