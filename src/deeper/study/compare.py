"""Compares runs of any directories, without a study file."""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from deeper.config.identity import changes_no_number
from deeper.errors import UserError
from deeper.plotting import COLOURS, STYLE
from deeper.record.schema import RunRecord, read_run
from deeper.record.values import spelled
from deeper.study.means import Mean, mean_of
from deeper.study.tables import Table


class HasPath(Protocol):
    """Anything with the path of a run directory."""

    @property
    def path(self) -> Path | str:
        """Return the run directory."""


@dataclass(frozen=True, repr=False)
class Comparison:
    """Finished runs grouped by arm; runs whose configs differ only in the seed are one arm.

    Attributes:
        metric: key of the results that is compared.
        arms: name -> its runs, in the order of the arguments.
    """

    metric: str
    arms: dict[str, list[RunRecord]]

    @property
    def means(self) -> dict[str, Mean]:
        """Return the mean of each arm over its seeds."""
        return {
            name: mean_of([value for run in runs if (value := run.number(self.metric)) is not None])
            for name, runs in self.arms.items()
        }

    @property
    def table(self) -> Table:
        """Return a row for each arm: n, mean, and its 95 % t interval, or the range of few seeds.

        An interval needs five seeds.
        """
        rows, means = [], self.means
        digits = 2 if any(abs(mean.mean) >= 1 for mean in means.values()) else 4
        for name, mean in means.items():
            low, high = _ends(mean)
            kind = "95 % t" if mean.half_width is not None else "range"
            spread = "" if mean.n < 2 else f"{low:.{digits}f} to {high:.{digits}f} ({kind})"
            rows.append((name, str(mean.n), f"{mean.mean:.{digits}f}", spread))
        return Table(("arm", "n", self.metric, "interval"), tuple(rows))

    def figure(self) -> Figure:
        """Draw each arm's runs, their mean, and its interval where there is one."""
        means = self.means
        with mpl.rc_context({**mpl.rcParamsDefault, **STYLE, "backend": "agg"}):
            figure = Figure(figsize=(6.4, 0.9 + 0.45 * len(means)), layout="constrained")
            FigureCanvasAgg(figure)
            axes = figure.subplots()
            for row, mean in enumerate(means.values()):
                axes.plot(mean.values, [row] * mean.n, "o", color=COLOURS[0], alpha=0.35, ms=5)
                axes.plot([mean.mean], [row], "|", color=COLOURS[1], ms=14, mew=2.5)
                if mean.half_width is not None:
                    axes.hlines(row, *_ends(mean), color=COLOURS[1], linewidth=2)
            axes.set_yticks(range(len(means)), list(means))
            axes.set_ylim(len(means) - 0.5, -0.5)
            axes.set_xlabel(self.metric)
            axes.grid(axis="x")
        return figure

    def __repr__(self) -> str:
        """Return the table in Markdown."""
        return str(self.table)

    def _repr_html_(self) -> str:
        picture = io.StringIO()
        self.figure().savefig(picture, format="svg", metadata={"Date": None})
        svg = picture.getvalue()
        return self.table._repr_html_() + svg[svg.index("<svg") :]


def compare(runs: Iterable[Path | str | HasPath], metric: str = "test/error") -> Comparison:
    """Return a comparison of finished runs.

    Args:
        runs: run directories, or objects with a ``path``; of two runs of the same config and seed
            the later one counts.
        metric: key of the results; other tasks than classification have other keys.

    Raises:
        UserError: a directory holds no finished run, or the metric is not in its result.
    """
    paths = [Path(run if isinstance(run, str | Path) else run.path) for run in runs]
    if not paths:
        raise UserError("There is no run to compare: give run directories.")
    different = {path.resolve(): path for path in paths}.values()
    distinct = [_finished(path, metric) for path in different]
    settings = _settings(distinct)
    groups: dict[tuple[tuple[str, str], ...], list[RunRecord]] = {}
    for run, setting in zip(distinct, settings, strict=True):
        groups.setdefault(tuple(sorted(setting.items())), []).append(run)
    arms = [list({run.seed: run for run in same}.values()) for same in groups.values()]
    names = _names([dict(group) for group in groups], [same[0] for same in arms])
    return Comparison(metric, dict(zip(names, arms, strict=True)))


def _finished(path: Path, metric: str) -> RunRecord:
    run = read_run(path)
    if run.status != "finished":
        note = f" ({run.note})" if run.note else ""
        raise UserError(f"{path} holds no finished run: it is {run.status}{note}.")
    if run.number(metric) is None:
        known = ", ".join(sorted(run.metrics))
        raise UserError(f"{path} has no number {metric}: give metric= one of {known}.")
    return run


def _settings(runs: Sequence[RunRecord]) -> list[dict[str, str]]:
    """Return the settings that determine each run's numbers, without the seed: dotted key -> value.

    Keys that equal the seed in all runs, as ``data.draw`` may, are left out too.
    """
    flat = [dict(_flat(run.config)) for run in runs]
    keys = {key for each in flat for key in each}
    of_seed = {"seed", "config_hash"} | {
        key
        for key in keys
        if all(type(each.get(key)) is int and each[key] == each["seed"] for each in flat)
    }
    relevant = [key for key in keys if key not in of_seed and not changes_no_number(key)]
    return [
        {
            key: spelled(each[key]).replace(f"-s{each['seed']}-", "-s*-")
            for key in relevant
            if key in each
        }
        for each in flat
    ]


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _names(settings: Sequence[Mapping[str, str]], runs: Sequence[RunRecord]) -> list[str]:
    """Return a name for each arm: its label, and its differences from arms of the same label.

    If arms chose different files of a config group, the file is named instead of its settings.

    Args:
        settings: settings of each arm.
        runs: one run of each arm.
    """
    names = []
    for setting, run in zip(settings, runs, strict=True):
        same = [number for number, other in enumerate(runs) if other.label == run.label]
        choices = _differing([runs[number].config.get("choices") or {} for number in same])
        keys = [
            key
            for key in _differing([settings[number] for number in same])
            if key.partition(".")[0] not in choices
        ]
        chosen = [f"{group}={run.config['choices'].get(group)}" for group in choices]
        others = [f"{key}={setting[key]}" for key in keys if key in setting]
        names.append(" ".join([run.label, *chosen, *others]))
    return names


def _differing(mappings: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = sorted({key for each in mappings for key in each})
    return [key for key in keys if len({str(each.get(key)) for each in mappings}) > 1]


def _ends(mean: Mean) -> tuple[float, float]:
    """Return the ends of an interval, or of the range where there is none."""
    if mean.half_width is None:
        return min(mean.values), max(mean.values)
    return mean.mean - mean.half_width, mean.mean + mean.half_width
