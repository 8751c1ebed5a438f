"""Faults of sweeps on a cluster; the numbers are always those of the undisturbed run."""

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests import faults
from tests.cluster.conftest import ROOT, SCRIPT, SECONDS, Slurm, wait_for

pytest.importorskip("submitit", reason="scripts/setup cluster")

HELD = "+hydra.launcher.additional_parameters.hold=true"


class Sweep:
    """A sweep that is submitted from the test's directory."""

    def __init__(self, slurm: Slurm):
        self.slurm = slurm

    def command(self, *arguments: str, launch: str = "detach") -> list[str]:
        launcher = ("hydra/launcher=slurm", f"launch={launch}", "hydra.launcher.cpus_per_task=1")
        return ["deeper", "train", "-m", *faults.ARGUMENTS, *launcher, *arguments]

    def submit(self, *arguments: str) -> None:
        self.slurm.output(*self.command(*arguments))

    @property
    def run(self) -> Path:
        """The directory of the run of seed 0; the test's before there is one."""
        return self.of_seed(0) or self.slurm.directory

    def of_seed(self, seed: int) -> Path | None:
        return next(self.slurm.directory.glob(f"runs/single/*-s{seed}-*"), None)

    @property
    def job(self) -> str:
        """The job of seed 0's arm."""
        return json.loads((self.run / "submission.json").read_text())["job"]

    def status(self) -> dict[str, str]:
        """Return a word an arm, by its name."""
        told = self.slurm.output("deeper", "sweep", "status", "format=json")
        return {arm["name"]: arm["word"] for arm in json.loads(told)}

    def restarts(self) -> int:
        told = self.slurm.output("scontrol", "show", "job", "--oneliner", self.job)
        return int(re.search(r"Restarts=(\d+)", told)[1])

    def trains(self, after: int = 0) -> int:
        """Wait for rows after a step; return the last."""
        wait_for(lambda: faults.last_row(self.run) > after, f"rows after {after}", self.slurm)
        return faults.last_row(self.run)

    def restarted(self, times: int) -> None:
        wait_for(lambda: self.restarts() == times, f"start {times + 1}", self.slurm)

    def ends(self, run: Path | None = None) -> None:
        run = run or self.run
        wait_for((run / "result.json").exists, f"the result in {run}", self.slurm)

    def trainers(self, run: Path) -> dict[int, int]:
        """Return the processes of a run's trainers, by their ranks."""
        found = {}
        for place in Path("/proc").glob("[0-9]*"):
            try:
                words = (place / "cmdline").read_bytes().split(b"\0")
                variables = (place / "environ").read_bytes()
            except OSError:
                continue
            if b"arm" in words and os.fsencode(run) in words:
                found[int(re.search(rb"SLURM_PROCID=(\d+)", variables)[1])] = int(place.name)
        return found

    def cost(self, fault: str, reached: int) -> None:
        """Count a fault: how many steps have to be done again."""
        faults.note(
            fault, at=reached, steps_lost=max(0, reached - faults.last_checkpoint(self.run))
        )


@pytest.fixture
def sweep(slurm):
    return Sweep(slurm)


def test_a_job_preempted_twice(sweep, undisturbed, low):
    slurm = sweep.slurm
    command = sweep.command(f"hydra.launcher.partition={low}", "hydra.launcher.cpus_per_task=4")
    assert "deeper sweep status" in slurm.output(*command)
    assert "0 to do, 1 with another launcher" in slurm.output(*command)
    sweep.trains()
    # A net that computes for long: a fast machine would end the run before Slurm preempts it.
    [trainer] = sweep.trainers(sweep.run).values()
    os.kill(trainer, signal.SIGSTOP)
    urgent = slurm.submit("-p", "urgent", "-c", "4", "--wrap", "sleep 600")
    [log] = slurm.directory.glob("runs/.sweep/*/*_log.err")
    wait_for(lambda: "USR2" in log.read_text(), "the signal", slurm)
    with contextlib.suppress(ProcessLookupError):  # Slurm may have continued and ended it
        os.kill(trainer, signal.SIGCONT)
    wait_for(lambda: sweep.status() == {"lenet5 s0": "requeued"}, "a requeue", slurm)
    shown = slurm.output("deeper", "sweep", "status")
    assert "requeue 1" in shown
    assert all(len(line) <= 100 for line in shown.splitlines())
    slurm.output("scancel", urgent)
    reached = faults.last_row(sweep.run)
    sweep.cost("preempted", reached)

    sweep.trains(after=reached)
    slurm.output("srun", "-p", "urgent", "-c", "4", "true")
    sweep.restarted(2)
    sweep.cost("preempted", faults.last_row(sweep.run))
    sweep.ends()
    legs = json.loads((sweep.run / "environment.json").read_text())
    assert len(legs["earlier"]) == 2
    result = json.loads((sweep.run / "result.json").read_text())
    assert result["command"].startswith("deeper train model=lenet5 ")
    faults.same_end(sweep.run, undisturbed, stopped=True)


