"""Killed runs and full disks: the result is that of the undisturbed run.

Faults of batch jobs are in tests/cluster, damaged checkpoints in tests/train/test_loop.py.
"""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import faults

KILLS = int(os.environ.get("DEEPER_KILLS", "4"))


@pytest.fixture(scope="module")
def train(data_dir):
    """Start the run that is disturbed here, with its directory under the given one."""
    environment = {**os.environ, "WANDB_MODE": "disabled", "DEEPER_DATA": str(data_dir)}
    environment.pop("XLA_FLAGS", None)

    def start(runs: Path) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "deeper", "train", *faults.ARGUMENTS, f"runs={runs}"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def end(process: subprocess.Popen, status: int = 0) -> str:
    """Return what a process says until it ends as expected."""
    with process:
        try:
            output = process.communicate(timeout=240)[0]
        finally:
            process.kill()
    assert process.returncode == status, output
    return output


def run_in(runs: Path) -> Path:
    return next(runs.glob("single/*"), runs)


@pytest.fixture(scope="module")
def undisturbed(train, tmp_path_factory) -> Path:
    runs = tmp_path_factory.mktemp("undisturbed")
    end(train(runs))
    return run_in(runs)


@pytest.mark.long
def test_a_run_killed_at_random_moments_ends_as_the_undisturbed_one(train, undisturbed, tmp_path):
    kills = runs = 0
    while kills < KILLS:
        place = tmp_path / str(runs)
        while kills < KILLS and killed(train(place), place, anywhere=kills % 4 == 0):
            kills += 1
        end(train(place))
        faults.same_end(run_in(place), undisturbed)
        runs += 1
        assert runs <= KILLS, "the runs end before they can be killed"


def killed(process: subprocess.Popen, runs: Path, *, anywhere: bool) -> bool:
    """Kill a run at a random moment; return whether it had not ended before.

    Args:
        process: the run's.
        runs: where its directory is, or will be.
        anywhere: most often before its first step; else once it has gone on.
    """
    begins, rows = faults.last_checkpoint(run_in(runs)), faults.last_row(run_in(runs))
    with process:
        try:
            if anywhere:
                time.sleep(random.uniform(0, 4))
            else:
                faults.wait_for(
                    lambda: faults.last_row(run_in(runs)) > rows or process.poll() == 0, "a row"
                )
                time.sleep(random.uniform(0, 0.3))
        finally:
            process.kill()
        process.communicate(timeout=60)
    if process.returncode == 0:
        return False
    run = run_in(runs)
    reached = faults.last_row(run)
    assert faults.last_checkpoint(run) >= begins
    faults.note(
        "SIGKILL",
        at=reached,
        steps_lost=max(0, reached - faults.last_checkpoint(run)),
        in_checkpoint=any(run.glob("checkpoints/*tmp*")),
    )
    return True


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.long
def test_a_run_goes_on_when_there_is_room_again(train, undisturbed, small_disk):
    process = train(small_disk)
    faults.wait_for(lambda: faults.last_row(run_in(small_disk)) >= 20, "a row")
    filler = small_disk / "filler"
    with filler.open("wb") as stream, pytest.raises(OSError, match="No space"):
        while True:
            stream.write(bytes(8192))
            stream.flush()
    output = end(process, status=2)
    assert "make room and repeat the command" in output
    run = run_in(small_disk)
    good, reached = faults.last_checkpoint(run), faults.last_row(run)
    assert good > 0
    filler.unlink()
    assert f"step {good}" in end(train(small_disk))
    faults.same_end(run, undisturbed)
    faults.note("full disk", at=reached, steps_lost=reached - good)
