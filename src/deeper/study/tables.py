"""The numbers of a study as CSV, Markdown, and rows for a terminal or a page."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from deeper.errors import UserError
from deeper.record.schema import RunRecord
from deeper.study import baseline
from deeper.study.means import FEWEST, mean_of
from deeper.study.metrics import in_words, on_training
from deeper.study.read_runs import Collection

COLUMNS = (
    "label",
    "seed",
    "status",
    "depth",
    "residual",
    "parameters",
    "macs",
    "steps",
    "epochs",
    "train_images",
    "test/error",
    "test/error_top5",
    "test/loss",
    "test/n_seen",
    "train/error",
    "train/loss",
    "train/n_seen",
    "validation/error",
    "validation/loss",
    "seconds",
    "compile_seconds",
    "images_per_second",
    "config_hash",
    "git_commit",
)

METRIC_NAMES = {"top1_error": "top-1 error %", "top5_error": "top-5 error %"}
ABSENT = "–"


@dataclass(frozen=True)
class Table:
    """A table that is printed as Markdown, and shown as HTML in a notebook.

    Attributes:
        headings: headings of the columns.
        rows: the cells.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        """Return the table in Markdown."""
        return markdown(self.headings, self.rows)

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(text)}</th>" for text in self.headings)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>"
            for row in self.rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def results_csv(collection: Collection) -> str:
    """Return one row per finished or diverged run, in a fixed order.

    The columns are `COLUMNS`, with further settings of the arms between seed and status, and the
    study's metrics that are none of them at the end.
    """
    study = collection.study
    metrics = (study.metric, on_training(study.metric))
    settings = [key for key in study.arms if key not in ("model", "model.depth")]
    columns = (*COLUMNS[:2], *settings, *COLUMNS[2:], *(m for m in metrics if m not in COLUMNS))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    runs = [run for run in collection.runs if run.status in ("finished", "diverged")]
    for run in sorted(runs, key=_order):
        facts = {**{key: run.setting(key) for key in settings}, "status": run.status}
        row = [facts.get(key, run.value(key)) for key in columns]
        writer.writerow([_plain(value) for value in row])
    return stream.getvalue()


def _plain(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, str):
        return cell(value)
    return f"{value:.6g}" if isinstance(value, float) else value


def cell(text: str) -> str:
    """Return a text as a CSV cell that no spreadsheet evaluates as a formula."""
    try:
        float(text)
    except ValueError:
        return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
    return text


def _order(run: RunRecord) -> tuple[Any, ...]:
    return str(run.value("residual")), run.depth, run.arm, run.seed or 0


def by_arm(collection: Collection) -> dict[str, list[RunRecord]]:
    """Group the finished runs by arm: plain before residual and by depth, or by cost without x."""
    unordered = collection.study.x == "label"
    groups: dict[str, list[RunRecord]] = {}
    for run in sorted(
        collection.finished,
        key=lambda r: ((r.number("macs") or 0,) if unordered else ()) + _order(r),
    ):
        groups.setdefault(run.arm, []).append(run)
    return groups


def headings(collection: Collection) -> tuple[str, ...]:
    """Return the summary's headings."""
    if collection.study.base is not None:
        return baseline.headings(collection)
    metric = collection.study.metric_label.replace("(%)", "%")
    train = f"train {in_words(collection.study.metric)}{collection.study.unit}"
    return ("net", "n", metric, train.replace("(%)", "%"), "parameters", "MMACs", "time s", "ex/s")


def summary_rows(collection: Collection) -> list[tuple[str, ...]]:
    """Return the summary: one row per arm with means over its seeds, errors with their spread."""
    if collection.study.base is not None:
        return baseline.rows(collection)
    return [
        (
            arm,
            str(len(runs)),
            _mean(runs, collection.study.metric),
            _mean(runs, on_training(collection.study.metric)),
            _mean(runs, "parameters", "{:,.0f}"),
            _mean(runs, "macs", "{:,.2f}", 1e6),
            _mean(runs, "seconds", "{:,.0f}"),
            _mean(runs, "images_per_second", "{:,.0f}"),
        )
        for arm, runs in by_arm(collection).items()
    ]


