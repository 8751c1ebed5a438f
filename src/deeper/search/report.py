"""What a search reports: its trials, the config that it chose, and the reruns of that.

Written beside the journal: ``report.json``, ``trials.csv``, ``search.svg`` and ``search.png``. No
study reads them, and no number on the test split of a trial is in them.
"""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeper.config.command_line import command, override
from deeper.config.identity import changes_no_number
from deeper.errors import UserError
from deeper.record.atomic_files import to_json, write_whole
from deeper.record.schema import read_run
from deeper.record.values import spelled
from deeper.search.definition import words_of
from deeper.search.figure import Drawn, save_figure
from deeper.search.journal import Trial
from deeper.search.reruns import BASELINE, WINNER, Rerun
from deeper.search.trials import Search
from deeper.study.tables import insert_between_markers, markdown

REPORT, TABLE, FIGURE = "report.json", "trials.csv", "search"
SHOWN = 10  # trials in a page's table


@dataclass(frozen=True)
class Cost:
    """What the trials of a search have cost.

    Attributes:
        trials: their number.
        states: state -> number of trials.
        runs: steps trained over all of them, in whole runs.
        seconds: of training and evaluation.
    """

    trials: int
    states: dict[str, int]
    runs: float
    seconds: float

    def __str__(self) -> str:
        """Return the cost in one phrase."""
        parts = ", ".join(f"{count} {state}" for state, count in self.states.items())
        return (
            f"{self.trials} trials ({parts}), as many steps as {self.runs:.1f} whole runs, "
            f"{self.seconds / 60:.1f} minutes"
        )


@dataclass(frozen=True)
class SearchReport:
    """A search's report.

    Attributes:
        search: the search.
        trials: all trials by number.
        best: the chosen one.
        cost: of all trials.
        importance: key -> share of the variance at the first rung; see `Journal.importance`.
        compared: share of the run and number of trials that the importance is of.
        rerun: what the reruns say; None if they are not finished.
    """

    search: Search
    trials: tuple[Trial, ...]
    best: Trial
    cost: Cost
    importance: dict[str, float]
    compared: tuple[int, int]
    rerun: Rerun | None

    @property
    def best_value(self) -> float:
        """Return the chosen trial's metric on the validation split."""
        score = self.search.final_score(self.best.number)
        assert score is not None
        return self.search.definition.value(score)

    def command(self) -> str:
        """Return the command that trains the chosen config, outside of the search."""
        given = [*self.search.definition.words, *words_of(self.best.values)]
        kept = [w for w in given if not changes_no_number(w.partition("=")[0]) or _chooses(w)]
        return command("train", *kept)

    def sentences(self) -> list[str]:
        """Return what was chosen, at what cost, and what the reruns say."""
        metric, best = self.search.definition.metric, self.best
        values = ", ".join(f"{key}={_short(value)}" for key, value in best.values.items())
        lines = [
            f"Trial {best.number} of {self.cost.trials} was chosen by its {metric} of "
            f"{self.best_value:.2f}, the best of all trials that came to their end, and so too "
            f"good a number to be published: {values}.",
            f"This choice cost {self.cost}.",
        ]
        if self.rerun is None:
            return [*lines, "The reruns of winner and baseline are not finished."]
        for name in (WINNER, BASELINE, "difference"):
            what = "winner − baseline" if name == "difference" else name
            ways = "; ".join(f"{one} ({one.way})" for one in self.rerun.intervals[name])
            mean = f"{self.rerun.intervals[name][0].mean:.2f}".replace("-", "−")
            lines.append(f"{what}, rerun: {self.rerun.metric} {mean}, {ways}.")
        return lines

    def plain(self) -> dict[str, Any]:
        """Return plain values."""
        definition = self.search.definition
        return {
            "definition": definition.plain(),
            "chosen": {
                "trial": self.best.number,
                "values": self.best.values,
                definition.metric: self.best_value,
                "command": self.command(),
            },
            "cost": vars(self.cost),
            "importance": {
                "shares": self.importance,
                "at": f"{self.compared[0]}/{definition.whole} of the run",
                "trials": self.compared[1],
            },
            "reruns": None if self.rerun is None else self.rerun.plain(),
        }


def _chooses(word: str) -> bool:
    """Return whether an override chooses a study or a mode, whose values it brings."""
    return word.partition("=")[0] in ("study", "mode", "recipe")


