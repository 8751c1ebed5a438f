"""Settings of all tests: rank promotion raises, and every warning is an error."""

import gc
import os

# Four host devices for the data-parallel tests, and the CPU's flag; both before jax starts.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
).strip()
os.environ["WANDB_MODE"] = "disabled"
os.environ["JAX_PLATFORMS"] = "cpu"

from deeper.xla_flags import set_flags

set_flags()

from pathlib import Path

import jax
import pytest

from deeper.run.device import open_cache

jax.config.update("jax_numpy_rank_promotion", "raise")
# Tracing makes very many objects that live as long as their program; to look through all of them
# as often as Python does takes a good part of the tests' time.
gc.freeze()
gc.set_threshold(100_000)
# Many tests compile the same step: tests and the commands that they start share a compilation
# cache.
os.environ["DEEPER_CACHE"] = str(Path(__file__).parents[1] / ".pytest_cache" / "d" / "xla")
open_cache()

# What `scripts/test quick` runs: files in which no test compiles a program. A test there that does
# is marked @pytest.mark.compiles and left out; without the mark it fails.
QUICK = (
    "data/test_host_batches.py",
    "data/test_epoch_order.py",
    "data/test_image_files.py",
    "data/test_prepare.py",
    "data/test_unreadable.py",
    "data/test_dataset.py",
    "data/test_splitting.py",
    "data/test_tfds_prepared.py",
    "display/test_predictions.py",
    "study/test_collect.py",
    "study/test_differences.py",
    "study/test_published.py",
    "study/test_statistics.py",
    "sweep/test_code_snapshot.py",
    "tasks/test_classification.py",
    "study/test_tables.py",
    "test_experiments.py",
    "test_help.py",
    "test_platform_support.py",
    "test_version.py",
    "track/test_wandb_results.py",
    "record/test_environment.py",
    "record/test_lock.py",
    "record/test_run_directory.py",
    "weights/test_weight_files.py",
)
_compilations: list[str] = []


def _note_compilation(event: str, duration: float, **_: object) -> None:
    if event.endswith("backend_compile_duration"):
        _compilations.append(event)


jax.monitoring.register_event_duration_secs_listener(_note_compilation)


def pytest_collection_modifyitems(items):
    """Add the mark ``quick`` to the tests of quick files that must not compile."""
    here = Path(__file__).parent
    for item in items:
        file = item.path.relative_to(here).as_posix()
        if file in QUICK and item.get_closest_marker("compiles") is None:
            item.add_marker("quick")


@pytest.fixture(autouse=True)
def _quick_tests_compile_nothing(request):
    before = len(_compilations)
    yield
    if request.node.get_closest_marker("quick") and len(_compilations) > before:
        pytest.fail("This test compiles: mark it @pytest.mark.compiles (tests/README.md).")


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> Path:
    """A prepared stand-in for Fashion-MNIST: 600 + 203 random images of ten classes."""
    from deeper.data.dataset import open_dataset
    from deeper.data.prepare.prepare import prepare
    from tests.data import tiny

    root = tmp_path_factory.mktemp("data")
    sizes = {"train": 600, "test": 203}
    with pytest.MonkeyPatch.context() as patch:
        tiny.install("fashion_mnist", root / "original", patch.setitem, patch.setattr, sizes=sizes)
        prepare("fashion_mnist", root / "prepared", root / "original")
    open_dataset("fashion_mnist", root / "prepared")
    return root / "prepared"
