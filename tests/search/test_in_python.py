"""``deeper.search``: a search in Python."""

import sys

import pytest

pytest.importorskip("optuna")

import deeper
from deeper.errors import UserError
from tests.search.conftest import RATE, SPACE, launcher, run_all, searched, words

SHORT = (
    "model=lenet5", "train.batch_size=16", "train.evaluate_every=1e9", "train.checkpoint_every=1e9",
    "train.train_error_examples=50", "data.validation=100", "tracker.mode=disabled",
)  # fmt: skip


def test_the_function_is_the_package(runs):
    import deeper.search.trials

    assert callable(deeper.search)
    assert deeper.search.trials.Search
    assert "search" in dir(deeper)


def test_a_search_in_python_is_that_of_the_command(runs):
    begun = searched(runs, pruner="none")
    with launcher(begun, 3) as trials:
        run_all(trials)
    found = deeper.search("none", *words(runs), "search.pruner=none", space=SPACE, progress=False)
    assert found.directory == begun.directory
    assert [trial.number for trial in found.trials] == [0, 1, 2]
    assert {trial.state for trial in found.trials} == {"complete"}
    assert RATE in repr(found)


def test_a_study_states_its_space(runs):
    found = deeper.search("search_fashion", f"runs={runs}", "trials=7", progress=False)
    assert found.total == 7
    assert len(found.section.space) > 1
    assert found.directory.name == "search"
    with pytest.raises(UserError, match="no search"):
        _ = found.trials


@pytest.mark.parametrize(
    ("given", "space", "says"),
    [
        (["none"], None, "search.space"),
        (["none"], {RATE: [0.1]}, "two or more"),
        (["nowhere"], None, "nowhere"),
        (["none", "search.sampler=grid"], SPACE, "sampler"),
        (["none", "trials=0"], SPACE, "trials"),
        (["none", "data.validation=0"], SPACE, r"data\.validation"),
    ],
)
def test_a_mistake_is_a_sentence(runs, given, space, says):
    with pytest.raises(UserError, match=says):
        begin = deeper.search(given[0], *words(runs), *given[1:], space=space, progress=False)
        begin.run(trials=2)


def test_without_optuna_the_sentence_names_the_extra(runs, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    found = deeper.search("none", *words(runs), space=SPACE, progress=False)
    with pytest.raises(UserError, match=r"scripts/setup search") as raised:
        found.run(trials=2)
    assert str(raised.value).count(". ") == 0


@pytest.mark.compiles
def test_the_range_of_the_learning_rate_is_tested_in_python(runs, capfd):
    short = (*SHORT, "search.steps=20", f"runs={runs}")
    found = deeper.search("none", *short, progress=False)
    rates = found.lr()
    assert len(rates.rates) == 20
    assert (rates.rates[-1], rates.rates[0]) == pytest.approx((10.0, 1e-5))
    assert list(found.directory.glob("lr/*/range.png"))
    assert capfd.readouterr().out == ""


@pytest.mark.long
@pytest.mark.compiles
def test_a_search_runs_in_python_to_its_reruns(runs):
    short = (*SHORT, "train.steps=4", f"runs={runs}", "search.fresh=2", "search.pruner=none")
    found = deeper.search("none", *short, space={RATE: [0.05, 0.1]}, progress=False)
    report = found.run(trials=2, jobs=1)
    assert report.rerun is not None
    assert len(found.trials) == 2
    assert found.finish(0) is found  # it has come to its end already
    assert (found.directory / "report.json").is_file()
