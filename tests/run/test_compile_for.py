"""Steps are compiled for devices that are not there, where the extras cuda and tpu are installed.

`experiments/bench/compiled.json` holds the figures of every net; here a few programs are compiled
anew.
"""

import importlib.util
import json
from pathlib import Path

import pytest
from jax.experimental import topologies

from deeper.config.compose import configure
from deeper.run import compile_for
from deeper.run.cost import cost_of
from deeper.train.data_parallel import BUCKET
from tests.cli.conftest import mistake, said  # noqa: F401

RECORDED = Path(__file__).parents[2] / "experiments" / "bench" / "compiled.json"
IMAGENET = ("data=imagenet", "augment=none", "train.dtype=bfloat16")
RESNET50 = (*IMAGENET, "model=resnet", "model.depth=50", "train.batch_size=256")
STEPS = {
    "lenet5": ("model=lenet5", "data=fashion_mnist", "augment=none"),
    "vgg11": (*IMAGENET, "model=vgg", "model.depth=11", "train.batch_size=64"),
    "resnet50": RESNET50,
}


def has(package):
    found = importlib.util.find_spec(package.partition(".")[0])
    return found is not None and importlib.util.find_spec(package) is not None


needs_cuda = pytest.mark.skipif(not has("jax_plugins.xla_cuda13"), reason="needs the extra cuda")


@needs_cuda
@pytest.mark.parametrize("net", STEPS)
def test_a_gpus_step_sorts_no_maps_and_convolves_channels_last(net):
    config = configure(*STEPS[net])
    found = compile_for.compile_for(config, "h200")
    program = found.program
    assert max(program.sorts, default=0) < 1000
    dtype = "bf16" if config.train.dtype == "bfloat16" else "f32"
    maps = [one.results[0] for one in program.convolutions if len(one.results[0].shape) == 4]
    assert maps
    assert {(one.dtype, one.order) for one in maps} == {(dtype, (3, 2, 1, 0))}
    predicted = cost_of(config, {}).memory
    if predicted > 1e9:
        assert predicted == pytest.approx(found.memory - found.data, rel=0.15)
    if net == "resnet50":
        assert program.kernels <= 860
        assert program.traffic <= 103e9


@needs_cuda
def test_devices_exchange_small_gradients_at_once_and_large_ones_beside_what_they_compute():
    config = configure(*STEPS["lenet5"], "train.devices=4")
    [exchanged] = compile_for.compile_for(config, "h200").program.collectives
    assert exchanged >= 4 * 61_706  # bytes: LeNet-5's parameters, and a few numbers to record
    config = configure(*STEPS["vgg11"], "train.devices=4")
    program = compile_for.compile_for(config, "h200").program
    assert len(program.collectives) > 1
    assert program.beside_collectives > len(program.collectives)


def test_the_recorded_steps_are_as_good():
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    assert len(recorded) >= 12
    for name, one in recorded.items():
        net, _, target = name.partition(" ")
        assert one["largest_sort"] <= 1024, name  # the regions of two images
        assert one.get("host_calls", 0) == 0, name
        exchanges = one["exchanges"]
        if target == "h200":
            assert not exchanges, name
        else:  # two buckets that follow each other are more than one
            assert 1 <= len(exchanges) <= 1 + 2 * sum(exchanges) / BUCKET, name
        if len(exchanges) > 1 and target == "h200x4":
            assert one["beside_exchanges"] > 0, name
        if net == "resnet50" and target == "h200":
            assert one["kernels"] <= 860
            assert one["traffic"] <= 103e9


def test_a_missing_compiler_is_told_of_with_what_installs_it(mistake, monkeypatch):  # noqa: F811
    def none(*arguments, **options):
        raise RuntimeError("JAX TPU support not installed")

    monkeypatch.setattr(topologies, "get_topology_desc", none)
    assert "scripts/setup tpu" in mistake("doctor", "compile=v5e", "train.batch_size=128")
    assert "scripts/setup cuda" in mistake("doctor", "compile=h200")
