"""Output is correct in terminals of any width."""

import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

import deeper
from deeper.cli import train
from deeper.cli.local_sweep import run_here
from deeper.config.identity import config_hash
from deeper.config.schema import RunConfig
from deeper.display.run_display import bar
from deeper.display.status_table import table as status_table
from deeper.display.terminal import open_console, tables
from deeper.errors import ExitCode
from deeper.record.run_directory import RunDirectory
from deeper.sweep import local
from deeper.sweep.status import runs_in, states_of
from deeper.sweep.submission import read_submission
from tests.cli.test_sweep import arms, stored

MARKED_UP = "[v2] [red]r[/red] [/b] \\[x] :smile: 1.5 'a'"


def test_text_is_printed_as_it_is():
    console = open_console(file=io.StringIO())
    console.print(MARKED_UP)
    assert console.file.getvalue() == MARKED_UP + "\n"


def test_all_output_goes_through_one_console():
    sources = Path(deeper.__file__).parent.rglob("*.py")
    others = [file for file in sources if file.name != "terminal.py"]
    made = re.compile(r"\bConsole\(|\bTextColumn\b|\bfrom_markup\b|\btrack\(|markup=True")
    assert not [file for file in others if made.search(file.read_text(encoding="utf-8"))]


def test_an_arms_last_words_are_no_markup_and_cost_no_other_arm(tmp_path, monkeypatch, capfd):
    study = tmp_path / "runs" / "study"
    for number in range(2):
        stored(study, number, "waiting")
    directories = sorted(map(str, study.iterdir()))
    script = "import sys; print('unmatched [/b] in [v2] :smile:'); sys.exit(1)"

    def start_trainer(directory, submission, environment, log, pipe):
        os.close(pipe)
        with log.open("wb") as stream:
            return subprocess.Popen([sys.executable, "-c", script], stdout=stream)

    monkeypatch.setattr(local, "start_trainer", start_trainer)
    folder = tmp_path / "runs" / ".sweep" / "live"
    folder.mkdir(parents=True)
    work = local.Work(str(folder), 2, 0, [], directories, 1, None)
    assert run_here(work, open_console()) == ExitCode.FAILED
    assert capfd.readouterr().out.count("unmatched [/b] in [v2] :smile:") == 4
    for directory in directories:
        assert read_submission(Path(directory)).ended["code"] == 1


