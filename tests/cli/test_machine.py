"""What a machine may lack: devices, a home, a readable cache, room for what is printed."""

import os
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from deeper.cli import device
from tests.cli.conftest import SMALL

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
