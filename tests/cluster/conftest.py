"""A real Slurm of one machine for the tests here: the one of SLURM_CONF, or one that is started.

The first worker that needs it starts it for all; it ends with the test session, also a killed one.
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
SECONDS = 120  # for anything that a test waits for


@dataclass(frozen=True)
class Slurm:
    """A cluster, and a directory and data for what a test runs there.

    Attributes:
        environment: of commands and of the jobs that they submit.
        directory: the current one of both.
    """

    environment: dict[str, str]
    directory: Path

    def start(self, *command, **options) -> subprocess.Popen:
        """Start a command as a user of the cluster does."""
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
        """Return what a command says, once it has ended with the expected status."""
        with self.start(*command) as process:
            try:
                output = process.communicate(timeout=SECONDS)[0]
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert process.returncode == status, output
        return output

    def submit(self, *arguments: str) -> str:
        """Return the number of a job."""
        return self.output("sbatch", "--parsable", *arguments).strip()

    def state(self, job: str) -> str:
        """Return a job's state, RUNNING or COMPLETED, say."""
        told = self.output("scontrol", "show", "job", "--oneliner", job)
        return re.search(r"JobState=(\w+)", told)[1]

    def until(self, *states: str, job: str) -> str:
        """Wait until a job is in one of the states, and return which."""
        wait_for(lambda: self.state(job) in states, f"job {job} {' or '.join(states)}", self)
        return self.state(job)


def wait_for(true, what: str, slurm: Slurm | None = None, seconds: float = SECONDS) -> None:
    """Wait until something is true; show the queue and the jobs' logs if it does not come."""
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
    """Return a directory that the first of the session's workers to come here makes for all."""
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        told = shared / name
        if not told.exists():
            told.write_text(str(make()))
        return Path(told.read_text())


def _missing() -> str | None:
    """Return why no Slurm can be had here, or None."""
    if os.geteuid() != 0:
        return "starting a Slurm needs root; or set SLURM_CONF to one that runs"
    programs = ["munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd", "sbatch"]
    places = [*os.environ["PATH"].split(":"), "/usr/sbin", "/sbin"]
    absent = [name for name in programs if not any((Path(p) / name).exists() for p in places)]
    return f"Slurm is not installed ({', '.join(absent)}): see {SCRIPT}" if absent else None


def _start() -> Path:
    """Start a Slurm for this session; return its directory."""
    # Its sockets' paths may have no more than 107 bytes: not under pytest's directory.
    place = Path(tempfile.mkdtemp(prefix="deeper-slurm-", dir="/tmp"))
    # xdist's workers come and go; their parent is the session.
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
    """What commands and jobs find: the cluster, and a small data set in Fashion-MNIST's place."""
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
    """The partition that urgent jobs preempt, for one test at a time."""
    with _alone("low", tmp_path_factory.getbasetemp()) as name:
        yield name


@pytest.fixture
def pair(tmp_path_factory) -> Iterator[str]:
    """The partition with nodes n4 and n5, for one test at a time."""
    with _alone("pair", tmp_path_factory.getbasetemp()) as name:
        yield name


@pytest.fixture(scope="session")
def undisturbed(environment, tmp_path_factory) -> Path:
    """The run that nothing disturbs, of seed 0."""

    def make() -> Path:
        place = tmp_path_factory.mktemp("undisturbed")
        Slurm(environment, place).output("deeper", "train", *faults.ARGUMENTS)
        return next(place.glob("runs/single/*"))

    return of_session("undisturbed-run", tmp_path_factory.getbasetemp(), make)
