"""Searches in temporary directories, whose runs are replaced by a formula."""

import math
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from deeper.config.search_section import read_search
from deeper.config.yaml_files import conf_directory
from deeper.record.atomic_files import to_json, write_whole
from deeper.record.lock import take_lock
from deeper.record.values import of_overrides
from deeper.search.definition import definition_of, directory_of, take_definition
from deeper.search.trials import Search, Trials, rungs_of
from deeper.sweep.code_snapshot import Code
from deeper.sweep.submission import note, read_submission

CODE = Code(None, "0", None, None, None)
RATE = "optimizer.learning_rate"
SPACE = {
    RATE: {"low": 0.01, "high": 1.0, "log": True},
    "train.batch_size": {"low": 16, "high": 64},
    "augment": ["none", "flip"],
}


def section(**changes):
    """Return the ``search`` section of conf/search.yaml with a space, and changes."""
    text = (conf_directory() / "search.yaml").read_text(encoding="utf-8")
    return read_search({**yaml.safe_load(text)["search"], "space": SPACE, **changes})


def words(runs, *more):
    return ["model=lenet5", "data.validation=100", f"runs={runs}", *more]


def searched(runs, *more, **changes):
    """Return a search in a directory, begun or gone on with."""
    definition, base = definition_of(section(**changes), words(runs, *more))
    place = directory_of(base, section(**changes))
    take_definition(place, definition)
    return Search.open(place)


@contextmanager
def launcher(search, total):
    """A launcher of this process, as long as it lives."""
    runs = search.directory.parents[1]
    trials = Trials(search, total, "local", {"jobs": 1}, runs, CODE)
    trials.folder.mkdir(parents=True)
    lock = take_lock(trials.folder)
    try:
        yield trials
    finally:
        lock.release()


def train_by_formula(directory: Path, test=50.0):
    """Do what a trial's process does: least error at a learning rate of 0.1."""
    submission = read_submission(directory)
    rate = float(of_overrides(submission.overrides)[RATE])
    score = 10 + 10 * abs(math.log10(rate / 0.1))
    rungs = rungs_of(submission)
    for share in () if rungs is None else rungs.shares:
        if rungs.cut(share, score + rungs.whole / share):
            note(directory, submission.sweep, ended={"code": 75, "reason": None})
            return
    result = {"status": "finished", "metrics": {"validation/error": score, "test/error": test}}
    write_whole(directory / "result.json", to_json(result))


def run_all(trials, most=100):
    """Run trials one after the other until there is none, or so many."""
    directories = []
    while len(directories) < most and (directory := trials.next()) is not None:
        directories.append(directory)
        train_by_formula(directory)
        trials.ended(directory, None)
    return directories


@pytest.fixture
def runs(tmp_path, data_dir, monkeypatch):
    """Where run directories go; relative to the working directory."""
    monkeypatch.setenv("DEEPER_DATA", str(data_dir))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"
