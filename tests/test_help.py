"""Output of ``deeper VERB --help`` and similar commands."""

import re
import subprocess
import sys

import pytest
import yaml

import deeper
from deeper.cli import help as module
from deeper.cli import main

CONF = main.conf_directory()


@pytest.fixture
def answer(monkeypatch, capsys):
    """Return what a command prints, which succeeds."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["deeper", *arguments])
        assert main.main() == 0
        return capsys.readouterr().out

    return run


def own_keys(verb):
    """Return the keys of a verb's file, dotted, without what is Hydra's."""
    config = yaml.safe_load((CONF / f"{verb}.yaml").read_text())
    for key, value in config.items():
        if key in ("defaults", "hydra"):
            continue
        if isinstance(value, dict):
            yield from (f"{key}.{name}" for name in value)
        else:
            yield key


def test_every_verb_has_a_help_text():
    assert set(module.VERBS) == {*main.VERBS, "convolution"}


@pytest.mark.parametrize("verb", module.VERBS)
def test_help_names_every_key_of_the_verb_and_says_what_it_means(verb):
    meanings = {
        name.partition("=")[0]: words for name, words in module.keys_of(CONF / f"{verb}.yaml")
    }
    assert set(meanings) == set(own_keys(verb))
    assert not [key for key, words in meanings.items() if not words.strip()]


@pytest.mark.parametrize("verb", module.VERBS)
def test_help_has_three_examples_and_fits_80_columns(verb):
    text = module.help_of(verb, CONF)
    assert len(re.findall(r"^  deeper ", text, re.MULTILINE)) >= 3
    assert max(map(len, text.splitlines())) < 80


@pytest.mark.parametrize("verb", module.VERBS)
def test_the_choices_that_help_lists_are_groups(verb):
    for group in module.VERBS[verb].groups:
        assert list((CONF / group).glob("*.yaml"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "--help"),
        ("evaluate", "-h"),
        ("evaluate", "run=somewhere", "--help", "split=test"),
        ("help", "evaluate"),
    ],
)
def test_help_is_found_anywhere_in_the_line(answer, arguments):
    assert answer(*arguments).startswith("usage: deeper evaluate ")


def test_the_second_word_of_a_verb_has_its_help(answer):
    assert answer("inspect", "conv", "--help").startswith("usage: deeper inspect conv ")
    assert answer("help", "inspect", "conv").startswith("usage: deeper inspect conv ")
    assert answer("sweep", "status", "--help").startswith("usage: deeper sweep ")


def test_help_of_no_verb_lists_the_verbs(answer):
    for arguments in ((), ("--help",), ("help",), ("help", "--help")):
        assert all(verb in answer(*arguments) for verb in main.VERBS)


def test_help_of_an_unknown_verb_is_a_mistake(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["deeper", "help", "trian"])
    assert main.main() == 2
    assert "Did you mean train?" in capsys.readouterr().err


def test_the_version_is_told(answer):
    for arguments in (("--version",), ("train", "--version")):
        assert answer(*arguments) == f"deeper {deeper.__version__}\n"


def test_a_reader_that_closes_early_gets_no_traceback():
    process = subprocess.Popen(
        [sys.executable, "-m", "deeper", "train", "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()  # before anything is written
    assert process.stderr.read() == ""
    assert process.wait() == 0
    process.stderr.close()
