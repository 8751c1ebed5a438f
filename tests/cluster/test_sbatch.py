"""scripts/slurm/train.sbatch: a run as a job, without a launcher."""

import json
import os
import signal

from tests import faults
from tests.cluster.conftest import ROOT, wait_for

SCRIPT = str(ROOT / "scripts" / "slurm" / "train.sbatch")


def run_of(slurm):
    return next(slurm.directory.glob("runs/single/*"), slurm.directory)


def trainer(slurm) -> int:
    """Return the process that holds the run."""
    lease = max(run_of(slurm).glob("lock.*"), key=lambda file: int(file.suffix[1:]))
    return json.loads(lease.read_text())["pid"]


def test_a_job_that_is_stopped_or_loses_its_process_goes_on_by_itself(slurm, undisturbed):
    job = slurm.submit("-c", "1", SCRIPT, *faults.ARGUMENTS, "train.steps=200")

    def rows_after(step):
        wait_for(lambda: faults.last_row(run_of(slurm)) > step, f"a row after {step}", slurm)

    rows_after(0)
    slurm.output("scancel", "--signal=TERM", job)  # as Slurm does before the time limit
    wait_for(lambda: "Restarts=1" in slurm.output("scontrol", "show", "job", job), "1st", slurm)
    stopped = faults.last_checkpoint(run_of(slurm))
    assert stopped == faults.last_row(run_of(slurm)) > 0
    faults.note("time limit's signal, by sbatch", at=stopped, steps_lost=0)
    rows_after(stopped)
    os.kill(trainer(slurm), signal.SIGKILL)
    wait_for(lambda: "Restarts=2" in slurm.output("scontrol", "show", "job", job), "2nd", slurm)
    killed, good = faults.last_row(run_of(slurm)), faults.last_checkpoint(run_of(slurm))
    faults.note("SIGKILL, by sbatch", at=killed, steps_lost=killed - good)
    slurm.until("COMPLETED", "FAILED", "CANCELLED", job=job)
    assert slurm.state(job) == "COMPLETED", (slurm.directory / f"deeper-{job}.out").read_text()
    faults.same_end(run_of(slurm), undisturbed, stopped=True)


def test_a_job_that_is_cancelled_stays_cancelled(slurm):
    job = slurm.submit("-c", "1", SCRIPT, *faults.ARGUMENTS, "train.steps=100000")
    wait_for(lambda: faults.last_row(run_of(slurm)) > 0, "a row", slurm)
    slurm.output("scancel", job)
    assert slurm.until("CANCELLED", "COMPLETED", "FAILED", "PENDING", job=job) == "CANCELLED"
    said = slurm.directory / f"deeper-{job}.out"
    wait_for(lambda: "Stopped after step" in said.read_text(), "the checkpoint", slurm)
    assert slurm.state(job) == "CANCELLED"


def test_the_lines_of_a_file_are_the_arms_of_an_array_on_two_nodes(slurm, pair):
    arms = "seed=1\nseed=2 optimizer.learning_rate='0.01'\n"
    (slurm.directory / "arms.txt").write_text(arms)
    short = ("train.steps=20", "train.train_error_examples=40")
    slurm.environment["DEEPER"] = "env XLA_FLAGS= deeper"
    options = ("--array=2", "-p", pair, "-N", "2", "-c", "2")
    job = slurm.submit(*options, SCRIPT, "@arms.txt", *faults.ARGUMENTS, *short)
    state = slurm.until("COMPLETED", "FAILED", "CANCELLED", job=f"{job}_2")
    [said] = slurm.directory.glob("deeper-*.out")
    assert state == "COMPLETED", said.read_text()
    run = run_of(slurm)
    assert "-s2-" in run.name
    result = json.loads((run / "result.json").read_text())
    assert (result["steps"], result["metrics"]["test/n_seen"]) == (20, 203)
    assert "2 x cpu" in said.read_text()
