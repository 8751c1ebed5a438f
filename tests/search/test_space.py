"""A mistake in a search's section is one sentence, before anything runs."""

import pytest
import yaml

from deeper.config.search_section import OF_THE_COMMAND, Range
from deeper.config.yaml_files import conf_directory
from deeper.errors import UserError
from deeper.search.definition import definition_of, words_of
from tests.search.conftest import RATE, section, words


@pytest.mark.parametrize(
    ("space", "says"),
    [
        ({RATE: {"low": 1.0, "high": 0.1}}, "low below high"),
        ({RATE: {"low": 0.0, "high": 0.1, "log": True}}, "above 0"),
        ({RATE: {"low": 0.1, "hihg": 1.0}}, r"Did you mean search\.space\.optimizer"),
        ({RATE: {"low": 0.1}}, "high is missing"),
        ({RATE: [0.1]}, "two or more"),
        ({RATE: [0.1, 0.1]}, "each once"),
        ({RATE: [[0.1], [0.2]]}, "single values"),
        ({RATE: 0.1}, "a range such as"),
        ({"seed": [0, 1]}, "cannot choose seed"),
        ({"data.draw": [0, 1]}, r"cannot choose data\.draw"),
        ({"data.workers": [1, 2]}, r"cannot choose data\.workers"),
        ([RATE], r"search\.space"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(space, says):
    with pytest.raises(UserError, match=says):
        section(space=space)


@pytest.mark.parametrize(
    ("space", "says"),
    [
        ({}, "what to choose among"),
        ({"optimizer.learning_rat": [0.1, 0.2]}, r"search\.space\.optimizer\.learning_rat"),
        ({"augment": ["flip", "flop"]}, r"search\.space\.augment: .*flop"),
        ({"train.batch_size": {"low": 0, "high": 8}}, r"train\.batch_size=0"),
    ],
)
def test_a_space_that_a_run_cannot_have_is_refused(tmp_path, space, says):
    with pytest.raises(UserError, match=says):
        definition_of(section(space=space), words(tmp_path))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sampler": "grid"}, r"search\.sampler=grid"),
        ({"reduction": 1}, "at least 2"),
        ({"sampler": "cmaes"}, "augment has a list"),
        ({"low": 1.0, "high": 0.1}, r"search\.low"),
        ({"name": "a/b"}, r"search\.name"),
        ({"spcae": {}}, r"search\.space"),
    ],
)
def test_a_wrong_value_of_the_section_is_refused(changes, says):
    with pytest.raises(UserError, match=says):
        section(**changes)


def test_a_range_with_whole_ends_is_of_whole_numbers_and_values_are_overrides():
    read = section().space
    assert read["train.batch_size"] == Range(16, 64)
    assert read["train.batch_size"].whole
    assert not read[RATE].whole
    assert words_of({RATE: 1e-05, "a": None, "b": True, "c": "x y"}) == [
        f"{RATE}=1e-05", "a=null", "b=true", "c=x y",
    ]  # fmt: skip


def test_no_key_of_the_command_becomes_a_setting_of_a_trial():
    """A key of `deeper search` that `deeper train` has not would be refused there."""
    keys = [yaml.safe_load((conf_directory() / f"{verb}.yaml").read_text("utf-8"))
            for verb in ("search", "train")]  # fmt: skip
    for key in keys[0].keys() - keys[1].keys() - {"defaults"}:
        assert key in OF_THE_COMMAND, key
