"""The definition of a study: its claim, its arms, and the tests that decide the claim."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deeper.errors import UserError
from deeper.record.values import spelled

TEST_KEYS = ("claim", "better", "worse", "among", "trend", "metric")


@dataclass(frozen=True)
class Study:
    """A study's definition, as `conf/study/` and each run's `config.yaml` hold it.

    Attributes:
        name: name of the study and of its directory.
        claim: the hypothesis, as a sentence.
        title: heading of the page.
        metric: key of the results' metrics that is compared, such as ``test/error``.
        metric_label: the metric with its unit, for axes.
        x: key of the results on the x axis, or ``label`` for nets without an order.
        x_label: axis label for ``x``.
        line: key of the results that makes the lines of a figure, or None for a single one.
        base: value of ``line`` that is the baseline of the comparison, or None.
        line_names: value of ``line``, as `values.spelled` -> name of the line.
        arms: override -> values; their product is the sweep.
        seeds: seeds of every arm.
        tests: part claims with the comparisons that decide them, see `hypothesis_tests.examine`.
        published: column -> value or values; selects the published numbers to show beside the
            results.
        bars: column -> value or values; selects the published numbers of the bar chart.
    """

    name: str
    claim: str
    title: str = ""
    metric: str = "test/error"
    metric_label: str = "test error (%)"
    x: str = "label"
    x_label: str = ""
    line: str | None = None
    base: str | None = None
    line_names: Mapping[str, str] = field(default_factory=dict)
    arms: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    seeds: Sequence[int] = ()
    tests: Sequence[Mapping[str, Any]] = ()
    published: Mapping[str, Any] | None = None
    bars: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, definition: Mapping[str, Any]) -> "Study":
        """Return the study of a mapping; keys that only the sweep uses are ignored.

        Raises:
            UserError: name or claim is missing, or a test cannot be understood.
        """
        _check_shape(definition)
        known = {key: definition[key] for key in cls.__dataclass_fields__ if key in definition}
        for key in ("name", "claim"):
            if not known.get(key):
                raise UserError(f"The study {definition.get('name', '')!s} has no `{key}`: add it.")
        names = known.get("line_names") or {}
        known["line_names"] = {spelled(key): name for key, name in names.items()}
        for key in ("arms", "seeds", "tests"):
            known[key] = known.get(key) or ({} if key == "arms" else ())
        study = cls(**{key: value for key, value in known.items() if value is not None})
        if study.base is not None and study.line is None:
            raise UserError(
                f"Study {study.name} has the base {study.base!r} but no `line`: say of which key "
                "it is a value."
            )
        for number, test in enumerate(study.tests, 1):
            _check(test, f"Test {number} of study {study.name}")
        return study

    @property
    def unit(self) -> str:
        """Return the unit in `metric_label`, such as `` (%)``; empty if there is none."""
        _, bracket, unit = self.metric_label.partition(" (")
        return bracket + unit

    def line_of(self, value: Any) -> str:
        """Return the name of the line that a value of `line` belongs to."""
        return self.line_names.get(spelled(value), str(value))

    def expected(self) -> list[tuple[dict[str, Any], int]]:
        """Return every arm, as override -> value, with every seed; 0.1 and 1e-1 are the same
        value.
        """
        different = [{spelled(v): v for v in values}.values() for values in self.arms.values()]
        return [
            (dict(zip(self.arms, values, strict=True)), seed)
            for values in itertools.product(*different)
            for seed in self.seeds
            if self.arms
        ]


def _check(test: Mapping[str, Any], where: str) -> None:
    unknown = [key for key in test if key not in TEST_KEYS]
    if unknown:
        raise UserError(f"{where} has the key {unknown[0]!r}; known are {', '.join(TEST_KEYS)}.")
    if not test.get("claim"):
        raise UserError(f"{where} has no `claim`: give a sentence that the test decides.")
    if test.get("trend") not in (None, "rises", "falls"):
        raise UserError(f"{where} has trend {test['trend']!r}: it is `rises` or `falls`.")
    pair = "better" in test and "worse" in test
    if not pair and not ("among" in test and "trend" in test):
        raise UserError(f"{where} needs `better` and `worse`, or `among` and `trend`.")
    for key in ("better", "worse", "among"):
        if not isinstance(test.get(key, {}), Mapping):
            raise UserError(
                f"{where} has `{key}: {test[key]}`: give values that select the runs, "
                "such as {residual: true, depth: 44}."
            )


def _check_shape(definition: Mapping[str, Any]) -> None:
    """Raise a UserError if a value of a definition has the wrong type."""
    name = definition.get("name", "")
    seeds = definition.get("seeds")
    seeds = () if seeds is None else seeds
    if not _is_list(seeds) or any(type(s) is not int or s < 0 for s in seeds):
        raise UserError(f"Study {name} has `seeds: {seeds}`: give a list such as [0, 1, 2].")
    if len({*seeds}) < len(seeds):
        raise UserError(f"Study {name} has `seeds: {list(seeds)}`: give each seed once.")
    arms = definition.get("arms")
    arms = {} if arms is None else arms
    if not isinstance(arms, Mapping) or not all(_is_list(v) and v for v in arms.values()):
        raise UserError(
            f"Study {name} has `arms: {arms}`: give a list of values for each override, such as "
            "{model.depth: [20, 56]}."
        )
    tests = definition.get("tests")
    tests = () if tests is None else tests
    if not _is_list(tests) or not all(isinstance(test, Mapping) for test in tests):
        raise UserError(f"Study {name} has `tests: {tests}`: give a list, each with its `claim`.")
    for key in ("line_names", "published", "bars"):
        if not isinstance(definition.get(key) or {}, Mapping):
            raise UserError(f"Study {name} has `{key}: {definition[key]}`: give keys with values.")
    for key in ("name", "claim", "title", "metric", "metric_label", "x", "x_label", "line"):
        if not isinstance(definition.get(key, ""), str | None):
            raise UserError(f"Study {name} has `{key}: {definition[key]}`: give it as text.")


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
