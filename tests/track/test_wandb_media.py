"""Predictions, histograms and alerts at W&B."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from deeper.record.run_directory import RunDirectory
from deeper.record.wandb_id import run_id
from deeper.track import wandb_process
from deeper.track.sync import sync
from deeper.track.tracker import Tracker
from tests.track.conftest import config_of, row
from tests.track.test_tensorboard_events import histograms, predictions
from tests.track.wandb_server import offline_records, offline_rows

KILLED = """
import os, signal, sys, time
from deeper.record.run_directory import RunDirectory
from deeper.track.tracker import Tracker
from tests.track.conftest import config_of, row
with RunDirectory.open(sys.argv[1], config_of("online"), "0123abcd") as directory:
    tracker = Tracker.start(directory, config_of("online"), print)
    tracker.log(row(1))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def record(path, status, reason="", mode="offline", **options):
    """Record a run that ends with a status."""
    config = config_of(mode)
    config["tracker"] |= options
    with RunDirectory.open(path, config, "0123abcd") as directory:
        tracker = Tracker.start(directory, config, pytest.fail)
        tracker.log(row(1))
        if status == "diverged":
            result = {"status": "diverged", "metrics": {}, "reason": "non-finite loss at step 7"}
            directory.write_result(result)
        tracker.finish(status, reason)


def alerts_of(path):
    records = offline_records(path)
    return [r.alert for r in records if r.WhichOneof("record_type") == "alert"]


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        ("diverged", "", "non-finite loss at step 7"),
        ("failed", "UserError: the disk of runs is full", "the disk of runs is full"),
        ("failed", "", None),  # stopped by the user
        ("interrupted", "", None),
        ("finished", "", None),
    ],
)
def test_a_run_that_diverges_or_fails_sends_an_alert(path, no_account, status, reason, expected):
    record(path, status, reason)
    alerts = alerts_of(path)
    if expected is None:
        assert not alerts
        return
    [alert] = alerts
    assert expected in alert.text
    assert "resnet20-s0" in alert.title
    assert alert.level == "ERROR"


def test_no_alert_is_sent_where_the_config_says_so(path, no_account):
    record(path, "diverged", alerts=False)
    assert not alerts_of(path)


def test_sending_an_old_run_sends_no_alert(path, no_account):
    record(path, "diverged", mode="disabled")
    assert sync([path], mode="offline", warn=pytest.fail) == {path: 1}
    assert not alerts_of(path)


def test_a_killed_run_sends_an_alert(path, online):
    environment = {**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path))}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 60
    # Until the mirror has ended, or it would look for the server for ever.
    while not (path / "synced.json").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    [alert] = online.alerts
    assert alert["severity"] == "ERROR"
    assert alert["runName"] == run_id(path)


@pytest.fixture
def patience(monkeypatch):
    """W&B imports pandas for the first table or picture, which takes long on a busy machine."""
    monkeypatch.setattr(wandb_process, "FINISH_SECONDS", 200.0)


def evaluated_run(path, examples):
    config = config_of("offline")
    with RunDirectory.open(path, config, "0123abcd") as directory:
        tracker = Tracker.start(directory, config, pytest.fail)
        tracker.log(row(1))
        tracker.write_predictions(2, examples)
        tracker.write_histograms(2, histograms())
        tracker.log(row(2))
        tracker.log({"step": 2, "validation/error": 25.0})
        tracker.finish("finished")
    return offline_rows(path)


def test_predictions_and_histograms_are_sent_with_the_row_of_their_evaluation(
    path, no_account, patience
):
    rows = evaluated_run(path, predictions())
    assert [r["step"] for r in rows] == [1, 2, 2]
    assert not any("predictions/_type" in r or "weights/stem/_type" in r for r in rows[:2])
    last = rows[2]
    assert last["predictions/_type"] == "images/separated"
    assert last["predictions/count"] == 2
    assert last["predictions/captions"] == ["cat, 75% sure", "dog, taken for cat, 50% sure"]
    assert last["weights/stem/_type"] == "histogram"
    assert last["weights/stem/values"] == [3, 4]
    assert last["weights/stem/bins"] == [0.0, 1.0, 2.0]
    assert len(list(path.glob("wandb/offline-run-*/files/media/images/predictions_*.png"))) == 2


def test_predictions_for_texts_are_a_table(path, no_account, patience):
    examples = predictions()
    del examples["images"]
    examples |= {"inputs": np.zeros((2, 3), np.int32), "texts": np.array(["one", "two"])}
    last = evaluated_run(path, examples)[2]
    assert last["predictions/_type"] == "table-file"
    assert last["predictions/nrows"] == 2
