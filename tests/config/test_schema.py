"""Validation of configs: the message for a wrong value has its key and the allowed values."""

import json
import math
from pathlib import Path

import pytest

from deeper.config.compose import configure, run_config
from deeper.config.identity import config_hash, run_directory
from deeper.config.schema import RunConfig
from deeper.errors import UserError
from tests.cli.test_config import compose_train

# What every committed choice, and every arm of every study in every mode, was called when this
# list was made. Some of them are composed here; a name that changes loses somebody's runs.
NAMES = json.loads((Path(__file__).parent / "run_directories.json").read_text())
EVERY = 14


@pytest.fixture(scope="module")
def config():
    return configure("study=uda_fashion", "arm=uda", "transfer=staged", "mode=quick")


@pytest.mark.parametrize("overrides", list(NAMES)[::EVERY])
def test_a_run_directory_keeps_its_name(overrides, monkeypatch):
    monkeypatch.delenv("DEEPER_DATA", raising=False)
    composed = compose_train(*overrides.split())
    plain = run_config(composed, composed.hydra).plain()
    assert str(run_directory(plain)) == NAMES[overrides]


WRONG = [
    ("seed", "abc", "from 0 to 4294967295"),
    ("seed", None, "from 0 to 4294967295"),
    ("seed", 1.5, "from 0 to 4294967295"),
    ("seed", True, "from 0 to 4294967295"),
    ("seed", -1, "from 0 to 4294967295"),
    ("seed", 2**32, "from 0 to 4294967295"),
    ("seed", "", "from 0 to 4294967295"),
    ("optimizer.learning_rate", "abc", "a number above 0"),
    ("optimizer.learning_rate", math.nan, "a number above 0"),
    ("optimizer.learning_rate", math.inf, "a number above 0"),
    ("optimizer.momentum", 2, "from 0 to below 1"),
    ("optimizer.momentum", math.nan, "from 0 to below 1"),
    ("optimizer.weight_decay", -1, "at least 0"),
    ("optimizer.nesterov", 1, "true or false"),
    ("schedule.warmup", 1, "from 0 to below 1"),
    ("train.ema", 1.5, "from 0 to below 1"),
    ("train.label_smoothing", 2, "from 0 to below 1"),
    ("train.steps", -5, "at least 1"),
    ("train.steps", 0, "at least 1"),
    ("train.epochs", -1, "above 0"),
    ("train.batch_size", True, "at least 1"),
    ("train.gradient_clip", math.nan, "above 0"),
    ("train.dtype", "float16", "float32 or bfloat16"),
    (
        "train.views.weak",
        [{"_target_": "deeper.augment.crops_and_colour.RandomCrop", "padding": -1}],
        "least 0",
    ),
    ("train.consistency.ratio", 0, "at least 1"),
    ("transfer.phases.0.rate", math.nan, "above 0"),
    ("data.limit", -5, "at least 1"),
    ("data.limit", 0, "at least 1"),
    ("data.limit", "abc", "at least 1"),
    ("data.validation", 0.1, "a count, no share"),
    ("data.image_shape", [32, 32], "3 whole numbers"),
    ("data.mean", [0.1, 0.2], "has 2 values"),
    ("data.name", "", "give text"),
    ("data.name", "???", "data.name is missing"),
    ("model", None, "model=NAME"),
    ("model.depth", 0, "at least 1"),
    ("augment", None, "a list of operations"),
    ("study.seeds", 3, "a list of whole numbers"),
    ("study.arms", [1], "a section"),
    ("study.name", "../x", "names a directory"),
]


@pytest.mark.parametrize(("key", "value", "allowed"), WRONG)
def test_a_wrong_value_is_told_with_its_key_and_what_is_allowed(config, key, value, allowed):
    with pytest.raises(UserError) as raised:
        config.replace({key: value})
    assert key.rpartition(".")[2] in str(raised.value)
    assert allowed in str(raised.value)


def test_an_unknown_key_is_told_with_those_that_are_close(config):
    with pytest.raises(UserError, match=r"Did you mean train\.batch_size\?"):
        config.replace({"train.bach_size": 1})
    with pytest.raises(UserError, match="Did you mean seed"):
        config.replace(seeds=1)


def test_a_text_that_spells_a_number_is_the_number(config, monkeypatch):
    monkeypatch.setenv("SEED", "7")
    found = configure("seed=${oc.env:SEED}")
    assert found.seed == 7
    assert found.plain() == configure("seed=7").plain()


def test_a_config_is_what_it_was_made_of(config):
    plain = config.plain()
    assert RunConfig.of(plain).plain() == plain
    assert json.dumps(RunConfig.of(plain).plain()) == json.dumps(plain)  # in the same order
    assert config.data.image_shape == (28, 28, 1)
    assert config.model.depth == 20
    assert "batch_size: 32" in str(config)
    plain["seed"] = 3
    assert config.seed == config.plain()["seed"] == 0


def test_a_config_with_other_values_is_another_one(config):
    other = config.replace({"train.batch_size": 64}, seed=1, data={"limit": 100})
    assert (other.train.batch_size, other.seed, other.data.limit) == (64, 1, 100)
    assert (config.train.batch_size, config.seed, config.data.limit) == (32, 0, None)
    assert config_hash(other.plain()) != config_hash(config.plain())


def test_sections_of_a_users_own_targets_pass_as_they_are():
    own = {"_target_": "mypackage.nets.net", "width": -8, "depth": "deep"}
    config = configure("optimizer._target_=mypackage.Rate", "optimizer.momentum=7", model=own)
    assert dict(config.model) == own
    assert config.label == "netdeep"
    assert config.optimizer.momentum == 7


def test_a_wrong_override_is_a_users_mistake_in_the_library_too():
    with pytest.raises(UserError, match="resnett"):
        configure("model=resnett")
    with pytest.raises(UserError, match="A group is null"):
        configure("model=null")
    with pytest.raises(UserError, match=r"data\.classes is missing"):
        configure("data=texts", "data.name=films", "model=vdcnn")
    with pytest.raises(UserError, match="SEED_OF_NOBODY"):
        configure("seed=${oc.env:SEED_OF_NOBODY}")


def test_composing_leaves_the_callers_hydra_alone(tmp_path):
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    (tmp_path / "theirs.yaml").write_text("mine: 1\n")
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        configure("model=lenet5")
        assert compose("theirs").mine == 1


def test_yaml_files_of_ones_own_are_found(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("_target_: mypackage.net\nwidth: 3\n")
    config = configure("model=mine", directories=[tmp_path])
    assert (config.label, config.model.width) == ("mine", 3)


@pytest.mark.parametrize(
    ("side", "hidden", "stem", "batch_norm"),
    [(32, 512, "small", True), (224, 4096, "paper", False)],
)
def test_nets_fit_the_images_of_a_data_set_of_ones_own(tmp_path, side, hidden, stem, batch_norm):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cells.yaml").write_text(
        f"_target_: mine.cells\nname: cells\ninput_shape: [{side}, {side}, 3]\nclasses: 4\n"
    )
    alexnet, vgg = (
        configure("data=cells", f"model={net}", directories=[tmp_path]).model
        for net in ("alexnet", "vgg")
    )
    assert (alexnet["hidden"], alexnet["stem"]) == (hidden, stem)
    assert (vgg["hidden"], vgg["batch_norm"]) == (hidden, batch_norm)
