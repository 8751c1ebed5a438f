"""Whether what a study's definition names is there in its runs, made or only planned."""

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deeper.errors import UserError
from deeper.study.definition import Study
from deeper.study.values import spelled

if TYPE_CHECKING:
    from deeper.study.read_runs import Run

# Of a result, what is not known before a run; see the metrics of `deeper.train.evaluate`.
MEASURED = ("steps", "epochs", "seconds", "compile_seconds", "images_per_second")
METRICS = tuple(
    f"{split}/{name}"
    for split in ("test", "train", "validation")
    for name in ("error", "error_top5", "loss", "n_seen")
)


def check_names(study: Study, runs: Sequence["Run"], facts: Sequence[str] = ()) -> None:
    """Raise a UserError where a study names what its runs do not have.

    Args:
        study: the definition.
        runs: finished, or planned, with what is known of them.
        facts: keys that finished runs will have besides.
    """
    known = sorted({*facts, "label", *(key for run in runs for key in run.facts)})
    for name in ("x", "line"):
        key = getattr(study, name)
        if key is not None and key not in facts and not any(run.has(key) for run in runs):
            raise UserError(f"Study {study.name} has `{name}: {key}`, which {_none(key, known)}")
    metrics = [("metric", study.metric)]
    metrics += [("metric", test["metric"]) for test in study.tests if "metric" in test]
    for name, key in metrics:
        if key not in facts and all(run.number(key) is None for run in runs):
            raise UserError(f"Study {study.name} has `{name}: {key}`, which {_none(key, known)}")
    _check_axis(study, runs)


def check_base(study: Study, runs: Sequence["Run"]) -> None:
    """Raise a UserError if the base of a study is no line of its runs, where all are there."""
    lines = {spelled(run.value(study.line)) for run in runs if study.line and run.has(study.line)}
    if study.base is not None and lines and spelled(study.base) not in lines:
        raise UserError(
            f"Study {study.name} has `base: {study.base}`, but its runs have {study.line} "
            f"{', '.join(sorted(lines))}."
        )


def _check_axis(study: Study, runs: Sequence["Run"]) -> None:
    kinds = {_kind(run.value(study.x)) for run in runs if run.has(study.x)}
    if len(kinds) > 1:
        found = " in some runs and ".join(sorted(kinds))
        raise UserError(
            f"Study {study.name} has `x: {study.x}`, which is {found} in others: take "
            "a key that is a number in all of them, such as train_images for data.examples."
        )


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    return "a number" if isinstance(value, int | float) else "a word"


def _none(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"no run has.{hint} There are {', '.join(known)}, and the keys of the config."
