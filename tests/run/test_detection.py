"""From scenes to a trained detector: it learns, resumes to the bit, and counts devices alike."""

import signal
import subprocess
import sys

import numpy as np
import pytest

import deeper
from deeper.errors import UserError
from deeper.record.schema import read_rows
from tests import faults
from tests.cli.conftest import mistake, said  # noqa: F401

OVERRIDES = (
    "model=faster_rcnn", "model.classes=2", "model@model.backbone=resnet", "model.backbone.depth=8",
    "model.backbone.width=8", "model.freeze_batch_norm=false", "model.channels=16",
    "model.hidden=32", "model.proposals_before=[60,40]", "model.proposals_after=[40,30]",
    "model.sampled=16", "model.sampled_anchors=32", "model.detections=10",
    "model.backbone.stem=stride2", "task=detection", "augment=none", "optimizer=adamw",
    "train.batch_size=4", "train.steps=6", "train.epochs=null", "train.steps_per_call=2",
    "train.log_every=2", "train.train_error_examples=8", "tracker.mode=disabled",
)  # fmt: skip


def config_of(tmp_path, *more, train=16, smaller=0):
    data = deeper.call(
        "tests.data.squares.squares", train=train, test=8, smaller=smaller, name="squares",
        input_shape=[64, 64, 3], classes=2,
    )  # fmt: skip
    return deeper.configure(*OVERRIDES, f"runs={tmp_path / 'runs'}", *more, data=data)


def losses_of(run):
    return [row["train/loss"] for _, row in read_rows(run.path) if "train/loss" in row]


# A run with a checkpoint at every other step; an epoch has four.
WHOLE = ("train.devices=1", "train.steps=20", "train.checkpoint_every=0.5")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing disturbed."""
    return deeper.train(config_of(tmp_path_factory.mktemp("whole"), *WHOLE), progress=False)


@pytest.mark.long
def test_a_stopped_detector_goes_on_to_the_same_bits_and_tells_its_average_precision(
    tmp_path, whole
):
    assert {"test/ap", "test/ap50", "test/voc07_ap50"} <= set(whole.metrics)
    config = config_of(tmp_path, *WHOLE)
    cut = deeper.train(config, progress=False, stop_asked=lambda: True)
    assert cut.status == "unfinished"
    step = faults.last_checkpoint(cut.path)
    assert 0 < step < config.train.steps and step % 4, "it was not cut in mid-epoch"
    resumed = deeper.train(config, progress=False)
    faults.same_end(resumed.path, whole.path, stopped=True)


IN_A_PROCESS = """
import sys
from pathlib import Path
import deeper
from tests.run.test_detection import WHOLE, config_of
deeper.train(config_of(Path(sys.argv[1]), *WHOLE), progress=False)
"""


@pytest.mark.long
def test_a_killed_detector_goes_on_to_the_same_bits(tmp_path, whole):
    process = subprocess.Popen([sys.executable, "-c", IN_A_PROCESS, str(tmp_path)])

    def saved():
        return any(faults.last_checkpoint(run) for run in (tmp_path / "runs").glob("*/*"))

    try:
        faults.wait_for(saved, "a checkpoint")
    finally:
        process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it was killed"
    resumed = deeper.train(config_of(tmp_path, *WHOLE), progress=False)
    faults.same_end(resumed.path, whole.path)


@pytest.mark.long
def test_devices_and_accumulation_draw_the_same_anchors_and_learn_alike(tmp_path):
    """BatchNorm is frozen: its statistics would be those of each device's images."""
    losses = []
    for more in (["train.devices=1"], ["train.devices=4"],
                 ["train.devices=2", "train.accumulate=2"]):  # fmt: skip
        config = config_of(tmp_path, "model.freeze_batch_norm=true", *more, smaller=16)
        losses.append(losses_of(deeper.train(config, progress=False)))
    assert len(losses[0]) > 1
    for other in losses[1:]:
        np.testing.assert_allclose(other, losses[0], rtol=2e-4)


@pytest.mark.long
def test_a_detector_learns_squares_and_refuses_to_be_seen_as_a_classifier(
    tmp_path,
    mistake,  # noqa: F811
):
    more = ("train.steps=150", "train.log_every=50", "train.steps_per_call=50", "train.devices=1",
            "optimizer.learning_rate=0.2", "task.padded=false", "train.batch_size=8")  # fmt: skip
    run = deeper.train(config_of(tmp_path, *more, train=64), progress=False)
    losses = losses_of(run)
    assert losses[-1] < 0.6 * losses[0]
    assert run.metrics["test/ap50"] > 20
    for refused in (
        "score=insertion",
        "other=runs/single/other",
        "inputs=texts.txt",
        "crop=center",
    ):
        assert refused in mistake("see", f"run={run.path}", "method=attribution", refused)
    assert "attribution" in mistake("see", f"run={run.path}", "method=deconv")


@pytest.mark.long
def test_a_detector_begins_from_a_classifier(tmp_path, data_dir):
    size = ("model.backbone.depth=8", "model.backbone.width=8", "model.backbone.stem=stride2")
    classifier = deeper.train(
        deeper.configure(
            "data=fashion_mnist", f"data.dir={data_dir}", "model.depth=8", "model.width=8",
            "model.stem=stride2", "train.steps=2", "train.batch_size=8", "tracker.mode=disabled",
            "data.limit=32", "data.validation=8", "train.train_error_examples=8",
            f"runs={tmp_path / 'runs'}",
        ),
        progress=False,
    )  # fmt: skip
    begins = f"init_from={classifier.path}"
    with pytest.raises(UserError):  # grey images, another first convolution
        deeper.train(config_of(tmp_path, *size, begins), progress=False)
