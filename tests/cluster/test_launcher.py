"""Sweeps through submitit on a real Slurm: waiting, preempted and cancelled arms."""

import json
import re

import pytest

from tests.cluster.conftest import wait_for

pytest.importorskip("submitit", reason="scripts/setup cluster")

SMALL = (
    "model=lenet5",
    "train.batch_size=16",
    "train.epochs=null",
    "train.steps_per_call=5",
    "data.validation=100",
    "train.log_every=5",
    "train.train_error_examples=50",
)
LAUNCHER = (
    "hydra/launcher=slurm",
    "hydra.launcher.partition=main",
    "hydra.launcher.cpus_per_task=2",
    "hydra.launcher.timeout_min=30",
    "hydra.launcher.signal_delay_s=20",
)


def words(slurm, *arguments):
    told = json.loads(slurm.output("deeper", "sweep", "status", "format=json", *arguments))
    return {arm["name"]: arm["word"] for arm in told}


def rows(run):
    file = run / "metrics.jsonl"
    return file.read_text().count("\n") if file.exists() else 0


def test_a_sweep_is_seen_cancelled_and_resumed_from_any_terminal(slurm):
    sweep = ("train.steps=100000", "seed=0,1", "jobs=1", "runs=swept")
    command = ("deeper", "train", "-m", *SMALL, *sweep, *LAUNCHER, "launch=detach")
    assert "deeper sweep status runs=swept" in slurm.output(*command)
    assert "0 to do, 2 with another launcher" in slurm.output(*command)
    first, second = (next(slurm.directory.glob(f"swept/single/lenet5-s{n}-*")) for n in (0, 1))
    wait_for(lambda: rows(first) > 3, "the first arm's training", slurm)
    job = json.loads((first / "submission.json").read_text())["job"]
    slurm.output("scontrol", "requeue", job)
    wait_for(lambda: rows(second) > 3, "the second arm's training", slurm)
    shown = slurm.output("deeper", "sweep", "status", "runs=swept")
    assert "requeue 1" in shown
    assert "1 running, 1 requeued" in shown
    assert all(len(line) <= 100 for line in shown.splitlines())

    said = slurm.output("deeper", "sweep", "cancel", "runs=swept")
    assert f"job {job} cancelled" in said
    assert "stops at a checkpoint" in said
    both = {"lenet5 s0": "cancelled", "lenet5 s1": "cancelled"}
    wait_for(lambda: words(slurm, "runs=swept") == both, "the end", slurm)
    assert "Stopped after step" in (second / "log.txt").read_text()
    resumed = slurm.output("deeper", "sweep", "resume", "runs=swept", "launch=detach")
    assert "To go on with: 2" in resumed
    alive = {"waiting", "starting", "running"}
    assert set(words(slurm, "runs=swept").values()) <= alive
    slurm.output("deeper", "sweep", "cancel", "runs=swept")
    wait_for(lambda: words(slurm, "runs=swept") == both, "the end", slurm)


def test_a_sweep_with_a_failing_arm_waits_for_the_others_and_says_which_failed(slurm):
    """The arms' data are gone by the time they start. Of six, an array takes four."""
    sweep = ("train.steps=6", "seed=0,1,2", "data.examples=40,99999")
    said = slurm.output("deeper", "train", "-m", *SMALL, *sweep, *LAUNCHER, status=1)
    assert "6 arms: 3 failed, 3 finished" in said
    assert re.search(r"Slurm job \d+ and \d+: 6 arms\.", said)
    assert "data.examples=99999: there are" in said
    assert slurm.output("sacct", "-X", "-n", "-o", "State").split().count("FAILED") >= 3


def test_what_slurm_refuses_is_told_in_a_sentence_and_leaves_nothing_claimed(slurm):
    wrong = ("hydra/launcher=slurm", "hydra.launcher.partition=none", "seed=0,1")
    said = slurm.output("deeper", "train", "-m", "model=lenet5", *wrong, status=2)
    assert "invalid partition" in said
    assert "Traceback" not in said
    assert not list(slurm.directory.glob("runs/single/*/submission.json"))
    dry = slurm.output("deeper", "train", "-m", "model=lenet5", *LAUNCHER, "seed=0,1", "mode=dry")
    assert "all runs" in dry
    assert "lenet5" not in slurm.output("squeue", "-h", "-o", "%j")
