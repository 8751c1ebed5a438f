"""Checks of a study's definition against its runs, which may be finished or only planned."""

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deeper.errors import UserError
from deeper.record.values import spelled
from deeper.study.definition import Study

if TYPE_CHECKING:
    from deeper.record.schema import RunRecord

# Entries of a result that are known only after a run; see the metrics of `deeper.train.evaluate`.
MEASURED = ("steps", "epochs", "seconds", "compile_seconds", "images_per_second")
# Entries that are known once the net has been traced and the data set's size is known.
PLANNED = ("stages", "parameters", "macs", "train_images")
SIDES = ("better", "worse", "among")  # keys of a test that select runs
METRICS = tuple(
    f"{split}/{name}"
    for split in ("test", "train", "validation")
    for name in ("error", "error_top5", "loss", "n_seen")
)


def check_names(study: Study, runs: Sequence["RunRecord"], later: Sequence[str] = ()) -> None:
    """Raise a UserError if a study names a key that its runs do not have.

    Args:
        study: the definition.
        runs: finished runs, or planned ones with what is known of them.
        later: keys that finished runs will have besides.
    """
    known = sorted({*later, "label", *(key for run in runs for key in run.facts)})
    for name in ("x", "line"):
        key = getattr(study, name)
        if key is not None and key not in later and not any(run.has(key) for run in runs):
            raise UserError(f"Study {study.name} has `{name}: {key}`, which {_none(key, known)}")
    metrics = [("metric", study.metric)]
    metrics += [("metric", test["metric"]) for test in study.tests if "metric" in test]
    for name, key in metrics:
        if key not in later and all(run.number(key) is None for run in runs):
            raise UserError(f"Study {study.name} has `{name}: {key}`, which {_none(key, known)}")
    _check_axis(study, runs)


def check_base(study: Study, runs: Sequence["RunRecord"]) -> None:
    """Raise a UserError if the baseline of a study is not among the lines of its complete runs."""
    lines = {spelled(run.value(study.line)) for run in runs if study.line and run.has(study.line)}
    if study.base is not None and lines and spelled(study.base) not in lines:
        raise UserError(
            f"Study {study.name} has `base: {study.base}`, but its runs have {study.line} "
            f"{', '.join(sorted(lines))}."
        )


def undecidable(study: Study, runs: Sequence["RunRecord"], later: Sequence[str] = ()) -> list[str]:
    """Return a sentence for each test that selects no run of the study.

    Args:
        study: the definition.
        runs: all planned runs.
        later: keys that finished runs will have besides.
    """
    sentences = []
    for number, test in enumerate(study.tests, 1):
        if any(key in later for side in SIDES for key in test.get(side, {})):
            continue
        if words := unmatched(test, runs):
            sentences.append(f"Test {number} of study {study.name} cannot be decided: {words}.")
    return sentences


def unmatched(test: Mapping[str, Any], runs: Sequence["RunRecord"]) -> str | None:
    """Return which selection of a test matches no run, and the existing values; None if all
    match.
    """
    for side in SIDES:
        facts = test.get(side, {})
        if side not in test or any(fits(run, facts) for run in runs):
            continue
        parts = []
        for key in facts:
            values = dict.fromkeys(spelled(run.value(key)) for run in runs)
            parts.append(f"{key} is {', '.join(values) or 'not known'}")
        stated = ", ".join(f"{key}: {spelled(value)}" for key, value in facts.items())
        return f"no run has `{side}: {{{stated}}}`; in the runs {' and '.join(parts)}"
    return None


def check_selections(study: Study, runs: Sequence["RunRecord"], later: Sequence[str] = ()) -> None:
    """Raise a UserError if a side of a test selects several runs of a seed; see `chosen`.

    The same if two sides that are compared at each x have none in common.

    Args:
        study: the definition.
        runs: planned runs, one for each arm and seed.
        later: keys that finished runs will have besides; what they select is not known yet.
    """
    for test in study.tests:
        at = [study.x] if at_each_x(test, study.x) else []
        known = [side for side in SIDES if side in test and not {*test[side], *at} & {*later}]
        found = [{x for _, x in chosen(test, side, runs, study.x)} for side in known]
        if at and len(found) == 2 and all(found) and not found[0] & found[1]:
            sides = " and ".join(", ".join(sorted(map(spelled, xs))) for xs in found)
            raise UserError(
                f"The test {test['claim']!r} compares runs at each {study.x}, but its sides have "
                f"{sides}: state {study.x} in one of them to compare these whatever it is."
            )


def chosen(
    test: Mapping[str, Any], side: str, runs: Sequence["RunRecord"], x: str
) -> dict[tuple[int, Any], "RunRecord"]:
    """Return the runs that a side of a test selects, by seed and x.

    Args:
        test: of a study.
        side: one of `SIDES`, which the test has.
        runs: to choose from.
        x: of the study; None takes its place in the result where the test does not go by it.

    Raises:
        UserError: there are several of one seed and x.
    """
    facts, at_x = test[side], at_each_x(test, x)
    out: dict[tuple[int, Any], RunRecord] = {}
    for run in runs:
        if run.seed is None or not fits(run, facts):
            continue
        cell = (run.seed, run.value(x) if at_x else None)
        if cell in out:
            raise UserError(
                f"The test {test['claim']!r} picks more than one run of seed {run.seed} by "
                f"{dict(facts)}: state what tells them apart."
            )
        out[cell] = run
    return out


def at_each_x(test: Mapping[str, Any], x: str) -> bool:
    """Return whether a test goes by the x of a study.

    Arms that the facts pin down are compared whatever their x is.
    """
    return "among" in test or not (x == "label" or x in test["better"] or x in test["worse"])


def fits(run: "RunRecord", facts: Mapping[str, Any]) -> bool:
    """Return whether a run has these values."""
    return all(spelled(run.value(key)) == spelled(fact) for key, fact in facts.items())


def _check_axis(study: Study, runs: Sequence["RunRecord"]) -> None:
    kinds = {_kind(run.value(study.x)) for run in runs if run.has(study.x)}
    if len(kinds) > 1:
        mixture = " in some runs and ".join(sorted(kinds))
        raise UserError(
            f"Study {study.name} has `x: {study.x}`, which is {mixture} in others: take "
            "a key that is a number in all of them, such as train_images for data.examples."
        )
    if study.x != "label" and kinds == {"a word"}:
        raise UserError(
            f"Study {study.name} has `x: {study.x}`, which is a word: take a key that is a number, "
            "or `x: label`, which gives each arm a row."
        )


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    return "a number" if isinstance(value, int | float) else "a word"


def _none(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"no run has.{hint} There are {', '.join(known)}, and the keys of the config."
