"""Sweeps: arms are frozen, claimed and run once, and their status is read from files."""

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

from deeper.cli import launching, sweep
from deeper.cli.local_sweep import run_here
from deeper.config.compose import configure, run_config
from deeper.config.identity import config_hash, run_directory
from deeper.display.status_table import duration, summary, table
from deeper.display.terminal import open_console
from deeper.errors import UserError
from deeper.record.environment import code_version, root
from deeper.record.lock import Holder, holder_of, take_lock
from deeper.run.check import check
from deeper.sweep import code_snapshot, local, resources, slurm
from deeper.sweep.claim import arms_of, claim
from deeper.sweep.planned_costs import rows_of
from deeper.sweep.slurm_task import last_line
from deeper.sweep.status import runs_in, states_of
from deeper.sweep.submission import Process, Submission, read_submission, write_submission
from tests.cli.test_config import compose_train

CODE = code_snapshot.Code(None, "0", None, None, None)


def arms(runs, *seeds):
    overrides = [["model=lenet5", f"seed={seed}", f"runs={runs}"] for seed in seeds]
    return arms_of([configure(*words) for words in overrides], overrides)


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


@pytest.mark.parametrize("name", ["runs%j", "%x", "a\\b"])
def test_names_that_slurm_would_read_otherwise_are_refused(tmp_path, name):
    one = arms(tmp_path / name, 0)
    settings = {"signal_delay_s": 90}
    with pytest.raises(UserError, match="Slurm would read"):
        claim(one, tmp_path / name, "slurm", CODE, settings, slurm.submit)
    assert read_submission(one[0].directory) is None


def test_a_snapshot_that_pythons_path_cannot_name_is_refused(tmp_path):
    with pytest.raises(UserError, match="code=tree"):
        code_snapshot.freeze("snapshot", tmp_path / "12:30", [])
    assert not list(tmp_path.glob("**/*.py"))
    assert code_snapshot.freeze("tree", tmp_path / "12:30", []).root is None


def test_an_arm_runs_no_other_code_than_what_was_frozen(tmp_path, monkeypatch):
    from deeper.cli import arm

    [one] = arms(tmp_path, 0)
    elsewhere = dataclasses.replace(CODE, root=str(tmp_path / "frozen"), digest="another")
    claim([one], tmp_path, "local", elsewhere, {}, lambda it: None)
    monkeypatch.setattr(arm.train, "train_and_tell", lambda *config: pytest.fail("it ran"))
    with pytest.raises(UserError, match="frozen"):
        arm.run(one.directory)


def test_a_mistake_in_an_arm_is_found_before_it_is_submitted(tmp_path):
    overrides = [["model=resnet", f"model.depth={depth}", f"runs={tmp_path}"] for depth in (8, 9)]
    both = arms_of([configure("model.form=cifar", *words) for words in overrides], overrides)
    taken = claim(both, tmp_path, "local", CODE, {}, lambda it: None)
    [(_, reason)] = taken.failed
    assert "model.depth=9" in reason
    assert [arm.directory.exists() for arm in both] == [True, False]
    assert len(taken.todo) == 1


def test_an_arm_that_cannot_be_run_is_told_before_the_first_begins(tmp_path, monkeypatch, capsys):
    overrides = [["model=resnet", f"model.depth={depth}", f"runs={tmp_path}"] for depth in (8, 9)]
    both = arms_of([configure("model.form=cifar", *words) for words in overrides], overrides)
    told = []
    monkeypatch.setattr(launching, "run_here", lambda *_: told.append(capsys.readouterr().out))
    mistakes = [("seed=x", "give a whole number")]
    launching.start(both, tmp_path, "local", {"jobs": 1}, CODE, "wait", "", mistakes)
    assert "seed=x" in told[0]
    assert "model.depth=9" in told[0]


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
    code = code_snapshot.freeze("snapshot", tmp_path, [])
    assert code_snapshot.freeze("snapshot", tmp_path, []) == code
    place = Path(code.root)
    assert sum(file.stat().st_size for file in place.rglob("*")) < 5e6
    program = (
        "import json; from deeper.config.yaml_files import conf_directory; "
        "from deeper.sweep import code_snapshot; "
        "from deeper.record.environment import code_version, root; "
        "print(json.dumps([str(conf_directory()), code_snapshot.digest(), code_version(root())]))"
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
        return [one.environment.get("CUDA_VISIBLE_DEVICES") for one in resources.shares(*arguments)]

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
        "200 arms: 3 failed, 1 lost, 16 running, 60 waiting, 120 finished; 20,480 ex/s together"
    )

    def shown(everything):
        console = open_console(file=io.StringIO())
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
        console = open_console(file=io.StringIO())
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