def make_report(search: Search, rerun: Rerun | None) -> SearchReport:
    """Write the report of a search into its directory.

    Raises:
        UserError: no trial has come to its end, or the disk refuses.
    """
    trials = tuple(search.journal.trials())
    importance, first, number = search.journal.importance()
    report = SearchReport(
        search, trials, search.best(), _cost(search, trials), importance, (first, number), rerun
    )
    write_whole(search.directory / REPORT, to_json(report.plain(), indent=1))
    write_whole(search.directory / TABLE, _csv(search, trials).encode())
    save_figure(_drawn(report), search.directory / FIGURE)
    return report


def _drawn(report: SearchReport) -> Drawn:
    definition, rerun = report.search.definition, report.rerun
    curves = []
    for trial in report.trials:
        values = {share: definition.value(score) for share, score in trial.scores.items()}
        curves.append((trial.number, trial.state, values))
    return Drawn(
        metric=definition.metric,
        less_is_better=definition.less_is_better,
        whole=definition.whole,
        curves=curves,
        best=report.best.number,
        importance=report.importance,
        compared=report.compared,
        rerun={} if rerun is None else rerun.values,
        rerun_metric="" if rerun is None else rerun.metric,
        intervals={} if rerun is None else rerun.intervals,
    )


def _cost(search: Search, trials: Sequence[Trial]) -> Cost:
    runs, seconds = 0.0, 0.0
    for trial in trials:
        directory = search.directory_of(trial.number)
        if directory is None:
            continue
        record = read_run(directory)
        steps = (record.environment.get("run") or {}).get("steps")
        last = record.rows[-1] if record.rows else {}
        runs += (last.get("step") or 0) / steps if steps else 0.0
        seconds += last.get("time") or 0.0
    states = Counter("cut" if trial.state == "pruned" else trial.state for trial in trials)
    return Cost(len(trials), dict(states), runs, seconds)


def rows_of(search: Search, trials: Sequence[Trial]) -> tuple[list[str], list[list[str]]]:
    """Return headings and a row for each trial: number, state, values, share of the run, metric."""
    definition = search.definition
    headings = ["trial", "state", *definition.space, "of the run", definition.metric]
    rows = []
    for trial in trials:
        final = search.final_score(trial.number)
        scores = trial.scores if final is None else {**trial.scores, definition.whole: final}
        share = max(scores, default=None)
        score = None if share is None else definition.value(scores[share])
        rows.append(
            [
                str(trial.number),
                "cut" if trial.state == "pruned" and not trial.reason else trial.state,
                *(_short(trial.values.get(key)) for key in definition.space),
                "" if share is None else f"{share}/{definition.whole}",
                trial.reason if score is None else f"{score:.2f}",
            ]
        )
    return headings, rows


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else spelled(value)


def _csv(search: Search, trials: Sequence[Trial]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    headings, rows = rows_of(search, trials)
    writer.writerow([*headings, "run"])
    for trial, row in zip(trials, rows, strict=True):
        row[2 : 2 + len(trial.values)] = [spelled(value) for value in trial.values.values()]
        directory = search.directory_of(trial.number)
        writer.writerow([*row, "" if directory is None else directory.name])
    return stream.getvalue()


def update_readme(report: SearchReport, readme: Path) -> None:
    """Write the report's parts into a README, and its figure and data into the same directory.

    Args:
        report: the report.
        readme: path of the README, with markers for ``chosen``, ``trials`` and ``figure``.

    Raises:
        UserError: the file or a marker is missing.
    """
    search = report.search
    scores = {t.number: search.final_score(t.number) for t in report.trials}
    ended = [t for t in report.trials if scores[t.number] is not None]
    order = sorted(ended, key=lambda trial: (scores[trial.number] or 0.0, trial.number))
    headings, rows = rows_of(search, order[:SHOWN])
    given = [w for w in search.definition.words if not w.startswith(("study.name=", "runs="))]
    kept = [w for w in given if not w.startswith("data.dir=")]
    made = command("search", *kept, override("trials", len(report.trials)))
    parts = {
        "chosen": "\n".join(f"- {line}" for line in report.sentences()),
        "trials": f"{markdown(headings, rows)}\n\nThe best {len(rows)} of the {len(ended)} trials "
        f"that came to their end; all are in trials.csv. Made by `{made}`.",
        "figure": f"![History, rungs, importance and reruns of the search]({FIGURE}.png)",
    }
    if not readme.is_file():
        raise UserError(f"There is no {readme} to update: create it, with its markers.")
    before = readme.read_text(encoding="utf-8")
    try:
        for name, text in parts.items():
            insert_between_markers(readme, name, text)
    except UserError:
        readme.write_text(before, encoding="utf-8")
        raise
    for name in (REPORT, TABLE, f"{FIGURE}.png", f"{FIGURE}.svg"):
        (readme.parent / name).write_bytes((search.directory / name).read_bytes())
