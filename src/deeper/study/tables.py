"""A study's numbers as CSV, Markdown, and rows for a terminal or a page."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from deeper.errors import UserError
from deeper.study.collect import Collection, Run
from deeper.study.statistics import mean_of

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

HEADINGS = ("net", "runs", "test error %", "training error %", "parameters", "MMACs", "s", "img/s")


def results_csv(collection: Collection) -> str:
    """Return a row for each finished or diverged run."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for run in collection.runs:
        if run.result:
            writer.writerow([_plain(run.value(column)) for column in COLUMNS])
    return stream.getvalue()


def _plain(value: Any) -> Any:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value


def summary_rows(collection: Collection) -> list[tuple[str, ...]]:
    """Return the summary: a row a net, means over its seeds with 95 % intervals."""
    rows: list[tuple[str, ...]] = []
    for label, runs in by_label(collection).items():
        first = runs[0]

        def mean(key: str, runs: Sequence[Run] = runs) -> str:
            return str(mean_of([float(run.value(key)) for run in runs]))

        def rounded(key: str, runs: Sequence[Run] = runs) -> str:
            return f"{mean_of([float(run.value(key)) for run in runs]).mean:,.0f}"

        rows.append(
            (
                label,
                str(len(runs)),
                mean("test/error"),
                mean("train/error"),
                f"{first.value('parameters'):,}",
                f"{first.value('macs') / 1e6:,.2f}",
                rounded("seconds"),
                rounded("images_per_second"),
            )
        )
    return rows


def by_label(collection: Collection) -> dict[str, list[Run]]:
    """Group the finished runs by net, in the order of the line and of depth."""
    groups: dict[str, list[Run]] = {}
    ordered = sorted(
        collection.finished,
        key=lambda r: (str(r.value("residual")), r.value("depth") or 0, r.label),
    )
    for run in ordered:
        groups.setdefault(run.label, []).append(run)
    return groups


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(headings)} |", f"| {' | '.join('---' for _ in headings)} |"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def published(filters: Mapping[str, str] | None) -> list[dict[str, str]]:
    """Return published numbers, each with its protocol and source.

    Args:
        filters: column -> value; None gives nothing.
    """
    if not filters:
        return []
    text = (files("deeper.study") / "published.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    return [row for row in rows if all(row[key] == value for key, value in filters.items())]


def insert_between_markers(path: Path, name: str, text: str) -> None:
    """Replace what stands between a README's markers.

    Args:
        path: the file.
        name: of the markers ``<!-- generated:NAME -->`` and ``<!-- /generated:NAME -->``.
        text: what is to stand there.

    Raises:
        UserError: the markers are not there.
    """
    content = path.read_text()
    pattern = re.compile(
        rf"(<!-- generated:{re.escape(name)} -->\n).*?(<!-- /generated:{re.escape(name)} -->)", re.S
    )
    if not pattern.search(content):
        raise UserError(
            f"{path} has no lines `<!-- generated:{name} -->` and `<!-- /generated:{name} -->` "
            "for the generated text to stand between: add them."
        )
    path.write_text(pattern.sub(lambda found: f"{found[1]}{text.strip()}\n{found[2]}", content))
