"""A real Slurm for the tests of this directory: that of SLURM_CONF, or one started on this machine.

The first worker that needs it starts it for all workers; it ends with the test session, even if
that is killed.
"""

import fcntl
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import faults

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "slurm" / "one-machine"
SECONDS = 120  # timeout for everything that a test waits for


@dataclass(frozen=True)
class Slurm:
    """A cluster, with a directory and data for the runs of a test.

    Attributes:
        environment: environment of commands and of the jobs that they submit.
        directory: working directory of both.
    """

    environment: dict[str, str]
    directory: Path

    def start(self, *command, **options) -> subprocess.Popen:
        """Start a command as a user of the cluster."""
        return subprocess.Popen(
            command,
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **options,
        )

    def output(self, *command: str, status: int = 0) -> str:
        """Return the output of a command that has to end with the expected status."""
        with self.start(*command) as process:
            try:
                output = process.communicate(timeout=SECONDS)[0]
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert process.returncode == status, output
        return output

    def submit(self, *arguments: str) -> str:
        """Return the id of a job."""
        return self.output("sbatch", "--parsable", *arguments).strip()

    def state(self, job: str) -> str:
        """Return the state of a job, such as RUNNING or COMPLETED."""
        told = self.output("scontrol", "show", "job", "--oneliner", job)
        return re.search(r"JobState=(\w+)", told)[1]

    def until(self, *states: str, job: str) -> str:
        """Wait until a job is in one of the states, and return the state."""
        wait_for(lambda: self.state(job) in states, f"job {job} {' or '.join(states)}", self)
        return self.state(job)


def wait_for(true, what: str, slurm: Slurm | None = None, seconds: float = SECONDS) -> None:
    """Wait until a condition is true; on a timeout, show the queue and the logs of the jobs."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            told = "" if slurm is None else slurm.output("squeue") + logs(slurm.directory)
            pytest.fail(f"waited {seconds:.0f} s for: {what}\n{told}")
        time.sleep(0.2)


def logs(directory: Path) -> str:
    """Return the last lines of all logs under a directory."""
    files = sorted(
        [*directory.rglob("*.out"), *directory.rglob("*.err"), *directory.rglob("*.log")]
    )
    return "\n".join(f"--- {file}\n{file.read_text(errors='replace')[-2000:]}" for file in files)


def of_session(name: str, base: Path, make) -> Path:
    """Return a directory that is shared by all workers of the session."""
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        told = shared / name
        if not told.exists():
            told.write_text(str(make()))
        return Path(told.read_text())


def _missing() -> str | None:
    """Return why Slurm cannot be started here, or None."""
    if os.geteuid() != 0:
        return "starting a Slurm needs root; or set SLURM_CONF to one that runs"
    programs = ["munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd", "sbatch"]
    places = [*os.environ["PATH"].split(":"), "/usr/sbin", "/sbin"]
    absent = [name for name in programs if not any((Path(p) / name).exists() for p in places)]
    return f"Slurm is not installed ({', '.join(absent)}): see {SCRIPT}" if absent else None


def _start() -> Path:
    """Start a Slurm for this session; return its directory."""
    # Paths of sockets are limited to 107 bytes, so they are not under pytest's directory.
    place = Path(tempfile.mkdtemp(prefix="deeper-slurm-", dir="/tmp"))
    # The parent of xdist's workers is the session.
    session = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    done = subprocess.run(
        [SCRIPT, "start", place, str(session)], capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, f"{SCRIPT} start: {done.stderr}"
    return place


@pytest.fixture(scope="session")
def slurm_conf(tmp_path_factory) -> str:
    """SLURM_CONF of a cluster."""
    if "SLURM_CONF" in os.environ:
        return os.environ["SLURM_CONF"]
    reason = _missing()
    if reason and os.environ.get("CI"):
        pytest.fail(f"CI has to run these tests, but {reason}")
    if reason:
        pytest.skip(reason)
    return str(of_session("slurm", tmp_path_factory.getbasetemp(), _start) / "slurm.conf")


@pytest.fixture(scope="session")
def environment(slurm_conf, data_dir) -> dict[str, str]:
    """Environment of commands and jobs: the cluster, and a small stand-in for Fashion-MNIST."""
    environment = {
        **os.environ,
        "SLURM_CONF": slurm_conf,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "WANDB_MODE": "disabled",
        "DEEPER_DATA": str(data_dir),
        "COLUMNS": "100",
    }
    for name in ("XLA_FLAGS", "PYTEST_XDIST_WORKER", "CI"):
        environment.pop(name, None)
    return environment


@pytest.fixture
def slurm(environment, tmp_path) -> Slurm:
    """A cluster, with an empty directory."""
    return Slurm(dict(environment), tmp_path)


@contextmanager
def _alone(name: str, base: Path) -> Iterator[str]:
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (shared / f"{name}.partition").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield name


@pytest.fixture
def low(tmp_path_factory) -> Iterator[str]:
    """The partition with preemptible jobs, for one test at a time."""
    with _alone("low", tmp_path_factory.getbasetemp()) as name:
        yield name


@pytest.fixture
def pair(tmp_path_factory) -> Iterator[str]:
    """The partition with nodes n4 and n5, for one test at a time."""
    with _alone("pair", tmp_path_factory.getbasetemp()) as name:
        yield name


@pytest.fixture(scope="session")
def undisturbed(environment, tmp_path_factory) -> Path:
    """The undisturbed run of seed 0."""

    def make() -> Path:
        place = tmp_path_factory.mktemp("undisturbed")
        Slurm(environment, place).output("deeper", "train", *faults.ARGUMENTS)
        return next(place.glob("runs/single/*"))

    return of_session("undisturbed-run", tmp_path_factory.getbasetemp(), make)
