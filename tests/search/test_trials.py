"""Trials are asked for once, go on after kills, and are chosen by the validation split."""

import json
import threading

import pytest

pytest.importorskip("optuna")

from deeper.errors import UserError
from deeper.search.launch import arm_to_finish
from deeper.search.reruns import arms_of_reruns, draws_of
from deeper.search.trials import Search
from deeper.study.read_runs import collect
from deeper.sweep.claim import claim
from deeper.sweep.submission import read_submission
from tests.search.conftest import (
    CODE,
    RATE,
    launcher,
    run_all,
    searched,
    section,
    train_by_formula,
    words,
)


def values_of(search):
    return [(trial.number, trial.state, trial.values) for trial in search.journal.trials()]


@pytest.mark.long
@pytest.mark.parametrize("sampler", ["tpe", "sobol"])
def test_a_search_that_was_killed_asks_for_what_the_uncut_one_does(runs, sampler):
    uncut = searched(runs / "uncut", sampler=sampler)
    with launcher(uncut, 14) as trials:
        run_all(trials)
    cut = searched(runs / "cut", sampler=sampler)
    with launcher(cut, 14) as trials:
        run_all(trials, most=11)
        killed = trials.next()
        assert killed is not None
    again = searched(runs / "cut", sampler=sampler)
    assert [t.state for t in again.journal.trials()][-1] == "running"
    with launcher(again, 14) as trials:
        directories = run_all(trials)
        assert directories[0] == killed
        assert trials.complete()
    assert values_of(again) == values_of(uncut)
    assert len(values_of(uncut)) == 14
    assert again.best() == uncut.best()


