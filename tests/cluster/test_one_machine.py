"""The Slurm of scripts/slurm/one-machine works as the tests of faults need it."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.cluster.conftest import SCRIPT, wait_for

SLEEPS = "#!/bin/bash\necho start ${SLURM_RESTART_COUNT:-0} on $(hostname)\nsleep 60\n"


def test_an_urgent_job_preempts_a_low_one_which_is_requeued(slurm, low):
    (slurm.directory / "sleeps").write_text(SLEEPS)
    low = slurm.submit("-p", low, "-c", "4", "-o", "low.out", "--open-mode=append", "sleeps")
    slurm.until("RUNNING", job=low)
    slurm.output("srun", "-p", "urgent", "-c", "4", "true")
    said = slurm.directory / "low.out"
    wait_for(lambda: "start 1 on n3" in said.read_text(), "the second start", slurm)
    slurm.output("scancel", low)
    assert "PREEMPTED" in slurm.output("sacct", "-X", "-n", "-D", "-j", low, "-o", "state")


def test_a_slurm_starts_over_a_broken_one_and_ends_with_its_owner(slurm_conf):
    def pids():
        return {file.stem: int(file.read_text()) for file in (place / "run").glob("*.pid")}

    with (
        tempfile.TemporaryDirectory(prefix="deeper-slurm-", dir="/tmp") as directory,
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"]) as owner,
    ):
        place = Path(directory)
        start = [SCRIPT, "start", place, str(owner.pid)]
        subprocess.run(start, check=True, timeout=120)
        first = pids()
        for name in ("slurmctld", "munged"):
            os.kill(first[name], signal.SIGKILL)
        subprocess.run(start, check=True, timeout=120)
        second = pids()
        assert len(second) == 9
        owner.kill()
        owner.wait()
        every = [*first.values(), *second.values()]
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in every), "its end")