def spread_words(collection: Collection) -> str:
    """Return a description of the means and spreads of `summary_rows`."""
    numbers = {len(runs) for runs in by_arm(collection).values()}
    words = []
    if max(numbers) >= FEWEST:
        words.append(f"with {FEWEST} or more ± half the 95 % t interval, each by itself")
    if min(numbers) < FEWEST:
        words.append(f"with fewer than {FEWEST} the least and the greatest run in parentheses")
    return f"Means over n seeds; {', '.join(words)}"


def _mean(runs: Sequence[RunRecord], key: str, form: str | None = None, unit: float = 1.0) -> str:
    values = [number / unit for run in runs if (number := run.number(key)) is not None]
    if not values:
        return ABSENT
    mean = mean_of(values)
    return str(mean) if form is None else form.format(mean.mean)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, the first column aligned left and the others right."""
    rule = [":---", *("---:" for _ in head[1:])]
    lines = [f"| {' | '.join(map(_of_markdown, row))} |" for row in (head, *rows)]
    return "\n".join([lines[0], f"| {' | '.join(rule)} |", *lines[1:]])


def _of_markdown(text: str) -> str:
    return " ".join(text.replace("|", r"\|").splitlines())


def published(filters: Mapping[str, Any] | None) -> list[dict[str, str]]:
    """Return published numbers, each with its protocol and source.

    Args:
        filters: column -> its value, or a list of values; None selects nothing.

    Raises:
        UserError: a column does not exist.
    """
    if filters is None:
        return []
    text = (files("deeper.study") / "published.csv").read_text(encoding="utf-8")
    reader = csv.DictReader(io.StringIO(text))
    columns = reader.fieldnames or []
    for key in filters:
        if key not in columns:
            raise UserError(
                f"The study's `published` asks for the column {key!r}; there are "
                f"{', '.join(columns)}."
            )
    wanted = {k: [*v] if isinstance(v, list | tuple) else [v] for k, v in filters.items()}
    return [row for row in reader if all(row[key] in wanted[key] for key in wanted)]


def published_rows(filters: Mapping[str, Any] | None) -> list[tuple[str, ...]]:
    """Return the published numbers as rows: net, metric, value, protocol, source."""
    rows: list[tuple[str, ...]] = []
    for row in published(filters):
        value = row["value"]
        if row["std"]:
            value += f" ± {row['std']} (std" + (
                f" of {row['n_models']})" if row["n_models"] else ")"
            )
        net = row["model"] + (f" ({row['note']})" if row["note"] else "")
        metric = METRIC_NAMES.get(row["metric"], row["metric"])
        rows.append((net, metric, value, row["protocol"], row["source"]))
    return rows


def insert_between_markers(path: Path, name: str, text: str) -> None:
    """Replace the text between two markers of a README.

    Args:
        path: the file.
        name: name of the markers ``<!-- generated:NAME -->`` and ``<!-- /generated:NAME -->``.
        text: the new text.

    Raises:
        UserError: the file is missing, or does not have the two markers once each and in this
            order.
    """
    if not path.is_file():
        raise UserError(f"There is no {path} to update: create it, with its markers.")
    content = path.read_text(encoding="utf-8")
    first, last = f"<!-- generated:{name} -->", f"<!-- /generated:{name} -->"
    if content.count(first) != 1 or content.count(last) != 1:
        raise UserError(
            f"{path} needs the lines `{first}` and `{last}`, once each, around the generated text: "
            "add them."
        )
    pattern = re.compile(rf"{re.escape(first)}.*?{re.escape(last)}", re.S)
    if not pattern.search(content):
        raise UserError(f"In {path} `{last}` stands before `{first}`: swap them.")
    new = pattern.sub(lambda _: f"{first}\n{text.strip()}\n{last}", content)
    path.write_text(new, encoding="utf-8")
