"""Studies in Python: composed, run and reported as by the commands."""

import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from deeper.config.command_line import override
from deeper.errors import UserError
from deeper.study.compare import compare
from deeper.sweep.events import Began, RunEnded, RunProgress
from deeper.sweep.study import study

YAML = """\
# @package _global_
defaults:
  - override /model: lenet5

study:
  name: rates
  claim: A smaller rate is better.
  x: optimizer.learning_rate
  arms: {optimizer.learning_rate: [0.01, 0.02]}
  seeds: [0, 1]
  tests:
    - claim: It is.
      better: {optimizer.learning_rate: 0.01}
      worse: {optimizer.learning_rate: 0.02}

hydra:
  sweeper:
    params:
      seed: ${sweep:${study.seeds}}
      optimizer.learning_rate: 0.01,0.02
"""

SHORT = (
    "mode=quick",
    "train.batch_size=16",
    "train.steps=4",
    "train.train_error_examples=50",
    "data.validation=100",
    "tracker.mode=disabled",
)


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    directory = tmp_path_factory.mktemp("conf")
    (directory / "study").mkdir()
    (directory / "study" / "rates.yaml").write_text(YAML)
    return (directory,)


def watched(made, events):
    return replace(made, display=lambda: nullcontext(events.append))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, directories, data_dir):
    """A study of two arms and two seeds that has been run, with the events of that."""
    runs = tmp_path_factory.mktemp("runs [v2]")
    words = (override("runs", runs), override("data.dir", data_dir))
    flags = os.environ["XLA_FLAGS"]
    events = []
    made = study("rates", *SHORT, *words, directories=directories)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLA_FLAGS", flags.replace("device_count=4", "device_count=1"))
        assert watched(made, events).run(jobs=2).arms == made.arms
    return made, events, words


@pytest.mark.compiles
@pytest.mark.long
def test_a_study_runs_in_python_and_its_runs_are_finished(finished, capfd):
    made, events, _ = finished
    assert [(config.seed, config.optimizer.learning_rate) for config in made.configs] == [
        (0, 0.01), (0, 0.02), (1, 0.01), (1, 0.02),
    ]  # fmt: skip
    assert {run.status for run in made.runs} == {"finished"}
    assert isinstance(events[0], Began)
    assert events[0].jobs == 2
    assert sum(isinstance(event, RunEnded) and not event.failed for event in events) == 4
    assert any(isinstance(event, RunProgress) and event.steps == 4 for event in events)
    assert "4 runs, 4 finished" in repr(made)
    assert capfd.readouterr().out == ""


@pytest.mark.compiles
def test_what_is_finished_is_not_run_again(finished, directories):
    made, _, words = finished
    events = []
    again = study("rates", *SHORT, *words, directories=directories)
    assert [arm.directory for arm in again.arms] == [arm.directory for arm in made.arms]
    watched(again, events).run()
    assert events == []


@pytest.mark.compiles
def test_the_report_has_its_page_its_table_and_its_verdict(finished):
    report = finished[0].report()
    assert report.page == finished[0].directory / "report.html"
    assert report.page.is_file()
    assert [row[0] for row in report.table.rows] == [
        "lenet5 optimizer.learning_rate=0.01",
        "lenet5 optimizer.learning_rate=0.02",
    ]
    assert report.verdict.word in ("supported", "contradicted", "inconclusive")


@pytest.mark.compiles
def test_runs_are_compared_by_their_arms_without_a_study(finished):
    comparison = compare(finished[0].runs)
    assert list(comparison.arms) == [
        "lenet5 optimizer.learning_rate=0.01",
        "lenet5 optimizer.learning_rate=0.02",
    ]
    assert [len(runs) for runs in comparison.arms.values()] == [2, 2]
    by_path = compare([run.path for run in finished[0].runs])
    assert by_path.table == comparison.table
    assert all("range" in row[3] for row in comparison.table.rows)
    assert "<svg" in comparison._repr_html_()
    assert comparison.figure().axes


def test_a_mistake_in_an_override_is_said_at_once(directories):
    with pytest.raises(UserError, match="optimiser"):
        study("rates", "optimiser.learning_rate=1", directories=directories)
    with pytest.raises(UserError, match="nowhere"):
        study("nowhere")


def test_a_run_that_fails_is_named_with_its_log(directories, tmp_path, data_dir):
    words = (override("runs", tmp_path), override("data.dir", tmp_path / "none"), "seed=0")
    failing = study("rates", *SHORT, *words, directories=directories)
    with pytest.raises(UserError, match=r"2 of 2 runs failed: .*log\.txt"):
        failing.run(jobs=2)


def test_unfinished_runs_are_not_compared(tmp_path):
    with pytest.raises(UserError, match="no finished run"):
        compare([Path(tmp_path)])