def test_a_job_at_its_time_limit(sweep, undisturbed):
    sweep.submit("hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=45")
    sweep.trains()
    # A net that computes for long: until Slurm's signal comes, some time in the next 40 s.
    [trainer] = sweep.trainers(sweep.run).values()
    os.kill(trainer, signal.SIGSTOP)
    [log] = sweep.slurm.directory.glob("runs/.sweep/*/*_log.err")
    wait_for(lambda: "USR2" in log.read_text(), "the signal", sweep.slurm)
    os.kill(trainer, signal.SIGCONT)
    sweep.restarted(1)
    sweep.cost("time limit", faults.last_row(sweep.run))
    sweep.ends()
    faults.same_end(sweep.run, undisturbed, stopped=True)


def test_a_job_that_an_operator_requeues(sweep, undisturbed):
    sweep.submit()
    sweep.trains()
    sweep.slurm.output("scontrol", "requeue", sweep.job)
    sweep.restarted(1)
    sweep.cost("scontrol requeue", faults.last_row(sweep.run))
    sweep.ends()
    faults.same_end(sweep.run, undisturbed, stopped=True)


def test_a_cancelled_job_that_is_resumed(sweep, undisturbed):
    sweep.submit()
    sweep.trains()
    sweep.slurm.output("scancel", sweep.job)
    sweep.slurm.until("CANCELLED", job=sweep.job)
    wait_for(lambda: not sweep.trainers(sweep.run), "the trainer's end", sweep.slurm)
    assert set(sweep.status().values()) <= {"cancelled", "stopped"}
    sweep.cost("scancel", faults.last_row(sweep.run))
    sweep.slurm.output("deeper", "sweep", "resume", "launch=detach")
    sweep.ends()
    faults.same_end(sweep.run, undisturbed, stopped=True)


def test_a_node_that_is_lost(sweep, undisturbed, slurm_conf, pair):
    sweep.submit(
        f"hydra.launcher.partition={pair}", "+hydra.launcher.additional_parameters.nodelist=n4"
    )
    sweep.trains()
    root = Path(slurm_conf).parent
    node = [int((root / "run" / "slurmd.n4.pid").read_text())]
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if (place / "ns" / "uts").readlink() == Path(f"/proc/{node[0]}/ns/uts").readlink():
                node.append(int(place.name))
        except OSError:
            continue
    for pid in node:
        os.kill(pid, signal.SIGKILL)
    reached = faults.last_row(sweep.run)
    sweep.slurm.output("scontrol", "update", "nodename=n4", "state=down", "reason=lost")
    sweep.slurm.output("scontrol", "update", f"jobid={sweep.job}", "reqnodelist=")
    sweep.restarted(1)
    sweep.cost("node lost", reached)
    sweep.ends()
    sweep.slurm.output(str(SCRIPT), "node", str(root), "n4")
    idle = ("sinfo", "-h", "-n", "n4", "-p", pair, "-o", "%T")
    wait_for(lambda: sweep.slurm.output(*idle).strip() == "idle", "the node's return", sweep.slurm)
    assert json.loads((sweep.run / "environment.json").read_text())["hostname"] == "n5"
    faults.same_end(sweep.run, undisturbed)


