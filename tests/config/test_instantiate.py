"""Instantiation of sections with a target, and trust in the targets of stored configs."""

import fractions

import pytest

from deeper.config.instantiate import build, locate, require_trusted
from deeper.errors import UserError


def test_sections_are_constructed_from_the_inside_out():
    inner = {"_target_": "fractions.Fraction", "_args_": [3, 4]}
    whole = {"_target_": "builtins.dict", "a": inner, "b": [inner, {"c": inner}]}
    part = fractions.Fraction(3, 4)
    assert build(whole) == {"a": part, "b": [part, {"c": part}]}
    assert build(whole, a=1)["a"] == 1


def test_a_partial_waits_for_the_other_arguments():
    half = build({"_target_": "fractions.Fraction", "_partial_": True, "denominator": 2})
    assert half(3) == fractions.Fraction(3, 2)


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("nowhere.net", "there is no package nowhere"),
        ("fractions.Nothing", "is not there"),
        ("fractions", "cannot be called"),
        ("rm -rf", "dotted name"),
        ("deeper.errors.os.system", "is not there"),
        ("deeper.config.instantiate.os.system", "not deeper's own"),
    ],
)
def test_a_target_that_cannot_be_called_is_told(target, told):
    with pytest.raises(UserError, match=told):
        locate(target)


def test_wrong_arguments_are_told_with_the_target():
    with pytest.raises(UserError, match=r"fractions\.Fraction: .*width"):
        build({"_target_": "fractions.Fraction", "width": 1})


def test_a_stored_config_may_name_targets_of_packages_that_its_reader_named(monkeypatch):
    config = {
        "model": {"_target_": "deeper.models.lenet.lenet5"},
        "augment": [{"_target_": "os.f"}],
    }
    with pytest.raises(UserError, match=r"would call os\.f.*DEEPER_TRUST=os"):
        require_trusted(config, "run=x")
    require_trusted(config, "run=x", own=["os.path.join"])
    monkeypatch.setenv("DEEPER_TRUST", "numpy, os")
    require_trusted(config, "run=x")
