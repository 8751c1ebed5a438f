"""Trials as jobs of Slurm, whose commands are replaced."""

import pytest

pytest.importorskip("optuna")

from deeper.errors import UserError
from deeper.search.launch import trials_of
from deeper.search.slurm_trials import run_in_slurm
from deeper.sweep import slurm, slurm_queue
from deeper.sweep.submission import note, read_submission
from tests.search.conftest import CODE, searched, train_by_formula


def test_trials_are_jobs_so_many_at_a_time(runs, monkeypatch):
    search, queue, most = searched(runs), [], []

    def submit(taken):
        [arm] = taken.todo
        queue.append(arm.directory)
        most.append(len(queue))
        note(arm.directory, str(taken.folder), job=f"{len(most)}_0")

    def run_the_first_and_list_the_others(submissions):
        if queue:
            train_by_formula(queue.pop(0))
        waiting = [read_submission(directory) for directory in queue]
        job = slurm_queue.Job("1_0", "PENDING", "Resources", 0)
        return {(one.sweep, one.index): job for one in waiting}

    monkeypatch.setattr(slurm, "submit", submit)
    monkeypatch.setattr(slurm_queue, "waiting_and_running", run_the_first_and_list_the_others)
    monkeypatch.setattr(slurm_queue, "ended", lambda jobs: {})
    settings = {"array_parallelism": 3, "signal_delay_s": 90}
    trials = trials_of(search, 7, "slurm", settings, runs, CODE)
    lines = []
    assert run_in_slurm(trials, 3, lines.append, poll=0.01)
    assert len(lines) == len(search.journal.trials()) == 7
    assert max(most) <= 3
    assert {trial.state for trial in search.journal.trials()} == {"complete", "pruned"}


def test_how_many_trials_run_at_a_time_has_to_be_said(runs):
    with pytest.raises(UserError, match="jobs=N"):
        trials_of(searched(runs), 7, "slurm", {"array_parallelism": None}, runs, CODE)
