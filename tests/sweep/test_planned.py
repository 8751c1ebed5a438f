"""A study's definition is checked against the runs of its sweep before they start."""

import pytest

from deeper.config.compose import configure, configure_sweep
from deeper.errors import UserError
from deeper.sweep.planned import check_study

SMALL = ("study=depth_fashion", "mode=quick", "study.depths=[8,14,20]", "study.seeds=[0,1]")


def planned(*overrides):
    return [config for _, config in configure_sweep(*SMALL, *overrides)]


def test_a_study_of_the_repository_fits_its_runs():
    configs = planned()
    assert len(configs) == 12
    assert check_study(configs) == []


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("study.x=deepth", "`x: deepth`"),
        ("study.x=model.form", "`x: label`"),  # a word
        ("study.line=residuel", "`line: residuel`"),
        ("study.metric=test/eror", "`metric: test/eror`"),
        ("+study.base=true_", "`base: true_`"),
    ],
)
def test_a_name_that_no_run_has_is_said_before_the_sweep(override, says):
    with pytest.raises(UserError, match=says):
        check_study(planned(override))


def test_a_part_of_a_study_may_leave_out_the_runs_of_a_test():
    test = "study.tests=[{claim: It is.,better: {depth: 8},worse: {depth: 20}}]"
    [sentence] = check_study([config for config in planned(test) if config.model.depth != 20])
    assert "worse: {depth: 20}" in sentence


def test_a_run_without_a_study_has_nothing_to_hold_it_against():
    check_study([configure("model=lenet5")])


def test_a_sweep_is_the_product_of_its_values_and_the_command_lines_count():
    runs = configure_sweep("model=lenet5", "seed=0,1", "train.ema=null,0.9")
    assert [(config.seed, config.train.ema) for _, config in runs] == [
        (0, None), (0, 0.9), (1, None), (1, 0.9),
    ]  # fmt: skip
    overridden = configure_sweep(*SMALL, "seed=5", "model=plain")
    assert {(config.seed, config.label) for _, config in overridden} == {
        (5, "plain8"), (5, "plain14"), (5, "plain20"),
    }  # fmt: skip
