"""The journal asks for values and cuts, the same whoever opens it."""

import pytest

pytest.importorskip("optuna")

from deeper.config.search_section import Range
from deeper.search.definition import Definition
from deeper.search.journal import Journal

SPACE = {"rate": Range(0.01, 1.0, True), "width": Range(4, 16)}


def definition(**changes):
    values = {
        "words": (), "config_hash": "", "space": SPACE, "sampler": "tpe", "pruner": "halving",
        "rungs": 2, "reduction": 3, "seed": 0, "metric": "validation/error", "less_is_better": True,
    }  # fmt: skip
    return Definition(**{**values, **changes})


def run_some(directory, rules, count):
    """Ask for trials and go with each through its rungs; each with a journal of its own."""
    for _ in range(count):
        trial = Journal(directory, rules).ask()
        score = 10 + abs(trial.values["rate"] - 0.3)
        arm = Journal(directory, rules)
        if not any(arm.report(trial.number, share, score) for share in rules.shares):
            arm.complete(trial.number, score)
    return Journal(directory, rules).trials()


@pytest.mark.parametrize("pruner", ["halving", "hyperband", "none"])
def test_a_pruner_cuts_at_rungs_and_none_does_not(tmp_path, pruner):
    trials = run_some(tmp_path, definition(pruner=pruner), 20)
    cut = [trial for trial in trials if trial.state == "pruned"]
    assert [trial for trial in trials if trial.state == "complete"]
    assert (len(cut) > 0) == (pruner != "none")
    assert all(max(trial.scores) < 9 for trial in cut)


@pytest.mark.parametrize("sampler", ["tpe", "sobol", "cmaes"])
def test_what_is_asked_depends_on_the_seed_and_what_was_told(tmp_path, sampler):
    found = []
    for name, seed in (("one", 0), ("other", 0), ("third", 1)):
        (tmp_path / name).mkdir()
        trials = run_some(tmp_path / name, definition(sampler=sampler, seed=seed), 12)
        found.append([trial.values for trial in trials])
    assert found[0] == found[1] != found[2]
    assert len({values["rate"] for values in found[0]}) == 12
    assert all(isinstance(values["width"], int) for values in found[0])


def test_a_trial_that_has_ended_is_told_nothing_more(tmp_path):
    rules = definition()
    run_some(tmp_path, rules, 9)
    journal = Journal(tmp_path, rules)
    before = journal.trials()
    for trial in before:
        journal.complete(trial.number, 0.0)
        journal.give_up(trial.number, "too late")
        assert not journal.report(trial.number, 1, 99.0)
    assert journal.trials() == before


def test_of_a_metric_whose_more_is_better_the_greatest_is_best():
    rules = definition(less_is_better=False)
    assert rules.value(-0.9) == 0.9
    assert rules.shares == (1, 3)
    assert rules.whole == 9
