"""Strictness for the whole suite: rank promotion raises and every warning is an error."""

import os

# Four host devices for the data-parallel tests, and the CPU's flag; both before jax starts.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
).strip()
os.environ["WANDB_MODE"] = "disabled"
os.environ["JAX_PLATFORMS"] = "cpu"

from deeper.cli.xla_flags import set_flags

set_flags()

from pathlib import Path

import jax
import pytest

from deeper.cli.device import open_cache

jax.config.update("jax_numpy_rank_promotion", "raise")
# Many tests compile the same step: those here and the commands that they start find each other's.
os.environ["DEEPER_CACHE"] = str(Path(__file__).parents[1] / ".pytest_cache" / "d" / "xla")
open_cache()


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> Path:
    """A prepared data set in Fashion-MNIST's place: 600 + 203 random images of ten classes."""
    from deeper.data.prepare import prepare
    from deeper.data.sources import open_dataset
    from tests.data import tiny

    root = tmp_path_factory.mktemp("data")
    sizes = {"train": 600, "test": 203}
    with pytest.MonkeyPatch.context() as patch:
        tiny.install("fashion_mnist", root / "original", patch.setitem, patch.setattr, sizes=sizes)
        prepare("fashion_mnist", root / "prepared", root / "original")
    open_dataset("fashion_mnist", root / "prepared")
    return root / "prepared"
