"""The record survives what happens to runs; the mirror never harms them."""

import errno
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from deeper.errors import UserError
from deeper.track import mirror as mirrors
from deeper.track.environment import environment
from deeper.track.mirror import Examples, Mirror
from deeper.track.run_directory import RunDirectory
from deeper.track.sync import sync

CONFIG = {
    "label": "resnet8",
    "seed": 0,
    "mode": {"name": "quick"},
    "study": {"name": "a_study"},
    "tracker": {"mode": "offline", "project": "deeper", "entity": None},
    "train": {"batch_size": 8},
}


def open_run(path, config=CONFIG, config_hash="aaaaaaaa"):
    return RunDirectory.open(path, config, config_hash)


def test_a_directory_with_another_config_is_refused_with_the_difference(tmp_path):
    open_run(tmp_path).close()
    other = {**CONFIG, "train": {"batch_size": 16}}
    with pytest.raises(UserError, match=r"train\.batch_size was 8 and is now 16"):
        open_run(tmp_path, other, "bbbbbbbb")
    open_run(tmp_path).close()


def test_rows_after_a_step_and_a_cut_off_line_are_taken_back(tmp_path):
    with open_run(tmp_path) as run:
        for step in (5, 10, 10, 15):
            run.log({"step": step, "time": step / 2})
        with (tmp_path / "metrics.jsonl").open("a") as stream:
            stream.write('{"step": 2')
        assert len(list(run.rows())) == 4
        assert run.truncate_after(10) == 5.0
        run.log({"step": 12, "time": 6.0})
        assert [row["step"] for row in run.rows()] == [5, 10, 10, 12]


def test_numbers_that_are_not_finite_are_null_in_strict_json(tmp_path):
    with open_run(tmp_path) as run:
        run.log({"step": 1, "loss": math.nan, "rates": [math.inf, 1.0]})
        line = (tmp_path / "metrics.jsonl").read_text()
        row = json.loads(line, parse_constant=lambda name: pytest.fail(name))
        assert row == {"step": 1, "loss": None, "rates": [None, 1.0]}


def test_a_directory_in_use_names_its_holder_and_a_dead_holder_does_not_block(tmp_path):
    program = (
        "import sys\nfrom pathlib import Path\nfrom tests.track.test_track import open_run\n"
        "run = open_run(Path(sys.argv[1]))\nprint('held', flush=True)\nsys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(UserError, match=f"process {holder.pid} on "):
        open_run(tmp_path)
    holder.kill()
    holder.communicate(timeout=20)
    open_run(tmp_path).close()


def test_a_full_disk_is_a_sentence_and_keeps_what_is_there(tmp_path, monkeypatch):
    with open_run(tmp_path) as run:
        run.log({"step": 1, "time": 0.0})

        def full(descriptor):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match="is full"):
            run.write_result({"status": "finished"})
        assert not run.finished
        assert [row["step"] for row in run.rows()] == [1]


def test_a_result_is_whole_or_absent(tmp_path):
    with open_run(tmp_path) as run:
        assert not run.finished
        run.write_result({"status": "finished", "metrics": {"test/error": math.nan}})
        assert run.finished
        assert run.result()["metrics"] == {"test/error": None}


def test_the_environment_names_versions_code_and_machine():
    found = environment()
    assert {"python", "jax", "flax", "cpu_count", "git_commit", "git_dirty", "command"} <= set(
        found
    )


class Failing:
    """A W&B run whose every call fails."""

    def __getattr__(self, name):
        raise RuntimeError("the network is dead")


def test_a_failing_mirror_is_said_once_and_harms_nothing():
    told = []
    mirror = Mirror(Failing(), told.append)
    mirror.log({"step": 1})
    mirror.log({"step": 2})
    mirror.summary({}, None)
    mirror.finish("finished")
    assert len(told) == 1
    assert "deeper sync" in told[0]


def test_a_mirror_that_cannot_start_is_no_mirror(tmp_path, monkeypatch):
    import wandb

    def refuse(**_):
        raise RuntimeError("the network is dead")

    monkeypatch.setattr(wandb, "init", refuse)
    monkeypatch.delenv("WANDB_MODE")
    told = []
    assert Mirror.start(tmp_path, CONFIG, CONFIG["tracker"], told.append) is None
    assert len(told) == 1


