"""Options may be anywhere in a command, and suggested commands work as printed."""

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from deeper.cli.main import split_options
from deeper.config.command_line import command, override
from deeper.config.compose import configure
from deeper.sweep.status import status_command


@pytest.mark.parametrize(
    "line",
    [
        "train -m --config-dir /c seed=0,1 mode=dry",
        "train seed=0,1 --config-dir /c mode=dry -m",
        "-m --config-dir /c train seed=0,1 mode=dry",
        "train seed=0,1 -m mode=dry --config-dir /c",
    ],
)
def test_options_may_stand_anywhere(line):
    options, words = split_options(line.split())
    assert words == ["train", "seed=0,1", "mode=dry"]
    assert sorted(options) == ["--config-dir", "-m", "/c"]


def test_a_sweep_may_be_asked_for_at_the_end_of_the_line(said):
    output = said("train", "model=lenet5", "seed=0,1", "mode=dry", "-m")
    assert "all runs" in output


def test_a_directory_of_yaml_files_may_be_named_at_the_end(said, tmp_path):
    (tmp_path / "my conf" / "study").mkdir(parents=True)
    (tmp_path / "my conf" / "study" / "mine.yaml").write_text(
        "# @package _global_\nstudy: {name: mine, claim: It is., seeds: [0]}\n"
    )
    line = ("train", "-m", "study=mine", "model=lenet5", "mode=dry")
    assert "all runs" in said(*line, "--config-dir", tmp_path / "my conf")
    reported = ("report", "study=mine", "--config-dir", str(tmp_path / "my conf"))
    output = said(*reported, status=2)
    [suggested] = [part for part in output.split("`") if part.startswith("deeper train")]
    assert shlex.split(suggested)[-2:] == ["--config-dir", str(tmp_path / "my conf")]


@pytest.mark.parametrize("value", ["a b", "/a=b", "it's", "a,b", "[x", "a\\", "plain/x-1.5"])
def test_a_suggested_value_is_read_back_as_it_was(value):
    line = command("sweep", "status", override("runs", value))
    word = shlex.split(line)[-1]
    [parsed] = OverridesParser.create().parse_overrides([word])
    assert (parsed.key_or_group, parsed.value()) == ("runs", value)


def test_how_a_sweep_is_shown_names_all_that_it_needs(tmp_path):
    config = configure("study=depth_fashion", "mode=quick", override("runs", "my runs"))
    line = status_command(config, [tmp_path])
    assert shlex.split(line) == [
        "deeper", "sweep", "status", "study=depth_fashion", "mode=quick", "runs=my runs",
        "--config-dir", str(tmp_path),
    ]  # fmt: skip
