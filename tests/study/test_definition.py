"""Mistakes in a study's file are reported in one sentence, before a run and in the report."""

from pathlib import Path

import pytest

from deeper.errors import UserError
from deeper.record.schema import RunRecord
from deeper.study.checks import MEASURED, METRICS, check_base, check_names, undecidable
from deeper.study.definition import Study
from deeper.study.read_runs import collect
from deeper.study.report import make_report
from tests.study.conftest import DEFINITION, write_net


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"seeds": 3}, "seeds: 3"),
        ({"seeds": [0, 0]}, "seeds"),
        ({"seeds": ["a"]}, "seeds"),
        ({"arms": [1]}, "arms"),
        ({"arms": {"model": "resnet"}}, "arms"),
        ({"arms": {"model": []}}, "arms"),
        ({"tests": {"claim": "x"}}, "tests"),
        ({"tests": [{"claim": "x", "better": "resnet", "worse": {}}]}, "better"),
        ({"published": "cifar10"}, "published"),
        ({"x": 3}, "x: 3"),
        ({"line": None, "base": "plain"}, "line"),
    ],
)
def test_a_part_of_the_wrong_shape_is_named(wrong, says):
    with pytest.raises(UserError, match=says):
        Study.of({**DEFINITION, **wrong})


WRONG_NAMES = [
    ({"x": "dephth"}, "Did you mean depth"),
    ({"metric": "test/eror"}, "Did you mean test/error"),
    ({"line": "residul"}, "Did you mean residual"),
    ({"tests": [{**DEFINITION["tests"][0], "metric": "test/los"}]}, "test/los"),
    ({"x": "model.cut"}, "null"),
]


@pytest.mark.parametrize(("wrong", "says"), WRONG_NAMES)
def test_what_no_run_has_is_named_in_the_report(tmp_path, wrong, says):
    for depth, cut in ((8, None), (14, 3)):
        model = {"depth": depth, "residual": True, "cut": cut}
        write_net(tmp_path, True, depth, 0, 10.0, config={"model": model})
    with pytest.raises(UserError, match=says):
        collect(tmp_path, {**DEFINITION, **wrong})


@pytest.mark.parametrize(("wrong", "says"), WRONG_NAMES)
def test_what_no_run_will_have_is_named_before_the_sweep(tmp_path, wrong, says):
    runs = [
        RunRecord(tmp_path, "finished", {"model": {"cut": cut}}, {"depth": 8, "residual": True})
        for cut in (None, 3)
    ]
    check_names(Study.of(DEFINITION), runs, (*MEASURED, *METRICS))
    with pytest.raises(UserError, match=says):
        check_names(Study.of({**DEFINITION, **wrong}), runs, (*MEASURED, *METRICS))


def test_a_base_that_is_no_line_is_named(study):
    with pytest.raises(UserError, match=r"base: plain.*false, true"):
        make_report(study, {**DEFINITION, "base": "plain"})
    check_base(Study.of({**DEFINITION, "base": True}), collect(study).finished)


def test_a_test_that_no_run_fits_is_said():
    definition = {**DEFINITION, "tests": [{**DEFINITION["tests"][0], "worse": {"depth": 45}}]}
    runs = [
        RunRecord(
            Path(f"{depth}-{seed}"), "finished", {"seed": seed}, {"depth": depth, "residual": True}
        )
        for depth in (20, 44)
        for seed in (0, 1)
    ]
    [sentence] = undecidable(Study.of(definition), runs)
    assert "worse: {depth: 45}" in sentence and "depth is 20, 44" in sentence
    # Not known yet:
    assert undecidable(Study.of(definition), runs, later=("depth",)) == []
