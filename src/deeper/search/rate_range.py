"""The range test of the learning rate: one short run whose rate rises until the loss breaks away.

Smith 2017 (arXiv:1506.01186), section 3.3, with an exponential rise. The run is an ordinary one
with ``schedule=range_test``; what is read are its training losses, never the test split.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float64
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from deeper.config.identity import run_directory
from deeper.config.schema import RunConfig
from deeper.config.search_section import SearchSection
from deeper.errors import UserError
from deeper.plotting import COLOURS, SOFT, STYLE
from deeper.record.atomic_files import to_json, write_whole
from deeper.record.schema import read_run

RANGE = "range"  # range.json, range.svg and range.png in the run's directory
DECAY = 0.9  # of the moving average of the loss
BROKEN = 4.0  # times the least loss: from there on the rate is too large
FEWEST = 10


@dataclass(frozen=True)
class RateRange:
    """The result of a range test, in units of ``optimizer.learning_rate``.

    Attributes:
        rates: of the steps.
        losses: training losses at them.
        smooth: moving averages of the losses, corrected for their beginning.
        steepest: the rate at which the loss falls fastest.
        lowest: the rate at which the loss is least.
        broken: the rate from which on the loss is `BROKEN` times the least; None if it never is.
    """

    rates: Float64[np.ndarray, " n"]
    losses: Float64[np.ndarray, " n"]
    smooth: Float64[np.ndarray, " n"]
    steepest: float
    lowest: float
    broken: float | None

    def __str__(self) -> str:
        """Return what to read from it."""
        broken = "" if self.broken is None else f"; from {self.broken:.2g} on it breaks away"
        return (
            f"The training loss falls fastest at optimizer.learning_rate={self.steepest:.2g} and "
            f"is least at {self.lowest:.2g}{broken}. Rates from {self.lowest / 10:.2g}, a tenth of "
            "the latter, to the former are worth a run."
        )

    def plain(self) -> dict[str, Any]:
        """Return plain values."""
        return vars(self) | {"a_tenth_of_lowest": self.lowest / 10}


def words_of_range(section: SearchSection, words: Sequence[str]) -> list[str]:
    """Return the overrides of the test's run.

    Args:
        section: the ``search`` section, with the ends of the range.
        words: overrides of the run whose rate is looked for.
    """
    kept = [word for word in words if word.lstrip("+").split("=")[0].split(".")[0] != "schedule"]
    return [
        *kept,
        "schedule=range_test",
        f"schedule.begin={section.low / section.high}",
        f"optimizer.learning_rate={section.high}",
        f"train.steps={section.steps}",
        "train.log_every=1",
        "train.evaluate_every=1e9",
        "train.checkpoint_every=1e9",
    ]


def directory_of_range(search: Path, config: RunConfig) -> Path:
    """Return the directory of the test's run inside that of a search."""
    return search / "lr" / run_directory(config.plain()).name


def read_range(directory: Path) -> RateRange:
    """Return the result of the run in a directory.

    Raises:
        UserError: it has too few losses.
    """
    run = read_run(directory)
    rows = [row for row in run.rows if row.get("lr") and row.get("train/loss") is not None]
    if len(rows) < FEWEST:
        raise UserError(
            f"The run in {directory} has only {len(rows)} losses before it broke away: give a "
            "smaller search.low, or more search.steps."
        )
    # The schedule is of the whole batch, the key of 256 examples.
    unit = 256 / run.config["train"]["batch_size"]
    rates = unit * np.array([row["lr"] for row in rows])
    return rate_range(rates, np.array([row["train/loss"] for row in rows]))


def rate_range(rates: Float64[np.ndarray, " n"], losses: Float64[np.ndarray, " n"]) -> RateRange:
    """Return what losses at rising rates say."""
    average, smooth = 0.0, np.empty(len(losses))
    for number, loss in enumerate(losses):
        average = DECAY * average + (1 - DECAY) * loss
        smooth[number] = average / (1 - DECAY ** (number + 1))
    over = np.flatnonzero(smooth > BROKEN * np.minimum.accumulate(smooth))
    end = int(over[0]) if len(over) else len(smooth)
    lowest = int(np.argmin(smooth[:end]))
    slope = np.gradient(smooth, np.log(rates))
    steepest = int(np.argmin(slope[: max(lowest, 1)]))
    broken = float(rates[end]) if len(over) else None
    return RateRange(rates, losses, smooth, float(rates[steepest]), float(rates[lowest]), broken)


def write_range(found: RateRange, directory: Path) -> Path:
    """Write range.json, range.svg and range.png into a directory; return the PNG."""
    write_whole(directory / f"{RANGE}.json", to_json(found.plain(), indent=1))
    with mpl.rc_context({**mpl.rcParamsDefault, **STYLE, "backend": "agg"}):
        figure = _figure(found)
        figure.savefig(directory / f"{RANGE}.svg", metadata={"Date": None, "Creator": None})
        figure.savefig(directory / f"{RANGE}.png", metadata={"Software": None})
    return directory / f"{RANGE}.png"


def _figure(found: RateRange) -> Figure:
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot(found.rates, found.losses, ".", color=SOFT, alpha=0.35, ms=4, label="a step's loss")
    axes.plot(found.rates, found.smooth, color=COLOURS[0], label="moving average")
    marks = [
        (found.steepest, COLOURS[2], f"falls fastest: {found.steepest:.2g}"),
        (found.lowest, COLOURS[1], f"least: {found.lowest:.2g}"),
    ]
    for rate, colour, label in marks:
        axes.axvline(rate, color=colour, linewidth=1.5, linestyle="--", label=label)
    axes.set_xscale("log")
    low, high = (
        float(np.min(found.smooth)),
        float(found.smooth[: max(3, len(found.smooth) // 3)].max()),
    )
    axes.set_ylim(max(0.0, low - 0.15 * (high - low)), high + 0.6 * (high - low))
    axes.set_xlabel("optimizer.learning_rate (of 256 examples)")
    axes.set_ylabel("training loss")
    axes.set_title("Range test of the learning rate")
    axes.legend(loc="lower left", fontsize=8)
    return figure
