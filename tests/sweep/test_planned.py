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
    sides = "better: {depth: 8,residual: true},worse: {depth: 20,residual: true}"
    test = f"study.tests=[{{claim: It is.,{sides}}}]"
    [sentence] = check_study([config for config in planned(test) if config.model.depth != 20])
    assert "worse: {depth: 20, residual: true}" in sentence


@pytest.mark.parametrize(
    "sides",
    [
        "better: {depth: 8},worse: {depth: 20}",  # plain and residual, of each seed
        "among: {},trend: falls",
        "better: {residual: true},worse: {}",
    ],
)
def test_a_test_that_selects_several_runs_of_a_seed_is_said_before_the_sweep(sides):
    with pytest.raises(UserError, match="more than one run of seed 0"):
        check_study(planned(f"study.tests=[{{claim: It is.,{sides}}}]"))


def test_sides_without_a_common_x_are_said_before_the_sweep():
    sides = "better: {label: resnet20},worse: {label: resnet8}"
    with pytest.raises(UserError, match="have 20 and 8: state depth"):
        check_study(planned(f"study.tests=[{{claim: It is.,{sides}}}]"))
    sides = "better: {label: resnet20},worse: {label: resnet8, depth: 8}"
    assert check_study(planned(f"study.tests=[{{claim: It is.,{sides}}}]")) == []


def test_runs_of_one_arm_and_seed_are_one_to_a_test():
    runs = configure_sweep(*SMALL, "optimizer.weight_decay=0,1e-4")
    check_study([config for _, config in runs], [words for words, _ in runs])


def test_a_test_by_what_is_not_known_before_the_runs_is_let_through():
    sides = "better: {residual: true},worse: {residual: false}"
    check_study(planned("study.x=parameters", f"study.tests=[{{claim: It is.,{sides}}}]"))


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