def test_an_unknown_tracker_mode_lists_the_known_ones(tmp_path):
    with pytest.raises(UserError, match="auto, online, offline, disabled"):
        Mirror.start(tmp_path, CONFIG, {**CONFIG["tracker"], "mode": "loud"}, print)


def test_sync_without_a_key_says_so(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setattr(mirrors, "has_api_key", lambda: False)
    monkeypatch.setattr("deeper.track.sync.has_api_key", lambda: False)
    with pytest.raises(UserError, match="wandb login"):
        sync([tmp_path])


WRITE = """
import os, signal, sys
from pathlib import Path
import numpy as np
from tests.track.test_track import CONFIG, open_run
from deeper.track.tracker import Tracker
run = open_run(Path(sys.argv[1]))
tracker = Tracker.start(run, CONFIG)
for step in range(1, 301):
    tracker.log({"step": step, "time": float(step), "train/loss": 1.0 / step})
os.kill(os.getpid(), signal.SIGKILL)
"""

SYNC = """
import sys
from pathlib import Path
from deeper.track.sync import sync
print(sum(sync([Path(sys.argv[1])], mode="offline").values()))
"""


def rows_in_offline_files(directory):
    """Count the history records in W&B's offline files, which are LevelDB logs of protobufs."""
    from wandb.proto import wandb_internal_pb2

    steps = []
    for path in directory.rglob("*.wandb"):
        raw, records, whole = path.read_bytes()[7:], [], b""
        position, block = 0, 7
        while position + 7 <= len(raw):
            if 32_768 - (block % 32_768) < 7:  # a block's tail is padding
                skip = 32_768 - (block % 32_768)
                position, block = position + skip, block + skip
                continue
            length = int.from_bytes(raw[position + 4 : position + 6], "little")
            kind = raw[position + 6]
            whole += raw[position + 7 : position + 7 + length]
            position, block = position + 7 + length, block + 7 + length
            if kind in (1, 4):
                records.append(whole)
                whole = b""
        for record in records:
            parsed = wandb_internal_pb2.Record.FromString(record)
            for item in parsed.history.item:
                if (item.key or "/".join(item.nested_key)) == "step":
                    steps.append(int(json.loads(item.value_json)))
    return steps


def test_sync_brings_back_all_rows_of_a_killed_run_and_only_once(tmp_path):
    path = tmp_path / "a_study" / "resnet8-s0-aaaaaaaa"
    env = {**os.environ, "PYTHONPATH": ".", "WANDB_MODE": "offline"}
    done = subprocess.run(
        [sys.executable, "-c", WRITE, str(path)], env=env, timeout=90, capture_output=True
    )
    assert done.returncode == -9, done.stderr
    assert done.stdout == b"", "W&B prints nothing"
    for file in path.rglob("*.wandb"):
        file.unlink()
    counts = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", SYNC, str(path)], env=env, timeout=90, capture_output=True
        )
        assert done.returncode == 0, done.stderr
        counts.append(int(done.stdout))
    assert counts == [300, 0]
    assert sorted(rows_in_offline_files(path)) == list(range(1, 301))


def test_examples_and_confusion_reach_the_mirror(tmp_path):
    logged = {}

    class Run:
        summary = logged

        def log(self, values):
            logged.update(values)

    mirror = Mirror(Run(), pytest.fail)
    mirror.summary(
        {"test/error": 1.0},
        Examples(
            images=np.zeros((2, 4, 4, 1), np.uint8),
            labels=np.array([0, 1]),
            predictions=np.array([0, 0]),
            confidences=np.array([0.9, 0.6]),
            class_names=("cat", "dog"),
            confusion=np.array([[1, 0], [1, 0]]),
        ),
    )
    assert logged["test/error"] == 1.0
    assert logged["examples"].data[1][1:] == ["dog", "cat", 0.6]
    assert logged["confusion"].data == [["cat", "cat", 1], ["dog", "cat", 1]]