def test_two_launchers_share_a_search_and_run_each_trial_once(runs):
    searches = [searched(runs), searched(runs)]
    begun, together = [], threading.Barrier(2)

    def launch(search):
        with launcher(search, 6) as trials:
            together.wait()
            begun.extend(run_all(trials))

    threads = [threading.Thread(target=launch, args=(search,)) for search in searches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert len(begun) == len(set(begun)) == 6
    trials = Search.open(searches[0].directory).journal.trials()
    assert [trial.number for trial in trials] == list(range(6))
    assert all(trial.settled for trial in trials)


def test_a_trial_of_a_launcher_that_lives_is_left_to_it(runs):
    search = searched(runs)
    with launcher(search, 2) as first, launcher(Search.open(search.directory), 2) as second:
        mine, others = first.next(), second.next()
        assert mine != others
        assert first.next() is None
        assert second.next() is None
        assert not first.complete()
        train_by_formula(mine)
        first.ended(mine, None)
        train_by_formula(others)
        second.ended(others, None)
        assert first.complete()


def test_a_rung_cuts_poor_trials_and_lets_good_ones_go_on(runs):
    search = searched(runs)
    with launcher(search, 20) as trials:
        run_all(trials)
    ended = search.journal.trials()
    cut = [trial for trial in ended if trial.state == "pruned"]
    complete = [trial for trial in ended if trial.state == "complete"]
    assert len(cut) > len(complete) > 0
    assert all(max(trial.scores) in (1, 3) for trial in cut)
    assert all(set(trial.scores) == {1, 3, 9} for trial in complete)
    # At the first rung, what goes on is better than most.
    first = sorted(trial.scores[1] for trial in ended)
    assert min(trial.scores[1] for trial in complete) == first[0]
    importance, at, number = search.journal.importance()
    assert (at, number) == (1, 20)
    assert next(iter(importance)) == RATE


def test_without_a_pruner_no_trial_is_cut(runs):
    search = searched(runs, pruner="none")
    with launcher(search, 3) as trials:
        run_all(trials)
    assert [trial.state for trial in search.journal.trials()] == ["complete"] * 3


def test_a_trial_that_was_cut_is_trained_to_its_end_and_counts(runs):
    search = searched(runs)
    with launcher(search, 12) as trials:
        run_all(trials)
    cut = next(trial for trial in search.journal.trials() if trial.state == "pruned")
    arm = arm_to_finish(search, cut.number)
    assert arm.directory == search.directory_of(cut.number)
    taken = claim([arm], runs, "local", CODE, {"jobs": 1}, lambda it: None)
    assert taken.todo == [arm]
    assert read_submission(arm.directory).search is None
    train_by_formula(arm.directory)
    assert search.final_score(cut.number) is not None
    with pytest.raises(UserError, match="trial=99"):
        arm_to_finish(search, 99)


def test_the_choice_depends_on_no_number_of_the_test_split(runs):
    search = searched(runs, pruner="none")
    with launcher(search, 6) as trials:
        directories = run_all(trials)
    best = search.best()
    for number, directory in enumerate(directories):
        result = json.loads((directory / "result.json").read_text())
        result["metrics"]["test/error"] = 100.0 if number == best.number else 0.0
        (directory / "result.json").write_text(json.dumps(result))
    assert Search.open(search.directory).best() == best
    for directory in directories:
        result = json.loads((directory / "result.json").read_text())
        del result["metrics"]["test/error"]
        (directory / "result.json").write_text(json.dumps(result))
    assert Search.open(search.directory).best() == best


def test_a_trial_that_diverged_is_no_failure_and_one_that_broke_is(runs):
    search = searched(runs)
    with launcher(search, 3) as trials:
        diverged, broken = trials.next(), trials.next()
        (diverged / "result.json").write_text('{"status": "diverged", "reason": "loss"}')
        assert trials.ended(diverged, "diverged") == "loss"
        assert trials.ended(broken, "no memory") is None
        run_all(trials)
        assert trials.complete()
    first, second, *others = search.journal.trials()
    assert (first.state, first.reason) == ("pruned", "loss")
    assert (second.state, second.reason) == ("fail", "no memory")
    assert len(others) == 2  # another one in the place of the one that failed
    assert search.best() in others


def test_after_trials_that_broke_in_a_row_no_more_are_begun(runs):
    search = searched(runs)
    with launcher(search, 9) as trials:
        for _ in range(3):
            assert not trials.complete()
            trials.ended(trials.next(), "no memory")
        assert trials.stuck
        assert trials.complete()
        assert trials.next() is None
    with launcher(search, 2) as again:
        assert len(run_all(again)) == 2
        assert again.complete()


def test_an_incomplete_last_line_of_the_journal_is_left_out(runs):
    search = searched(runs)
    with launcher(search, 2) as trials:
        run_all(trials)
    before = values_of(search)
    with (search.directory / "journal.log").open("a") as stream:
        stream.write('{"op_code":4,"wor')
    again = Search.open(search.directory)
    assert values_of(again) == before
    with launcher(again, 3) as trials:
        run_all(trials)
    assert len(values_of(Search.open(search.directory))) == 3


def test_the_trials_and_reruns_of_a_search_enter_no_table_of_its_study(runs, data_dir):
    more = ["study=depth_fashion", "mode=smoke", f"data.dir={data_dir}"]
    search = searched(runs, *more, pruner="none")
    assert search.directory == runs / "depth_fashion-smoke" / "search"
    with launcher(search, 2) as trials:
        run_all(trials)
    with pytest.raises(UserError, match="no run at all"):
        collect(runs / "depth_fashion-smoke")


def test_reruns_take_seeds_that_the_search_did_not(runs):
    search = searched(runs, "seed=3", pruner="none")
    with launcher(search, 2) as trials:
        run_all(trials)
    _, base = search.definition.config()
    draws = draws_of(base, section(fresh=3))
    arms = arms_of_reruns(search, search.best(), draws)
    assert [arm.config.seed for arm in arms["winner"]] == [4, 5, 6]
    assert [arm.config.seed for arm in arms["baseline"]] == [4, 5, 6]
    assert arms["winner"][0].config.optimizer.learning_rate == search.best().values[RATE]
    assert arms["baseline"][0].config.optimizer == base.optimizer
    with pytest.raises(UserError, match=r"data\.folds"):
        draws_of(base, section(interval="folds"))


def test_another_search_in_its_place_is_refused(runs):
    search = searched(runs)
    for changes in ({"rungs": 1}, {"sampler": "sobol"}, {"space": {RATE: [0.1, 0.2]}}):
        with pytest.raises(UserError, match=r"search\.name"):
            searched(runs, **changes)
    with pytest.raises(UserError, match="another config"):
        searched(runs, "train.label_smoothing=0.1")
    other = searched(runs, name="wide", rungs=1)
    assert other.directory == search.directory.with_name("search-wide")


def test_numbers_are_chosen_by_cma_es_too(runs):
    space = {
        RATE: {"low": 0.01, "high": 1.0, "log": True},
        "optimizer.momentum": {"low": 0.5, "high": 0.99},
    }
    search = searched(runs, sampler="cmaes", space=space, pruner="none")
    with launcher(search, 12) as trials:
        run_all(trials)
    rates = [trial.values[RATE] for trial in search.journal.trials()]
    assert len(set(rates)) == 12


def test_a_search_has_to_have_a_validation_split(runs):
    with pytest.raises(UserError, match=r"data\.validation"):
        searched(runs, "data.validation=0")
    assert words(runs)
