"""All commands report the same cost of a run."""

import json
import re

import jax
import pytest

from deeper.config.compose import configure
from deeper.errors import UserError
from deeper.profile.macs import Summary
from deeper.run.cost import GIB, check_memory, cost_of, optimizer_values, training_bytes
from tests.cli.conftest import said  # noqa: F401

VGG = ("model=vgg", "model.depth=16", "data=imagenet", "optimizer=lamb", "train.batch_size=64")


class Device:
    """A device of this process with so much memory."""

    process_index = 0

    def __init__(self, size):
        self._size = size

    def memory_stats(self):
        return {"bytes_limit": self._size}


def test_inspect_the_dry_run_and_the_banner_agree_on_the_memory(said, monkeypatch):  # noqa: F811
    net = json.loads(said("inspect", *VGG, "format=json"))
    expected = net["totals"]["training_bytes"]["float32"]
    config = configure(*VGG, "mode=dry")
    assert cost_of(config, {}).memory == expected
    monkeypatch.setattr(jax, "devices", lambda: jax.local_devices()[:1])
    shown = said("train", *VGG, "mode=dry")
    [mebibytes] = re.findall(r"about ([\d,]+) MiB a device", shown)
    assert int(mebibytes.replace(",", "")) == round(expected / 2**20)


@pytest.mark.parametrize(("optimizer", "values"), [("sgd", 1), ("adamw", 2), ("lamb", 2)])
def test_the_optimizers_memory_is_counted(optimizer, values):
    assert optimizer_values(configure(f"optimizer={optimizer}")) == values


def test_averages_and_unlabelled_images_are_counted():
    net = Summary(parameters=100, macs=0, count_residuals=lambda: 10)
    plain = configure("train.batch_size=8")
    assert training_bytes(plain, net) == 4 * 3 * 100 + 8 * 10
    assert training_bytes(plain.replace(train={"ema": 0.9}), net) == 4 * 4 * 100 + 8 * 10
    assert training_bytes(plain, net, devices=2) == 4 * 3 * 100 + 4 * 10
    assert training_bytes(plain.replace(train={"accumulate": 4}), net) == 4 * 3 * 100 + 2 * 10


def test_a_batch_that_cannot_fit_is_refused_with_one_that_does():
    net = Summary(parameters=10, macs=0, count_residuals=lambda: 2**20)
    config = configure("train.batch_size=1000000")
    with pytest.raises(UserError, match=r"batch_size=1000000 cannot fit") as error:
        check_memory(config, net, [Device(GIB)] * 2)
    [fits] = re.findall(r"train.batch_size=(\d+) fits", str(error.value))
    [parts] = re.findall(r"train.accumulate=(\d+)", str(error.value))
    check_memory(config.replace(train={"batch_size": int(fits)}), net, [Device(GIB)] * 2)
    assert training_bytes(config.replace(train={"batch_size": int(fits)}), net, 2) <= GIB
    in_parts = config.replace(train={"accumulate": int(parts)})
    assert training_bytes(in_parts, net, 2) <= GIB


def test_no_batch_fits_a_device_that_has_no_room_for_the_net():
    with pytest.raises(UserError, match="No batch fits"):
        check_memory(configure(), Summary(2**30, 0, lambda: 1), [Device(GIB)])


def test_what_does_not_fit_is_said_before_anything_is_compiled(said):  # noqa: F811
    words = ("model=resnet", "model.depth=20", "data.validation=100", "train.batch_size=1000000")
    told = said("train", *words, status=2)
    assert "train.batch_size=1000000 cannot fit" in told


def test_the_memory_of_resnet50_is_what_its_compiled_step_takes():
    config = configure(
        "model=resnet", "model.depth=50", "data=imagenet", "train.batch_size=256",
        "train.dtype=bfloat16", "mode=dry",
    )  # fmt: skip
    # 11.23 GB of temporary values and 0.20 of state, of the step compiled for an H200.
    assert cost_of(config, {}).memory == pytest.approx(11.43e9, rel=0.15)


@pytest.mark.parametrize(("data", "size"), [("voc", 5_011), ("coco_tfds", 118_287), ("scenes", 70)])
def test_the_hours_of_a_detector_are_told_without_its_photographs(data, size, tmp_path):
    drawn = ["data.prepare.train=70"] if data == "scenes" else []
    config = configure(
        f"data={data}", f"data.dir={tmp_path}", "model=faster_rcnn", "model.backbone.depth=8",
        "model.backbone.width=4", "data.canvas=[64,64]", "train.steps=10", "train.epochs=null",
        "train.batch_size=2", "mode=dry", *drawn,
    )  # fmt: skip
    cost = cost_of(config, {})
    assert cost.plan.train_size == size and cost.images == 20
    assert cost.memory > 0 and cost.hours["A100"] > 0
    with pytest.raises(UserError):  # passes are of photographs that have to be there
        cost_of(config.replace(train={"steps": None, "epochs": 1}), {})
