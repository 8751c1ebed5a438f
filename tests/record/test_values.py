"""Values are compared independently of their spelling."""

import itertools
import json

import pytest

from deeper.record.values import spelled
from deeper.study.definition import Study
from deeper.study.read_runs import collect
from tests.study.conftest import DEFINITION, write_run

SAME = (
    (0.05, "0.05", "5e-2", "5E-2", "0.050", ".05", "+0.05"),
    (0.1, "0.10", "1e-1"),
    (1, 1.0, "1", "1.0", "1.", "1e0"),
    (1000, "1_000", "1e3"),
    (True, "true", "True", "TRUE"),
    (None, "null", "Null"),
    ([0.1, "a"], "[0.10, a]", "[1e-1,a]", (0.1, "a")),
    ("flip", "'flip'", '"flip"', " flip"),
)


@pytest.mark.parametrize("values", SAME)
def test_one_value_has_one_spelling(values):
    assert len({spelled(value) for value in values}) == 1


def test_different_values_have_different_spellings():
    firsts = [values[0] for values in SAME] + ["007", 7, 70, "nan", "1e", "e3", "0.1.2", -7, "[0.1"]
    for one, other in itertools.combinations(firsts, 2):
        assert spelled(one) != spelled(other)


RATES = {
    **DEFINITION, "x": "label", "line": None, "tests": [], "seeds": [0, 1],
    "arms": {"optimizer.learning_rate": [0.05, 0.1], "data.examples": [None]},
}  # fmt: skip


def test_runs_whose_value_was_spelled_in_several_ways_are_one_arm(tmp_path):
    for seed, rates in enumerate((("0.05", "0.10"), ("5e-2", "1e-1"))):
        for rate in rates:
            write_run(
                tmp_path, "resnet20", seed, 10.0, study=RATES, name=f"{float(rate)}",
                overrides=f"optimizer.learning_rate={rate} data.examples=null",
            )  # fmt: skip
    collection = collect(tmp_path)
    assert len({run.arm for run in collection.finished}) == 2
    assert collection.complete


def test_arms_that_a_study_states_twice_are_expected_once():
    definition = {**RATES, "arms": {"optimizer.learning_rate": ["0.05", 0.05, "5e-2"]}}
    assert len(Study.of(definition).expected()) == 2


def test_recorded_overrides_go_before_the_command_line(tmp_path):
    path = write_run(tmp_path, "resnet20", 0, 10.0, study=RATES, overrides="data.examples=5")
    (run,) = collect(tmp_path).finished
    assert run.setting("data.examples") == "5"
    result = json.loads((path / "result.json").read_text())
    result["overrides"] = ["data.examples=1_000", "+x=it's = odd"]
    (path / "result.json").write_text(json.dumps(result))
    (run,) = collect(tmp_path).finished
    assert (run.setting("data.examples"), run.setting("x")) == ("1000", "it's = odd")
