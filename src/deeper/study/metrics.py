"""What a study has to know of a metric: which way is better, and its name on the training split."""

import re

# Of metrics with these names more is better, of all others, such as errors and losses, less.
_MORE = re.compile(r"(voc\d*_)?(ap|ar|auroc|auprc|f1|macro_f1|accuracy)(\d+|_\w+)?")


def less_is_better(metric: str) -> bool:
    """Return whether less of a metric, such as ``test/error``, is better."""
    return _MORE.fullmatch(_name(metric)) is None


def on_training(metric: str) -> str:
    """Return the metric of the training split that is shown beside one of the test split."""
    name = _name(metric)
    return f"train/{'error' if less_is_better(metric) else name}"


def in_words(metric: str) -> str:
    """Return what a metric is called, without its split: ``error``, or ``AP``."""
    return "error" if less_is_better(metric) else _name(metric).replace("_", " ").upper()


def _name(metric: str) -> str:
    return metric.rpartition("/")[2]
