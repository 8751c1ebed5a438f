"""Sweeps through submitit on a real Slurm: what waits, what fails, what is cancelled.

What is preempted is in test_faults.py.
"""

import json

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


def test_a_cancelled_sweep_stops_at_a_checkpoint_and_is_resumed(slurm):
    sweep = ("train.steps=100000", "seed=0,1", "jobs=1")
    slurm.output("deeper", "train", "-m", *SMALL, *sweep, *LAUNCHER, "launch=detach")
    [first] = slurm.directory.glob("runs/single/lenet5-s0-*")
    wait_for(lambda: rows(first) > 3, "the first arm's training", slurm)
    said = slurm.output("deeper", "sweep", "cancel")
    assert "stops at a checkpoint" in said
    both = {"lenet5 s0": "cancelled", "lenet5 s1": "cancelled"}
    wait_for(lambda: words(slurm) == both, "the end", slurm)
    wait_for(lambda: not slurm.output("squeue", "-h", "-n", "single"), "an empty queue", slurm)
    assert "Stopped after step" in (first / "log.txt").read_text()
    assert "To go on with: 2" in slurm.output("deeper", "sweep", "resume", "launch=detach")
    assert set(words(slurm).values()) <= {"waiting", "starting", "running"}
    slurm.output("deeper", "sweep", "cancel")
    wait_for(lambda: words(slurm) == both, "the end", slurm)


def test_a_sweep_with_a_failing_arm_waits_for_the_others_and_says_which_failed(slurm):
    """The arm's data are gone by the time it starts."""
    sweep = ("train.steps=6", "seed=0,1", "data.examples=40,99999")
    said = slurm.output("deeper", "train", "-m", *SMALL, *sweep, *LAUNCHER, status=1)
    assert "4 arms: 2 failed, 2 finished" in said
    assert "data.examples=99999: there are" in said
    assert slurm.output("sacct", "-X", "-n", "-o", "State").split().count("FAILED") >= 2


def test_what_slurm_refuses_is_told_in_a_sentence_and_leaves_nothing_claimed(slurm):
    wrong = ("hydra/launcher=slurm", "hydra.launcher.partition=none", "seed=0,1")
    said = slurm.output("deeper", "train", "-m", "model=lenet5", *wrong, status=2)
    assert "invalid partition" in said
    assert "Traceback" not in said
    assert not list(slurm.directory.glob("runs/single/*/submission.json"))
    dry = slurm.output("deeper", "train", "-m", *SMALL, *LAUNCHER, "seed=0,1", "mode=dry")
    assert "all runs" in dry
    assert "lenet5" not in slurm.output("squeue", "-h", "-o", "%j")