def test_cancel_has_to_be_told_what_is_to_end(mistake):
    assert "study=none" in mistake("sweep", "cancel")
    assert "There is no run in" in mistake("sweep", "cancel", "study=none")


@pytest.fixture
def launched(tmp_path, monkeypatch):
    """Run two arms by the local launcher, each as a command of the system."""
    study = tmp_path / "study"
    (tmp_path / ".sweep" / "live").mkdir(parents=True)
    for number in range(2):
        stored(study, number, "waiting")

    def run(*words):
        def start_trainer(directory, submission, environment, log, pipe):
            os.close(pipe)
            return subprocess.Popen(words)

        monkeypatch.setattr(local, "start_trainer", start_trainer)
        directories = [str(directory) for directory in runs_in(study)]
        work = local.Work(str(tmp_path / ".sweep" / "live"), 2, 0, [], directories, 2, None)
        return run_here(work, open_console()), runs_in(study)

    return run


def test_an_arm_without_a_test_error_does_not_end_the_others(launched, tmp_path):
    for directory, metrics in zip(
        runs_in(tmp_path / "study"), ({}, {"test/error": 1.5}), strict=True
    ):
        result = {"status": "finished", "metrics": metrics}
        (directory / "result.json").write_text(json.dumps(result))
    status, _ = launched("true")
    assert status == 0


def test_arms_that_a_stopped_launcher_stopped_are_not_lost(launched):
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM)).start()
    status, directories = launched("sleep", "60")
    assert status == 75
    assert {state.word for state in states_of(directories)} == {"stopped"}


def test_an_arm_whose_launcher_is_gone_says_itself_that_it_stopped(tmp_path, monkeypatch):
    from deeper.cli import arm

    [one] = arms(tmp_path, 0)
    claim([one], tmp_path, "local", CODE, {}, lambda it: None)
    process = dataclasses.replace(Process.of(os.getpid()), began=1)  # it has ended
    submission = read_submission(one.directory)
    write_submission(one.directory, dataclasses.replace(submission, process=process))
    assert {state.word for state in states_of([one.directory])} == {"lost"}
    monkeypatch.setattr(arm.train, "train_and_tell", lambda *config: 75)
    assert arm.run(one.directory) == 75
    assert {state.word for state in states_of([one.directory])} == {"stopped"}


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
    assert one.directory.name == f"lenet5-s3-{config_hash(one.config.plain())}"


def test_what_an_agent_of_a_wandb_sweep_starts_composes():
    from wandb.sdk.launch.sweeps import utils

    given = yaml.safe_load(Path("scripts/wandb-sweep.yaml").read_text(encoding="utf-8"))
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
        config = run_config(config, config.hydra)
        check(config)
        directories.add(run_directory(config.plain()))
        assert config.train.ema == (None if args is drawn["min"] else 0.999)
    assert len(directories) == 2
    assert given["metric"]["name"] == "validation/error"


def test_one_value_spelled_in_two_ways_is_one_run_of_one_name():
    rates = [["model=lenet5", f"optimizer.learning_rate={r}"] for r in ("0.05", "5e-2", "0.10")]
    configs = [configure(*words) for words in rates]
    assert [arm.name for arm in arms_of(configs, rates)] == ["lenet5 s0 0.05", "lenet5 s0 0.1"]
    assert len(arms_of(configs[:2], rates[:2])) == 1
    rows = rows_of([configure(*words, "mode=dry") for words in rates], rates)
    assert [(row.name, row.runs) for row in rows] == [("lenet5 0.05", 1), ("lenet5 0.1", 1)]
    # Of runs that differ in their seeds alone, a name says no more.
    seeds = [
        ["model=lenet5", "seed=0", "train.ema=0.9"],
        ["model=lenet5", "seed=1", "train.ema=.90"],
    ]
    names = [arm.name for arm in arms_of([configure(*words) for words in seeds], seeds)]
    assert names == ["lenet5 s0", "lenet5 s1"]


@pytest.mark.parametrize(
    "result, told",
    [
        ({"metrics": {"test/error": None}}, "no test error"),
        ({"metrics": {"test/error": 8.25}}, "test error   8.25 %"),  # an older version's
        ({"metric": "ap", "unit": " %", "metrics": {"test/ap": 18.72}}, "test ap  18.72 %"),
        ({"metric": "r2", "unit": "", "metrics": {"test/r2": 0.5}}, "test r2   0.50"),
    ],
)
def test_a_finished_run_is_told_by_its_tasks_metric(tmp_path, result, told):
    run = tmp_path / "study" / "net-s0-0123abcd"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("label: net\nseed: 0\n")
    (run / "result.json").write_text(json.dumps({"status": "finished", **result}))
    [state] = states_of(runs_in(tmp_path / "study"))
    assert (state.word, state.remark) == ("finished", told)
