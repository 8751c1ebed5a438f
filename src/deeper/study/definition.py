"""What a study states before any run: its claim, its arms and how the claim is to be tested."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deeper.errors import UserError
from deeper.study.values import spelled

TEST_KEYS = ("claim", "better", "worse", "among", "trend", "metric")


@dataclass(frozen=True)
class Study:
    """A study's definition, as `conf/study/` and each run's `config.yaml` hold it.

    Attributes:
        name: of the study and of its directory.
        claim: a sentence that the numbers may support or not.
        title: heading of the page.
        metric: key of the results' metrics that is compared; the smaller the better.
        metric_label: the metric with its unit, for axes.
        x: key of the results on the x axis, or ``label`` for nets without an order.
        x_label: the same in words.
        line: key of the results that makes the lines of a figure, or None for a single one.
        base: value of that key that the other lines are compared with, or None.
        line_names: value of that key, as `values.spelled` -> name of the line.
        arms: override -> values; their product is the sweep.
        seeds: of every arm.
        tests: each a claim and the comparison that is to decide it, see `statistics.examine`.
        published: column -> value or values, the published numbers to show beside the runs'.
        bars: likewise, published numbers that have a chart of their own.
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
        """Return the study of a mapping; keys that are for the sweep alone are left out.

        Raises:
            UserError: name or claim is missing, or a test cannot be understood.
        """
        known = {key: definition[key] for key in cls.__dataclass_fields__ if key in definition}
        for key in ("name", "claim"):
            if not known.get(key):
                raise UserError(f"The study {definition.get('name', '')!s} has no `{key}`: add it.")
        names = known.get("line_names") or {}
        known["line_names"] = {spelled(key): name for key, name in names.items()}
        for key in ("arms", "seeds", "tests"):
            known[key] = known.get(key) or ({} if key == "arms" else ())
        study = cls(**{key: value for key, value in known.items() if value is not None})
        for number, test in enumerate(study.tests, 1):
            _check(test, f"Test {number} of study {study.name}")
        return study

    def line_of(self, value: Any) -> str:
        """Return the name of the line that a value of `line` belongs to."""
        return self.line_names.get(spelled(value), str(value))

    def expected(self) -> list[tuple[dict[str, Any], int]]:
        """Return every arm, as override -> value, with every seed; spellings of a value are one."""
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
        raise UserError(f"{where} has no `claim`: say in a sentence what it is to decide.")
    if test.get("trend") not in (None, "rises", "falls"):
        raise UserError(f"{where} has trend {test['trend']!r}: it is `rises` or `falls`.")
    pair = "better" in test and "worse" in test
    if not pair and not ("among" in test and "trend" in test):
        raise UserError(f"{where} needs `better` and `worse`, or `among` and `trend`.")
