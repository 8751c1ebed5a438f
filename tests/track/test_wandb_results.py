"""Sheets and evaluations sent to W&B."""

import json
import time

import numpy as np
import pytest
from PIL import Image

from deeper.record.run_directory import RunDirectory
from deeper.record.wandb_id import run_id
from deeper.run.suite_reports import Report
from deeper.track.wandb_results import log_evaluation, log_pictures, log_report
from tests.track.conftest import config_of
from tests.track.wandb_server import offline_records, offline_rows


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_sheets_go_where_the_tracker_says(tmp_path, no_account, mode):
    run, sheet = tmp_path / "study" / "run", tmp_path / "filters.png"
    with RunDirectory.open(run, config_of(mode), "0123abcd"):
        pass
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(sheet)
    said = []
    assert log_pictures(run, {"filters": sheet}, tmp_path, said.append) == (
        "offline" if mode == "offline" else None
    )
    if mode == "disabled":
        assert len(said) == 1
        assert "turned off by tracker.mode=disabled" in said[0]
        return
    assert not said
    deadline = time.monotonic() + 20  # W&B writes its file by a process of its own
    while not offline_rows(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    [row] = offline_rows(tmp_path)
    ids = [r.run.run_id for r in offline_records(tmp_path) if r.WhichOneof("record_type") == "run"]
    assert set(ids) == {f"{run_id(run)}-see"}
    assert row["filters/_type"] == "image-file"
    [stored] = (tmp_path / "wandb").glob("offline-run-*/files/media/images/filters_*.png")
    assert stored.read_bytes() == sheet.read_bytes()


def test_an_evaluation_is_two_tables_called_by_its_protocol(tmp_path, no_account):
    run = tmp_path / "study" / "run"
    with RunDirectory.open(run, config_of("offline"), "0123abcd"):
        pass
    result = {
        "protocol": "10crop",
        "step": 7,
        "test/error": 25.0,
        "scales": [256],
        "error_by_class": {"cat": 50.0, "dog": 0.0, "none": None},
        "n_by_class": {"cat": 2, "dog": 2, "none": 0},
    }
    said = []
    assert log_evaluation(run, result, said.append) == "offline"
    assert not said
    media = run / "evaluation"
    files = sorted(media.glob("wandb/offline-run-*/files/media/table/10crop*.json"))
    by_class, whole = (json.loads(file.read_text()) for file in files)
    assert whole["columns"] == ["protocol", "step", "test/error"]
    assert whole["data"] == [["10crop", 7, 25.0]]
    assert by_class["data"] == [["cat", 2, 50.0], ["dog", 2, 0.0], ["none", 0, None]]


def test_a_suite_is_a_table_and_a_figure(tmp_path, no_account):
    run, figure = tmp_path / "study" / "run", tmp_path / "suite.png"
    with RunDirectory.open(run, config_of("offline"), "0123abcd"):
        pass
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(figure)
    rows = [("none", "10.00"), ("fog", "12.00")]
    report = Report("suite corrupt", {}, ("corruption", "mean"), rows, [], figure)
    said = []
    assert log_report(run, report, said.append) == "offline"
    assert not said
    files = run / "evaluation"
    [table] = files.glob("wandb/offline-run-*/files/media/table/suite corrupt*.json")
    assert json.loads(table.read_text())["data"] == [["none", "10.00"], ["fog", "12.00"]]
    [stored] = files.glob("wandb/offline-run-*/files/media/images/suite corrupt*.png")
    assert stored.read_bytes() == figure.read_bytes()


def test_an_evaluation_of_several_labels_is_logged_with_what_is_told_of_each(tmp_path, no_account):
    run = tmp_path / "study" / "run"
    with RunDirectory.open(run, config_of("offline"), "0123abcd"):
        pass
    result = {
        "protocol": "each once",
        "test/auprc": 0.5,
        "auroc_by_class": {"CTCF": 0.75, "GATA1": float("nan")},
        "n_by_class": {"CTCF": 3, "GATA1": 0},
    }
    said = []
    assert log_evaluation(run, result, said.append) == "offline"
    assert not said
    [file] = run.glob("evaluation/wandb/offline-run-*/files/media/table/*by class*.json")
    by_class = json.loads(file.read_text())
    assert by_class["columns"] == ["class", "n", "auroc"]
    assert by_class["data"][0] == ["CTCF", 3, 0.75]
    # A task that tells of no classes has one table.
    assert log_evaluation(run, {"protocol": "once", "test/r2": 0.5}, said.append) == "offline"
    assert not said
