import errno
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import yaml

from deeper.errors import UserError
from deeper.record.run_directory import RunDirectory
from tests.track.conftest import config_of, row

HOLD = """
import sys, time
from deeper.record.run_directory import RunDirectory
with RunDirectory.open(sys.argv[1], {}, "0123abcd"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_config_is_written_once_and_found_again(path):
    with RunDirectory.open(path, config_of(), "0123abcd") as directory:
        assert not directory.finished
    stored = yaml.safe_load((path / "config.yaml").read_text())
    assert stored == config_of() | {"config_hash": "0123abcd"}
    with RunDirectory.open(path, config_of(), "0123abcd"):
        assert yaml.safe_load((path / "config.yaml").read_text()) == stored


def test_directory_of_another_config_is_refused_with_what_differs(path):
    RunDirectory.open(path, config_of(learning_rate=0.1), "0123abcd").close()
    before = (path / "config.yaml").read_bytes()
    with pytest.raises(UserError) as refusal:
        RunDirectory.open(path, config_of(learning_rate=0.2), "99999999")
    assert str(path) in str(refusal.value)
    assert "optimizer.learning_rate was 0.1 and is now 0.2" in str(refusal.value)
    assert (path / "config.yaml").read_bytes() == before
    RunDirectory.open(path, config_of(), "0123abcd").close()  # the refusal left no lock


def test_change_that_leaves_the_numbers_alone_is_taken_over(path):
    RunDirectory.open(path, config_of("auto"), "0123abcd").close()
    before = (path / "config.yaml").read_bytes()
    with RunDirectory.open(path, config_of("disabled"), "0123abcd") as directory:
        assert (path / "config.yaml").read_bytes() == before
        directory.take_config()
    assert yaml.safe_load((path / "config.yaml").read_text())["tracker"]["mode"] == "disabled"


def test_damaged_config_is_said(path):
    path.mkdir(parents=True)
    (path / "config.yaml").write_text("a: [1")
    with pytest.raises(UserError, match=r"config\.yaml cannot be read"):
        RunDirectory.open(path, config_of(), "0123abcd")


def test_rows_are_strict_json_with_null_for_what_is_not_finite(directory):
    directory.log(
        {"step": 1, "loss": float("nan"), "error": np.float32("inf"), "lr": np.float32(0.5)}
    )
    text = (directory.path / "metrics.jsonl").read_text()
    assert text == '{"step": 1, "loss": null, "error": null, "lr": 0.5}\n'


def test_resuming_drops_later_rows_and_a_cut_one(directory):
    for step in (10, 20, 20, 30):
        directory.log(row(step))
    with (directory.path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 20, "time": 9')
    assert directory.truncate_after(20) == 0.2
    directory.log(row(30))
    lines = (directory.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [10, 20, 20, 30]


def test_resuming_without_a_checkpoint_begins_the_record_again(directory):
    assert directory.truncate_after(0) == 0.0
    directory.log(row(10))
    assert directory.truncate_after(0) == 0.0
    assert directory.rows() == []


def test_row_after_a_cut_one_is_whole(directory):
    (directory.path / "metrics.jsonl").write_text('{"step": 1}\n{"st')
    directory.log({"step": 2})
    assert directory.rows() == [{"step": 1}, {"step": 2}]


def test_result_makes_the_run_finished(directory):
    with pytest.raises(UserError, match="has no result"):
        directory.result()
    directory.write_result({"status": "finished", "metrics": {"test/error": 13.5}})
    assert directory.finished
    assert directory.result()["metrics"] == {"test/error": 13.5}


def test_result_that_cannot_be_read_is_none(directory):
    (directory.path / "result.json").write_text('{"status": "fin')
    assert not directory.finished


def test_legs_of_a_run_are_all_in_its_environment(directory):
    for started in ("monday", "tuesday", "sunday"):
        directory.write_environment({"started": started, "git_diff": "+1"})
    written = json.loads((directory.path / "environment.json").read_text())
    assert (written["started"], written["git_diff"]) == ("sunday", "+1")
    assert written["earlier"] == [{"started": "monday"}, {"started": "tuesday"}]


def full(*arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_full_disk_leaves_the_result_that_was_there(directory, monkeypatch):
    directory.write_result({"status": "diverged"})
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"The disk of .* is full\. .* make room"):
        directory.write_result({"status": "finished"})
    assert directory.result() == {"status": "diverged"}
    assert not [file.name for file in directory.path.iterdir() if "unfinished" in file.name]


def test_full_disk_leaves_the_rows_that_were_there(directory, monkeypatch):
    directory.log(row(10))
    write = os.write

    def half(descriptor, content):
        if len(content) < 20:
            full()
        return write(descriptor, content[: len(content) - 10])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(UserError, match="is full"):
        directory.log(row(20))
    assert (directory.path / "metrics.jsonl").read_text() == json.dumps(row(10)) + "\n"


def test_place_that_cannot_hold_a_directory_is_said(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(UserError, match="cannot be written to"):
        RunDirectory.open(tmp_path / "runs" / "x", config_of(), "0123abcd")


def test_second_process_is_refused_until_the_first_is_killed(path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"worked on by process {holder.pid} on "):
            RunDirectory.open(path, {}, "0123abcd")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert str(holder.pid) in (path / "lock.1").read_text()
        RunDirectory.open(path, {}, "0123abcd").close()
