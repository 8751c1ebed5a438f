"""What a study has to know of a metric: what it is called, and which way it counts."""

import re
from collections.abc import Iterable

from deeper.record.schema import RunRecord

# Of metrics with these names more is better, of all others, such as errors and losses, less.
_MORE = re.compile(r"(voc\d*_)?(ap|ar|auroc|auprc|f1|macro_f1|accuracy)(\d+|_\w+)?")
_ABBREVIATION = re.compile(r"(ap|ar|auroc|auprc|f|ece|map|voc)\d*")


def less_is_better(metric: str, runs: Iterable[RunRecord]) -> bool:
    """Return whether less of a metric, such as ``test/error``, is better.

    The results say it of the metric that their task goes by; of another metric, and of runs of an
    older version, it goes by the name.
    """
    name = name_of(metric)
    for run in runs:
        if run.result.get("metric") == name and "less_is_better" in run.result:
            return bool(run.result["less_is_better"])
    return _MORE.fullmatch(name) is None


def on_training(metric: str) -> str:
    """Return the metric on the training split: ``train/error`` of ``test/error``."""
    return f"train/{name_of(metric)}"


def in_words(metric: str) -> str:
    """Return what a metric is called, without its split: ``error``, or ``AP50``."""
    if name_of(metric) == "error_top5":
        return "top-5 error"
    words = name_of(metric).split("_")
    return " ".join(word.upper() if _ABBREVIATION.fullmatch(word) else word for word in words)


def name_of(metric: str) -> str:
    """Return the name of a metric without its split: ``error`` of ``test/error``."""
    return metric.rpartition("/")[2]
