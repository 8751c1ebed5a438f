"""Output of ``deeper evaluate``: metrics as JSON, or the table of a suite."""

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from deeper.record.atomic_files import finite
from deeper.run.suite_reports import Report
from deeper.study.tables import markdown

TOO_LONG = ("_by_class", "unreadable")  # ends of names of what is in the file and not printed


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
