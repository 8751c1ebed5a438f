"""Machines without devices, home directory, readable cache or disk space for output."""

import os
import resource
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from deeper.cli.stop_signals import asking_to_stop
from deeper.errors import UserError
from deeper.run import device
from deeper.train.checkpoint import Checkpoints
from tests import faults
from tests.cli.conftest import SMALL, command

# Root's rights on files, without root's entry in the list of users.
NOBODY = [
    "setpriv", "--reuid=12345", "--clear-groups",
    "--inh-caps=+dac_override,+dac_read_search", "--ambient-caps=+dac_override,+dac_read_search",
]  # fmt: skip


def test_doctor_explains_a_platform_without_its_plugin(mistake, monkeypatch):
    def none():
        raise AssertionError

    monkeypatch.setattr(jax, "devices", none)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    said = mistake("doctor")
    assert "JAX_PLATFORMS=cuda" in said
    assert "slurm" in said, "the other lines are there too"


@pytest.fixture
def homeless(tmp_path):
    """Run the command as a user without a home whom nothing knows, as in a container."""
    if os.geteuid() != 0 or subprocess.run([*NOBODY, "true"], capture_output=True).returncode:
        pytest.skip("to be another user needs root")

    def run(*arguments, **variables):
        environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "DEEPER_CACHE")}
        environment |= {"PYTHONDONTWRITEBYTECODE": "1", **variables}
        return subprocess.run(
            [*NOBODY, sys.executable, "-m", "deeper", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )

    return run


@pytest.mark.long
def test_a_user_without_a_home_trains(homeless, data_dir, tmp_path):
    done = homeless(
        "train", *SMALL, "train.epochs=null", "train.steps=2",
        DEEPER_DATA=str(data_dir), WANDB_MODE="offline",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert list(tmp_path.glob("runs/single/*/result.json"))


@pytest.fixture
def own_cache():
    """Put the suite's cache back afterwards."""
    yield
    device.open_cache()


def test_a_compilation_cache_of_the_users_own_is_used(tmp_path, monkeypatch, own_cache):
    with monkeypatch.context() as patch:
        patch.delenv("DEEPER_CACHE")
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "jax"))
        assert device.cache_directory() == tmp_path / "jax"
        patch.setenv("DEEPER_CACHE", str(tmp_path / "ours"))
        assert device.cache_directory() == tmp_path / "ours"
        patch.setenv("DEEPER_TUNED", str(tmp_path / "tuned"))
        assert device.cache_directory() == tmp_path / "tuned" / "programs"


def test_no_run_sees_the_kernels_that_another_has_chosen():
    device.open_cache()
    assert jax.config.jax_persistent_cache_enable_xla_caches == "none"


def test_a_damaged_entry_of_the_compilation_cache_is_replaced(tmp_path, monkeypatch, own_cache):
    def compile_it():
        compilation_cache.reset_cache()
        jax.clear_caches()
        jax.jit(lambda x: jnp.sin(x) * 3)(jnp.ones(7)).block_until_ready()

    with monkeypatch.context() as patch, warnings.catch_warnings(record=False):
        warnings.simplefilter("always")
        patch.setenv("DEEPER_CACHE", str(tmp_path))
        device.open_cache()
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        compile_it()
        entries = sorted(tmp_path.glob("*-cache"))
        assert entries
        whole = [entry.read_bytes() for entry in entries]
        for entry in entries:
            entry.write_bytes(entry.read_bytes()[:100])
        compile_it()
        assert [len(entry.read_bytes()) > 100 for entry in entries] == [len(w) > 100 for w in whole]
        assert device.remove_damaged(tmp_path) == 0


TWO_STEPS = ("train.epochs=null", "train.steps=2")


@pytest.mark.long
def test_a_run_whose_output_nobody_reads_any_more_finishes(start, tmp_path):
    process = start("train", *SMALL, *TWO_STEPS, wait=False)
    process.stdout.readline()
    process.stdout.close()  # as `| head -1` does
    assert process.wait(timeout=240) == 0
    assert list(tmp_path.glob("runs/single/*/result.json"))


def test_a_run_whose_log_is_on_a_full_disk_finishes(data_dir, tmp_path):
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            command("train", *SMALL, *TWO_STEPS),
            cwd=tmp_path,
            env=os.environ | {"DEEPER_DATA": str(data_dir)},
            stdout=full,
            stderr=full,
        )
    assert done.returncode == 0
    assert list(tmp_path.glob("runs/single/*/result.json"))


def test_a_result_that_is_printed_on_a_full_disk_is_no_success(tmp_path):
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            command("--help"), stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )
    assert done.returncode == 2
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_a_run_whose_terminal_is_closed_stops_at_a_checkpoint(start, tmp_path):
    process = start(
        "train", *SMALL, "train.epochs=null", "train.steps=100000", "train.steps_per_call=5",
        wait=False,
    )  # fmt: skip
    faults.wait_for(lambda: list(tmp_path.glob("runs/single/*/metrics.jsonl")), "a row")
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGHUP)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 75, output
    [run] = tmp_path.glob("runs/single/*")
    assert faults.last_checkpoint(run) > 0


def test_what_nohup_keeps_away_stops_nothing():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signal.SIGHUP not in asking_to_stop()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signal.SIGHUP in asking_to_stop()


def test_a_sweep_into_a_place_that_cannot_be_written_to_is_a_sentence(mistake, tmp_path):
    (tmp_path / "file").write_text("")
    said = mistake("train", "-m", "model=lenet5", "seed=0,1", f"runs={tmp_path}/file/runs")
    assert "Not a directory" in said
    place = tmp_path / "read-only"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting needs root")
    try:
        assert "Read-only file system" in mistake(
            "train", "-m", "model=lenet5", "seed=0,1", f"runs={place}"
        )
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@faults.with_writes_given_up
def test_a_checkpoint_beyond_the_limit_of_a_files_size_is_a_sentence(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", device.one())
    noise = np.random.default_rng(0).normal(size=200_000).astype(np.float32)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
    try:
        with pytest.raises(UserError, match="ulimit -f"):
            checkpoints.save_variables({"params": {"kernel": noise}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    checkpoints.close()
