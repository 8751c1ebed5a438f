"""Strictness for the whole suite: rank promotion raises and every warning is an error."""

import os

# Four host devices for the data-parallel tests, and the CPU's flag; both before jax starts.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
).strip()
os.environ["WANDB_MODE"] = "disabled"
os.environ["JAX_PLATFORMS"] = "cpu"

from deeper.cli.xla_flags import set_cpu_flags

set_cpu_flags()

import gzip
import struct
from pathlib import Path

import jax
import numpy as np
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> Path:
    """A prepared data set in Fashion-MNIST's place: 600 + 200 tiny patterns of ten classes."""
    from deeper.data import catalogue, prepare

    root = tmp_path_factory.mktemp("data")
    originals = write_idx_originals(root / "originals", sizes={"train": 600, "test": 203})
    entry = catalogue.CATALOGUE["fashion_mnist"]
    small = entry.__class__(**{**entry.__dict__, "sizes": {"train": 600, "test": 203}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(catalogue.CATALOGUE, "fashion_mnist", small)
        patch.setattr("deeper.data.originals.verify", lambda *_: None)
        prepare.prepare("fashion_mnist", root / "prepared", originals)
    from deeper.data.sources import open_dataset

    open_dataset("fashion_mnist", root / "prepared")
    return root / "prepared"


def write_idx_originals(directory: Path, sizes: dict[str, int]) -> Path:
    """Write IDX files of noisy bars, whose place tells the class."""
    directory.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for split, n in sizes.items():
        labels = (np.arange(n) % 10).astype(np.uint8)
        images = rng.integers(0, 90, (n, 28, 28)).astype(np.uint8)
        for i, label in enumerate(labels):
            images[i, 2 * label : 2 * label + 5, 3:25] += 140
        prefix = "train" if split == "train" else "t10k"
        header = struct.pack(">IIII", 0x803, n, 28, 28)
        (directory / f"{prefix}-images-idx3-ubyte.gz").write_bytes(
            gzip.compress(header + images.tobytes(), 1)
        )
        header = struct.pack(">II", 0x801, n)
        (directory / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(
            gzip.compress(header + labels.tobytes(), 1)
        )
    return directory
