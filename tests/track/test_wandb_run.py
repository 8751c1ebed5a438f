"""What the W&B run of a run directory says of its arm, its machine and its code."""

import json
import socket
import time

import psutil
import pytest

from deeper.record.run_directory import RunDirectory
from deeper.track.sync import sync
from deeper.track.tracker import Tracker
from deeper.track.wandb_results import log_evaluation
from deeper.track.wandb_run import arm_and_group
from tests.track.conftest import config_of, row
from tests.track.wandb_server import offline_records

COMMAND = "/usr/bin/deeper train model=resnet model.depth=20 'data.dir=my data'"
ENVIRONMENT = {
    "hostname": socket.gethostname(),
    "command": COMMAND,
    "git_commit": "0123456789abcdef0123456789abcdef01234567",
    "git_diff": "diff --git a/net.py b/net.py\n+deeper\n",
    "run": {"arm_hash": "89abcdef"},
}


def train(path, environment, *, mode="offline", seconds=0.0, config=None):
    """Record a run, which takes some seconds."""
    config = config or config_of(mode)
    with RunDirectory.open(path, config, "0123abcd") as directory:
        directory.write_environment(environment)
        tracker = Tracker.start(directory, config, pytest.fail)
        tracker.log(row(1))
        time.sleep(seconds)
        directory.write_result({"status": "finished", "metrics": {"test/error": 13.5}})
        tracker.finish("finished")


def records(path, kind):
    return [
        getattr(record, kind)
        for record in offline_records(path)
        if record.WhichOneof("record_type") == kind
    ]


def stats_of(path):
    return [
        {item.key: json.loads(item.value_json) for item in stats.item}
        for stats in records(path, "stats")
    ]


def test_host_command_and_commit_are_those_of_the_run(path, no_account):
    train(path, ENVIRONMENT)
    [run, *_] = records(path, "run")
    [described, *_] = records(path, "environment")
    assert run.host == described.host == socket.gethostname()
    assert run.git.commit == described.git.commit == ENVIRONMENT["git_commit"]
    assert described.program == "/usr/bin/deeper"
    assert list(described.args) == ["train", "model=resnet", "model.depth=20", "data.dir=my data"]
    [diff] = path.glob("wandb/offline-run-*/files/diff.patch")
    assert diff.read_text() == ENVIRONMENT["git_diff"]


def test_code_is_kept_back_where_wandbs_own_settings_say_so(path, no_account, monkeypatch):
    monkeypatch.setenv("WANDB_DISABLE_GIT", "true")
    train(path, ENVIRONMENT)
    assert not records(path, "run")[0].git.commit
    assert not list(path.glob("wandb/offline-run-*/files/diff.patch"))


def test_a_run_from_elsewhere_is_not_described_by_the_machine_that_sends_it(path, no_account):
    train(path, ENVIRONMENT | {"hostname": "elsewhere"}, mode="disabled")
    sync([path], mode="offline", warn=pytest.fail)
    assert records(path, "run")[0].host == "elsewhere"
    assert not records(path, "environment")
    assert not records(path, "stats")


def test_use_of_the_machine_is_that_of_the_training_process(path, no_account, monkeypatch):
    monkeypatch.setenv("WANDB_X_STATS_SAMPLING_INTERVAL", "0.1")
    ours = psutil.Process().memory_info().rss / 2**20
    train(path, ENVIRONMENT, seconds=4)
    measured = stats_of(path)
    assert any("cpu" in values for values in measured)
    memory = [values["proc.memory.rssMB"] for values in measured if "proc.memory.rssMB" in values]
    assert memory
    assert all(abs(one - ours) < 0.3 * ours for one in memory)


def test_nothing_is_measured_where_wandbs_own_settings_say_so(path, no_account, monkeypatch):
    monkeypatch.setenv("WANDB_X_STATS_SAMPLING_INTERVAL", "0.1")
    monkeypatch.setenv("WANDB_X_DISABLE_STATS", "true")
    train(path, ENVIRONMENT, seconds=1)
    assert not records(path, "stats")


@pytest.mark.parametrize("study", [None, {"name": "lr", "arms": {"optimizer.learning_rate": []}}])
def test_seeds_of_an_arm_are_a_group_and_other_arms_another(tmp_path, study):
    def group(rate, seed, digest):
        config = config_of("disabled", learning_rate=rate) | {"seed": seed, "study": study}
        place = tmp_path / f"{rate}-{seed}-{digest}"
        with RunDirectory.open(place, config, "0123abcd") as directory:
            directory.write_environment({"run": {"arm_hash": digest}})
        return arm_and_group(place, config)[1]

    assert group(0.1, 0, "a") == group(0.1, 1, "a")
    different = {group(0.1, 0, "a"), group(0.2, 0, "b"), group(0.1, 0, "c")}
    assert len(different) == 3
    if study:
        assert "lr/resnet20 optimizer.learning_rate=0.1 (a)" in different


def test_long_names_of_arms_fit_into_a_group_and_stay_different(tmp_path):
    for digest in ("a", "b"):
        config = config_of() | {"label": "x" * 300, "study": None}
        with RunDirectory.open(tmp_path / digest, config, "0123abcd") as directory:
            directory.write_environment({"run": {"arm_hash": digest}})
    groups = {arm_and_group(tmp_path / digest, config)[1] for digest in ("a", "b")}
    assert len(groups) == 2
    assert max(map(len, groups)) <= 128


def test_an_evaluation_is_in_the_group_of_its_run(path, no_account):
    train(path, ENVIRONMENT)
    result = {"protocol": "flip", "test/error": 1.0, "error_by_class": {}, "n_by_class": {}}
    assert log_evaluation(path, result, pytest.fail) == "offline"
    deadline = time.monotonic() + 20  # W&B writes its file by a process of its own
    while not records(path / "evaluation", "run") and time.monotonic() < deadline:
        time.sleep(0.1)
    trained, evaluated = records(path, "run")[0], records(path / "evaluation", "run")[0]
    assert trained.run_group == evaluated.run_group == "depth_fashion/resnet20 (89abcdef)"
    assert (trained.job_type, evaluated.job_type) == ("train", "evaluate")


def test_the_study_and_the_arm_are_in_the_config(path, no_account):
    train(path, ENVIRONMENT)
    known = {item.key: item.value_json for item in records(path, "run")[0].config.update}
    assert json.loads(known["study.name"]) == "depth_fashion"
    assert json.loads(known["arm_name"]) == "resnet20"


def test_a_run_that_python_started_has_a_command_too(path, no_account):
    train(path, {**ENVIRONMENT, "command": None})
    assert records(path, "environment")[0].program == "deeper.train"
