"""Sweeps: arms are frozen and claimed, run once, and told of from their files."""

import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from deeper.cli import build, sweep
from deeper.cli.sweeps import devices, snapshot
from deeper.cli.sweeps.claim import arms_of, claim
from deeper.cli.sweeps.job import last_line
from deeper.cli.sweeps.states import runs_in, states_of
from deeper.cli.sweeps.submission import Process, Submission, read_submission, write_submission
from deeper.cli.sweeps.table import duration, summary, table
from deeper.config.identity import config_hash, run_directory
from deeper.errors import UserError
from deeper.track.environment import code_version, root
from deeper.track.lock import Holder, holder_of, take_lock
from tests.cli.test_config import compose_train

CODE = snapshot.Code(None, "0", None, None, None)


def arms(runs, *seeds):
    overrides = [["model=lenet5", f"seed={seed}", f"runs={runs}"] for seed in seeds]
    return arms_of([compose_train(*given) for given in overrides], overrides)[0]


def test_two_launchers_at_once_run_each_arm_once(tmp_path):
    six = arms(tmp_path, *range(6))
    taken, locks = [], []
    together = threading.Barrier(2)

    def launch():
        together.wait()
        mine = claim(
            six, tmp_path, "local", CODE, {}, lambda it: locks.append(take_lock(it.folder))
        )
        taken.append(mine)

    threads = [threading.Thread(target=launch) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    first, second = sorted(taken, key=lambda one: len(one.todo))
    assert len(first.todo) == 0
    assert len(second.todo) == 6
    assert len(first.elsewhere) == 6
    assert f"process {os.getpid()} on" in first.elsewhere[0][1]
    for lock in locks:
        lock.release()
    # The launcher has ended, and none of its arms was begun: they are free.
    again = claim(six, tmp_path, "local", CODE, {}, lambda it: None)
    assert len(again.todo) == 6


def test_what_slurm_refuses_is_claimed_by_nobody(tmp_path):
    one = arms(tmp_path, 0)

    def refuse(taken):
        raise UserError("no such partition")

    with pytest.raises(UserError, match="no such partition"):
        claim(one, tmp_path, "slurm", CODE, {}, refuse)
    assert read_submission(one[0].directory) is None
    claim(one, tmp_path, "local", CODE, {"jobs": 3}, lambda it: None)
    with pytest.raises(UserError, match="no such partition"):
        claim(one, tmp_path, "slurm", CODE, {}, refuse)
    assert read_submission(one[0].directory).settings == {"jobs": 3}


def test_a_mistake_in_an_arm_is_found_before_it_is_submitted(tmp_path):
    overrides = [["model=resnet", f"model.depth={depth}", f"runs={tmp_path}"] for depth in (8, 9)]
    configs = [compose_train("model.form=cifar", *given) for given in overrides]
    both, _ = arms_of(configs, overrides)
    taken = claim(both, tmp_path, "local", CODE, {}, lambda it: None)
    [(_, reason)] = taken.failed
    assert "model.depth=9" in reason
    assert [arm.directory.exists() for arm in both] == [True, False]
    assert len(taken.todo) == 1


def test_an_arm_is_frozen_with_its_choices_and_a_changed_file_is_refused(tmp_path):
    from deeper.cli import arm

    [one] = arms(tmp_path, 0)
    claim([one], tmp_path, "local", CODE, {}, lambda it: None)
    file = one.directory / "config.yaml"
    assert "augment: flip" in file.read_text()
    assert "launch:" not in file.read_text()
    file.write_text(file.read_text().replace("batch_size: 128", "batch_size: 64"))
    with pytest.raises(UserError, match="was edited"):
        arm.run(one.directory)


def test_a_snapshot_runs_and_knows_which_code_it_is_of(tmp_path):
    code = snapshot.freeze("snapshot", tmp_path)
    assert snapshot.freeze("snapshot", tmp_path) == code
    place = Path(code.root)
    assert sum(file.stat().st_size for file in place.rglob("*")) < 5e6
    program = (
        "import json; from deeper.config.yaml_files import conf_directory; "
        "from deeper.cli.sweeps import snapshot; "
        "from deeper.track.environment import code_version, root; "
        "print(json.dumps([str(conf_directory()), snapshot.digest(), code_version(root())]))"
    )
    told = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env=os.environ | {"PYTHONPATH": f"{place}/src"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    conf, digest, version = json.loads(told.stdout)
    assert conf == str(place / "conf")
    assert digest == code.digest
    assert version == code_version(root())


def test_with_gpus_each_arm_has_a_set_of_its_own(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")

    def visible(*arguments):
        return [one.environment.get("CUDA_VISIBLE_DEVICES") for one in devices.shares(*arguments)]

    assert visible(2, None, 9) == ["4,5", "6,7"]
    assert visible(None, 1, 9) == ["4", "5", "6", "7"]
    assert visible(4, None, 2) == ["4", "5"]
    assert visible(None, None, 9) == [None]  # one arm with all that are visible
    with pytest.raises(UserError, match="more than the 4 that are visible"):
        visible(5, None, 9)


def stored(study, number, word):
    """Write what an arm in some state leaves behind."""
    directory = study / f"resnet20-s{number}-0123abcd"
    directory.mkdir(parents=True)
    (directory / "config.yaml").write_text("label: resnet20\n")
    folder = study.parent / ".sweep" / ("dead" if word in ("failed", "lost") else "live")
    submission = Submission(
        launcher="local",
        sweep=str(folder),
        index=number,
        name=f"resnet20 s{number}",
        overrides=[],
        cwd=str(study),
        code=CODE.plain(),
        settings={"jobs": 2},
    )
    if word in ("running", "failed"):
        submission = dataclasses.replace(submission, process=Process.of(os.getpid()))
        run = {"steps": 4000, "batch_size": 128}
        (directory / "environment.json").write_text(json.dumps({"run": run, "earlier": [{}]}))
        row = {"step": 1000, "train/loss": 1.0, "images_per_second": 1280.0}
        (directory / "metrics.jsonl").write_text(json.dumps(row) + "\n" + '{"step": 20')
    if word == "failed":
        reason = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 bytes " * 2
        submission = dataclasses.replace(submission, ended={"code": 1, "reason": reason})
    if word == "lost":
        submission = dataclasses.replace(submission, process=Process(os.uname().nodename, 1, 0))
    if word == "finished":
        result = {"status": "finished", "steps": 4000, "metrics": {"test/error": 7.25}}
        (directory / "result.json").write_text(json.dumps(result))
    write_submission(directory, submission)


def test_the_table_of_two_hundred_arms_can_be_read(tmp_path):
    study = tmp_path / "depth_imagenet"
    words = ["finished"] * 120 + ["running"] * 16 + ["failed"] * 3 + ["lost"] + ["waiting"] * 60
    for number, word in enumerate(words):
        stored(study, number, word)
    (tmp_path / ".sweep" / "live").mkdir(parents=True)
    lock = take_lock(tmp_path / ".sweep" / "live")
    try:
        began = time.monotonic()
        states = states_of(runs_in(study))
        assert time.monotonic() - began < 5
    finally:
        lock.release()
    assert summary(states) == (
        "200 arms: 3 failed, 1 lost, 16 running, 60 waiting, 120 finished; 20,480 img/s together"
    )

    def shown(everything):
        console = Console(width=100, file=io.StringIO())
        console.print(table(states, everything=everything))
        return console.file.getvalue().splitlines()

    lines = shown(everything=False)
    print("\n".join(lines))  # for the reader of a failure
    assert len(lines) < 30
    assert max(map(len, lines)) <= 100
    assert lines[0] == "failed  resnet20 s136 (1,000 of 4,000, 2 starts)"
    assert "Out of memory" in lines[1]
    running = next(line for line in lines if "running" in line)
    assert "1,000 of 4,000" in running
    assert "1,280" in running
    assert "5 min" in running  # 3,000 steps of 128 images
    assert "start 2" in running
    assert any("57 more" in line for line in lines)
    assert len(shown(everything=True)) >= 200
    values = json.loads(json.dumps([state.plain() for state in states]))
    assert {one["word"] for one in values} == set(words)


def test_cancel_ends_what_is_ours_and_touches_no_other_process(tmp_path):
    study = tmp_path / "study"
    ours, others = (subprocess.Popen(["sleep", "60"]) for _ in range(2))
    (tmp_path / ".sweep" / "live").mkdir(parents=True)
    lock = take_lock(tmp_path / ".sweep" / "live")
    try:
        for number in range(3):
            stored(study, number, "waiting")
        running, reused = Process.of(ours.pid), Process.of(others.pid)
        reused = dataclasses.replace(reused, began=reused.began - 1)
        for directory, process in zip(runs_in(study), (running, reused, None), strict=True):
            submission = read_submission(directory)
            write_submission(directory, dataclasses.replace(submission, process=process))
        console = Console(width=100, file=io.StringIO())
        assert sweep._cancel(states_of(runs_in(study)), console) == 0
        assert ours.wait(timeout=30) == -signal.SIGTERM
        assert others.poll() is None
        lines = console.file.getvalue().splitlines()
        assert f"process {ours.pid} stops at a checkpoint" in lines[0]
        assert lines[1:] == ["resnet20 s1: has ended", "resnet20 s2: will not be started"]
        words = {state.word for state in states_of(runs_in(study))}
        assert words == {"cancelled"}
    finally:
        lock.release()
        for process in (ours, others):
            process.kill()
            process.wait()


def test_the_last_line_of_a_log_is_the_errors_and_not_what_jax_adds(tmp_path):
    log = tmp_path / "log.txt"
    note = "For simplicity, JAX has removed its internal frames from the traceback of the ...\n"
    log.write_text(f"Traceback\nTypeError: shapes differ\n{'-' * 20}\n{note}\n")
    assert last_line(log) == "TypeError: shapes differ"


def test_who_holds_a_directory_on_another_machine_is_known_by_the_lease(tmp_path):
    there = dataclasses.replace(Holder.this_process(), host="other", kernel="another", pid=1)
    lease = tmp_path / "lock.1"
    lease.write_text(json.dumps(dataclasses.asdict(there)))
    assert holder_of(tmp_path) == there
    os.utime(lease, (time.time() - 1000,) * 2)
    assert holder_of(tmp_path) is None
    assert not (tmp_path / "lock").exists()  # looking touches nothing


def test_a_time_is_told_in_its_two_largest_units():
    assert [duration(s) for s in (20, 300, 4000, 200_000)] == [
        "<1 min", "5 min", "1 h 07", "2 d 7 h",
    ]  # fmt: skip


def test_the_frozen_config_starts_where_its_hash_says(tmp_path):
    [one] = arms(tmp_path, 3)
    plain = build.plain_config(one.config)
    assert one.directory.name == f"lenet5-s3-{config_hash(plain)}"


def test_what_an_agent_of_a_wandb_sweep_starts_composes():
    from wandb.sdk.launch.sweeps import utils

    given = yaml.safe_load(Path("scripts/wandb-sweep.yaml").read_text())
    drawn = {"min": {}, "max": {}}
    for name, draw in given["parameters"].items():
        values = draw.get("values") or [draw.get("value", draw.get("min"))]
        drawn["min"][name] = {"value": values[0]}
        drawn["max"][name] = {"value": draw.get("max", values[-1])}
    directories = set()
    for args in drawn.values():
        words = []
        macros = utils.create_sweep_command_args({"args": args})
        for word in utils.create_sweep_command(given["command"]):
            words += macros[word[2:-1]] if word.startswith("${") else [word]
        assert words[:2] == ["deeper", "train"]
        config = compose_train(*words[2:])
        config = build.frozen(config, config.hydra)
        build.build_model(config)
        directories.add(run_directory(build.plain_config(config)))
        assert config.train.ema == (None if args is drawn["min"] else 0.999)
    assert len(directories) == 2
    assert given["metric"]["name"] == "validation/error"
