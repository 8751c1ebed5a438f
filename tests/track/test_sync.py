import os
import shutil
import subprocess
import sys
import time

import pytest

from deeper.errors import UserError
from deeper.record.run_directory import RunDirectory
from deeper.record.wandb_id import run_id
from deeper.track.sync import find_runs, sync
from deeper.track.tracker import Tracker
from tests.track.conftest import config_of, row
from tests.track.wandb_server import offline_rows

OLD_ID = "depth_fashion-resnet20-s0-0123abcd"  # that a run had when its id was made of names

KILLED = """
import os, signal, sys, time
from deeper.record.run_directory import RunDirectory
from deeper.track.tracker import Tracker
from tests.track.conftest import config_of, row
config = config_of("offline")
with RunDirectory.open(sys.argv[1], config, "0123abcd") as directory:
    tracker = Tracker.start(directory, config, print)
    for step in range(300):
        tracker.log(row(step))
    time.sleep(2)  # let W&B take some of them
    os.killpg(tracker._mirrors[0]._process.pid, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def leg(path, steps, resumed_from=0, mode="disabled", status="interrupted"):
    """Record the steps of one leg of a run."""
    config = config_of(mode)
    with RunDirectory.open(path, config, "0123abcd") as directory:
        directory.truncate_after(resumed_from)
        tracker = Tracker.start(directory, config, pytest.fail)
        for step in steps:
            tracker.log(row(step))
        if status == "finished":
            directory.write_result({"status": "finished", "metrics": {"test/error": 13.5}})
        tracker.finish(status)


def test_all_rows_of_a_killed_run_come_back(path, no_account):
    environment = {**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path))}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], env=environment, check=False)
    assert killed.returncode == -9
    assert sync([path], mode="offline", warn=pytest.fail) == {path: 300}
    assert [r["step"] for r in offline_rows(path)] == list(range(300))
    assert sync([path], mode="offline", warn=pytest.fail) == {path: 0}


def test_mirror_of_a_killed_run_sends_what_was_recorded(path, online):
    environment = {**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path))}
    script = KILLED.replace("os.killpg", "# os.killpg").replace("offline", "online")
    subprocess.run([sys.executable, "-c", script, str(path)], env=environment, check=False)
    deadline = time.monotonic() + 60  # for the mirror, which may not have begun yet
    while time.monotonic() < deadline:
        if run_id(path) in online.runs and len(online.rows(run_id(path))) >= 300:
            break
        time.sleep(0.1)
    assert [r["step"] for r in online.rows(run_id(path))] == list(range(300))


def test_syncing_again_sends_nothing_twice(path, online):
    leg(path, range(1, 21), status="finished")
    said = []
    assert sync([path], warn=said.append) == {path: 20}
    assert [r["step"] for r in online.rows(run_id(path))] == list(range(1, 21))
    assert online.runs[run_id(path)]["summary"]["test/error"] == 13.5
    assert online.runs[run_id(path)]["variables"]["groupName"] == "depth_fashion/resnet20"

    before = online.requests
    assert sync([path], warn=said.append) == {path: 0}
    assert online.requests == before
    assert said == []

    (path / "synced.json").unlink()  # as after a kill: now the server has to know
    assert sync([path], warn=said.append) == {path: 0}
    assert len(online.rows(run_id(path))) == 20


def test_legs_of_a_run_are_one_run_at_wandb(path, online):
    leg(path, range(1, 11), mode="auto")
    leg(path, range(6, 21), resumed_from=5, mode="auto", status="finished")
    rows = online.rows(run_id(path))
    assert [r["step"] for r in rows] == list(range(1, 21))
    assert [r["_step"] for r in rows] == list(range(20))
    assert sync([path], warn=pytest.fail) == {path: 0}


def test_rows_that_a_mirror_missed_are_sent_by_the_next_leg(path, online):
    leg(path, range(1, 6), mode="auto")
    leg(path, range(6, 11), resumed_from=5, mode="disabled")
    leg(path, range(11, 16), resumed_from=10, mode="auto")
    assert [r["step"] for r in online.rows(run_id(path))] == list(range(1, 16))


def test_a_run_of_a_wandb_sweep_keeps_the_id_that_its_agent_gave_it(path, online):
    with pytest.MonkeyPatch.context() as agent:
        agent.setenv("WANDB_SWEEP_ID", "s1")
        agent.setenv("WANDB_RUN_ID", "agents")
        leg(path, range(1, 6), mode="auto")
    leg(path, range(6, 11), resumed_from=5, mode="auto", status="finished")
    assert list(online.runs) == ["agents"]
    assert [r["step"] for r in online.rows("agents")] == list(range(1, 11))


def test_two_records_of_one_config_are_two_runs_at_wandb(path, online, tmp_path):
    elsewhere = tmp_path / "other" / path.parent.name / path.name
    leg(path, range(1, 6), mode="auto", status="finished")
    leg(elsewhere, range(1, 11), mode="auto", status="finished")
    shutil.rmtree(path)  # to run it again
    leg(path, range(1, 8), mode="auto", status="finished")
    assert sorted(len(run["history"]) for run in online.runs.values()) == [5, 7, 10]


def test_a_copied_record_is_the_same_run_at_wandb(path, online, tmp_path):
    leg(path, range(1, 6), mode="auto")
    copy = tmp_path / "renamed" / "anything"
    shutil.copytree(path, copy, ignore=shutil.ignore_patterns("wandb", "synced.json"))
    leg(copy, range(6, 11), resumed_from=5, mode="auto", status="finished")
    assert [r["step"] for r in online.rows(run_id(path))] == list(range(1, 11))
    assert list(online.runs) == [run_id(path)]


def test_a_record_that_was_never_mirrored_has_its_id_before_it_is_copied(path, tmp_path):
    leg(path, [1])
    shutil.copytree(path, tmp_path / "copy")
    assert run_id(tmp_path / "copy") == run_id(path)


@pytest.mark.parametrize("left", ["wandb/run-20260101_120000-{id}/", "synced.json", "wandb/id"])
def test_a_run_that_was_mirrored_under_its_names_keeps_that_id(path, left):
    leg(path, [1])
    (path / "wandb-id.txt").unlink()
    (path / "wandb").mkdir()
    if left.endswith("/"):
        (path / left.format(id=OLD_ID)).mkdir()
    else:
        (path / left).write_text(OLD_ID)
    assert run_id(path) == OLD_ID
    assert run_id(path.rename(path.with_name("moved"))) == OLD_ID


def test_a_run_whose_mirror_sent_nothing_gets_an_id_of_its_own(path):
    leg(path, [1])
    (path / "wandb-id.txt").unlink()
    (path / "wandb").mkdir()
    (path / "wandb" / "mirror.log").write_text("ModuleNotFoundError: No module named 'wandb'\n")
    assert run_id(path) != OLD_ID
    assert run_id(path) == run_id(path)


def test_sync_without_a_key_says_what_to_do(path, no_account):
    leg(path, [1])
    with pytest.raises(UserError, match="no W&B API key: run `wandb login`"):
        sync([path])


def test_running_run_is_left_out(path, online):
    said = []
    with RunDirectory.open(path, config_of(), "0123abcd"):
        assert sync([path], warn=said.append) == {path: 0}
    assert said[0].startswith("left out: ")


def test_failed_run_is_said_and_the_others_are_sent(path, online):
    leg(path, [1, 2])
    other = path.with_name("damaged")
    other.mkdir()
    (other / "config.yaml").write_text("label: x")
    said = []
    assert sync([other, path], warn=said.append) == {path: 2}
    assert len(said) == 1
    assert said[0].startswith(f"{other}: Weights & Biases failed (KeyError: ")
    assert len(online.rows(run_id(path))) == 2


@pytest.mark.parametrize("damage", ["lock", "result", "rows"])
def test_a_run_that_cannot_be_read_is_no_success(path, online, damage):
    leg(path, [1])
    if damage == "result":
        (path / "result.json").write_text('{"status": "fini')
    else:
        file = path / ("lock" if damage == "lock" else "metrics.jsonl")
        file.unlink()
        file.mkdir()
    said = []
    assert sync([path], warn=said.append) == {}
    assert len(said) == 1
    assert str(path) in said[0]


def test_runs_are_found_from_any_level(path):
    leg(path, [1])
    assert find_runs(path) == find_runs(path.parent) == find_runs(path.parent.parent) == [path]
    with pytest.raises(UserError, match="no run under"):
        find_runs(path / "checkpoints")
