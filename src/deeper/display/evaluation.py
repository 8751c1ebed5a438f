"""Output of ``deeper evaluate``: metrics as JSON, or the table of a suite."""

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from deeper.record.atomic_files import finite
from deeper.run.suite_reports import Report
from deeper.study.tables import markdown

BY_CLASS, COUNTS = "_by_class", "n_by_class"  # ends of names; the numbers of examples
TOO_LONG = (BY_CLASS, "unreadable")  # ends of names of what is not among the metrics
MOST_CLASSES = 30  # whose numbers are printed


def print_result(result: Mapping[str, Any], split: str, console: Console, remarks: Console) -> None:
    """Print the metrics of an evaluation, and sentences about them.

    Args:
        result: of `evaluate_run`.
        split: that was evaluated.
        console: where the metrics are printed.
        remarks: where the sentences are.
    """
    shown = {key: value for key, value in result.items() if not key.endswith(TOO_LONG)}
    console.print(json.dumps(finite(shown), indent=2), soft_wrap=True)
    if (columns := _columns(result)) and len(columns["n"]) <= MOST_CLASSES:
        remarks.print(_by_class(columns))
    elif columns:
        remarks.print(f"out=FILE.json has the numbers of {len(columns['n']):,} classes.")
    if unanswered := result.get(f"{split}/n_unanswered"):
        remarks.print(
            f"{unanswered:,} of {result[f'{split}/n_seen']:,} answers of the net are NaN or "
            "infinite; they count as wrong."
        )
    if (count := result.get("classes_in_data")) is not None:
        remarks.print(
            f"{result['data']} has {count:,} of the net's {result['classes_of_net']:,} classes; it "
            f"chose among {result['chosen_among']} (only=subset: among those in the data)."
        )


def print_suite(report: Report, console: Console, remarks: Console) -> None:
    """Print the table of a suite, or of the calibration, and sentences about it.

    Args:
        report: the result.
        console: where the table is printed.
        remarks: where the sentences are.
    """
    console.print(markdown(report.headings, report.rows), soft_wrap=True)
    for line in (*report.remarks, f"{report.picture} has the figure."):
        remarks.print(line, soft_wrap=True)


def _columns(result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the numbers by class, metric -> class -> value, that of the examples first."""
    counts = result.get(COUNTS)
    if not counts:
        return {}
    metrics = [name for name in result if name.endswith(BY_CLASS) and name != COUNTS]
    return {"n": counts} | {name.removesuffix(BY_CLASS): result[name] for name in metrics}


def _by_class(columns: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return the table of the numbers by class."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("class", overflow="ellipsis", no_wrap=True, max_width=30)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for label in columns["n"]:
        cells = [_cell(values.get(label)) for values in columns.values()]
        table.add_row(Text(str(label)), *cells)
    return table


def _cell(value: float | None) -> str:
    if value is None or value != value:  # a class without examples
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"