def test_a_path_with_brackets_is_told_as_it_is(tmp_path, capfd):
    (arm,) = arms(f"'{tmp_path}/runs [v2]'", 0)
    arm.directory.mkdir(parents=True)
    plain = arm.config.plain()
    RunDirectory.open(arm.directory, plain, config_hash(plain)).close()
    (arm.directory / "result.json").write_text(json.dumps({"status": "finished"}))
    assert train.train_and_tell(RunConfig.of(plain), arm.directory) == ExitCode.FINISHED
    assert f"{arm.directory} is finished already" in capfd.readouterr().out


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 100, 200])
def test_a_bars_line_fits_the_terminal(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", "1")
    console = open_console(file=io.StringIO())
    assert console.is_terminal
    shown = bar(console)
    shown.add_task("resnet20 [v2] s0", total=39062, completed=12345, note="loss 2.3026  1,234 ex/s")
    shown.add_task("resnet56 with a long name " * 3, total=5, completed=1)
    with console.capture() as captured:
        console.print(shown)
    text = re.sub(r"\x1b\[[0-9;]*m", "", captured.get())
    lines = text.splitlines()
    assert len(lines) == 2, "a line a task"
    assert max(map(len, lines)) <= columns
    if columns >= 40:
        assert "12345/39062" in lines[0]
    if columns >= 80:
        assert "resnet20 [v2] s0" in lines[0]
        assert "loss 2.3026  1,234 ex/s" in lines[0]
    assert ("━" in lines[0]) == (columns >= 100)


def test_prose_is_as_wide_as_the_terminal_and_never_wider_than_a_hundred(monkeypatch):
    def width(columns):
        monkeypatch.setenv("COLUMNS", columns)
        return open_console(file=io.StringIO()).width

    assert [width("60"), width("80"), width("250")] == [60, 80, 100]
    monkeypatch.delenv("COLUMNS")
    assert open_console(file=io.StringIO()).width == 100  # a log


@pytest.mark.parametrize("columns", [30, 40, 60, 80])
def test_a_table_fits_the_terminal_and_nothing_of_it_is_lost(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    headings = ["net", *(f"metric {number}\nunit" for number in range(9))]
    names = ["inception4e/branch2_reduce/conv", "[b]a long label of an arm[/b]", "x" * 50]
    rows = [[name, *(f"{place}{n}.25 ± 0.1" for n in range(9))] for place, name in enumerate(names)]
    console = open_console(file=io.StringIO())
    for table in tables(headings, rows, console.width):
        console.print(table)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= columns
    assert all(cell in text for row in rows for cell in row[1:])
    assert all(f"metric {number}" in text for number in range(9))
    assert "…" not in text
    first = "".join(line.split("  ")[0] for line in text.splitlines())
    assert names[0].replace("/", "") in first.replace("/", "")
    assert text.count("x") % 50 == 0


@pytest.mark.parametrize("columns", [60, 80])
def test_a_sweeps_table_fits_the_terminal(columns, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    for number, word in enumerate(["finished", "running", "failed", "lost", "waiting"]):
        stored(tmp_path / "study", number, word)
    console = open_console(file=io.StringIO())
    console.print(status_table(states_of(runs_in(tmp_path / "study")), everything=True))
    text = console.file.getvalue()
    print(text)  # for the reader of a failure
    assert max(map(len, text.splitlines())) <= columns
    assert all(f"resnet20 s{number}" in text for number in range(5))
    assert "1,000 of 4,000" in text
    assert text.replace("\n", "").replace(" ", "").count("17179869184bytes") == 2


@pytest.mark.parametrize("setting", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}])
def test_a_terminal_need_not_know_all_characters(setting):
    environment = {**os.environ, **setting, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for arguments in (["inspect", "conv", "kind=caf\u00e9"], ["caf\u00e9 \udcff"], ["--help"]):
        words = [os.fsencode(word) for word in (sys.executable, "-m", "deeper", *arguments)]
        done = subprocess.run(words, env=environment, capture_output=True)
        assert done.returncode == (0 if arguments == ["--help"] else 2), done.stderr
        assert b"Traceback" not in done.stderr
        assert b"Unicode" not in done.stderr


def test_a_closed_pipe_ends_help_without_a_traceback():
    read, write = os.pipe()
    os.close(read)
    for arguments in (["--help"], ["train", "--help"]):
        words = [sys.executable, "-m", "deeper", *arguments]
        done = subprocess.run(words, stdout=write, stderr=subprocess.PIPE)
        assert done.stderr == b""
    os.close(write)


@pytest.mark.parametrize("name", ["../x", "a/b", "a-full", "single", ".sweep", "''", "5"])
def test_a_studys_name_is_a_directory_of_its_own(name, mistake):
    said = mistake("report", "study=depth_fashion", f"study.name={name}")
    assert "study.name=" in said


@pytest.mark.parametrize("value", ["/a=b", "a (b", "[x", "it's {", "/a [v2]=$x", "a=\\"])
def test_a_value_that_hydra_refuses_is_shown_as_it_is_quoted(value, mistake):
    said = mistake("train", "mode=dry", f"runs={value}")
    assert "mismatched" not in said
    [word] = shlex.split(said.rpartition("shell: ")[2])
    [override] = OverridesParser.create().parse_overrides([word])
    assert override.value() == value


@pytest.mark.parametrize("override", ["runs=~/x", "foo", "runs=???", "model.depth=???"])
def test_no_words_of_hydras_own_are_said(override, mistake):
    said = mistake("train", "mode=dry", override)
    assert "full_key" not in said.lower()
    assert "Exception" not in said
    assert "runs=~/x" not in override or str(Path.home() / "x") in said