@pytest.mark.parametrize("how", ["killed", "terminal closed"])
def test_a_launcher_that_is_gone_after_the_submission(sweep, undisturbed, how):
    terminal, other = pty.openpty()
    command = sweep.command(HELD, launch="wait")

    launcher = subprocess.Popen(
        ["setsid", "--ctty", *command],
        cwd=sweep.slurm.directory,
        env=sweep.slurm.environment,
        stdin=other,
        stdout=other,
        stderr=other,
    )
    os.close(other)
    wait_for(lambda: (sweep.run / "submission.json").exists() and sweep.job, "the job", sweep.slurm)
    if how == "killed":
        launcher.kill()
    os.close(terminal)
    assert launcher.wait(timeout=SECONDS) in (-signal.SIGKILL, -signal.SIGHUP)
    sweep.slurm.output("scontrol", "release", sweep.job)
    sweep.ends()
    faults.note(f"launcher {how}", steps_lost=0)
    faults.same_end(sweep.run, undisturbed)


def test_an_arm_that_raises_is_resumed_alone(sweep, undisturbed):
    sweep.submit("seed=0,1", HELD)
    broken = sweep.of_seed(1)
    (broken / "checkpoints").write_text("in the way")
    sweep.slurm.output("scontrol", "release", sweep.job.partition("_")[0])
    sweep.ends()
    wait_for(lambda: sweep.status()["lenet5 s1"] == "failed", "the failure", sweep.slurm)
    assert sweep.status() == {"lenet5 s0": "finished", "lenet5 s1": "failed"}
    assert "could not be written" in sweep.slurm.output("deeper", "sweep", "status")
    faults.note("an arm that raises", steps_lost=0)
    (broken / "checkpoints").unlink()
    before = (sweep.run / "environment.json").read_bytes()
    assert "To go on with: 1" in sweep.slurm.output(
        "deeper", "sweep", "resume", "hydra/launcher=slurm", "launch=detach"
    )
    sweep.ends(broken)
    assert (sweep.run / "environment.json").read_bytes() == before
    faults.same_end(sweep.run, undisturbed)


def test_two_launchers_at_once(sweep):
    command = sweep.command("seed=0,1", "train.steps=10")
    launchers = [sweep.slurm.start(*command) for _ in range(2)]
    said = [launcher.communicate(timeout=SECONDS)[0] for launcher in launchers]
    assert [launcher.returncode for launcher in launchers] == [0, 0], said
    for seed in (0, 1):
        sweep.ends(sweep.of_seed(seed))
        legs = json.loads((sweep.of_seed(seed) / "environment.json").read_text())
        assert legs["earlier"] == []
    submissions = {
        json.loads(file.read_text())["sweep"]
        for file in sweep.slurm.directory.glob("runs/single/*/submission.json")
    }
    names = ",".join(Path(folder).name for folder in submissions)
    jobs = sweep.slurm.output("sacct", "-X", "-n", "-P", "-o", "JobID", f"--name={names}")
    assert len(jobs.split()) == 2, said
    faults.note("two launchers", steps_lost=0)


def test_files_edited_between_submission_and_start(sweep, undisturbed):
    tree = sweep.slurm.directory / "tree"
    for part in ("src", "conf"):
        shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    sweep.slurm.environment["PYTHONPATH"] = str(tree / "src")
    sweep.submit(HELD)
    (tree / "src" / "deeper" / "train" / "loop.py").write_text("raise SystemExit('edited')\n")
    (tree / "conf" / "model" / "lenet5.yaml").write_text("_target_: deeper.models.lenet.none\n")
    (tree / "conf" / "train.yaml").unlink()
    sweep.slurm.output("scontrol", "release", sweep.job.partition("_")[0])
    sweep.ends()
    faults.note("files edited", steps_lost=0)
    faults.same_end(sweep.run, undisturbed)


def test_a_process_of_two_that_is_killed(sweep, tmp_path):
    sweep.slurm.environment["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
    sweep.slurm.output("deeper", "train", *faults.ARGUMENTS, "runs=undisturbed")
    [undisturbed] = tmp_path.glob("undisturbed/single/*")
    del sweep.slurm.environment["XLA_FLAGS"]
    sweep.submit("hydra.launcher.tasks_per_node=2")
    sweep.trains()
    os.kill(sweep.trainers(sweep.run)[1], signal.SIGKILL)
    wait_for(lambda: not sweep.trainers(sweep.run), "the other's end", sweep.slurm)
    sweep.slurm.until("FAILED", "COMPLETED", job=sweep.job)
    assert set(sweep.status().values()) <= {"failed", "lost"}
    sweep.cost("a process of two killed", faults.last_row(sweep.run))
    sweep.slurm.output("deeper", "sweep", "resume", "launch=detach")
    sweep.ends()
    faults.same_end(sweep.run, undisturbed)
