"""The TensorBoard event file of a run."""

import io
import struct
import sys

import numpy as np
import pytest
from PIL import Image

from deeper.errors import UserError
from deeper.record.run_directory import RunDirectory
from deeper.track.tensorboard_events import require_writer
from deeper.track.tracker import Tracker
from tests.track.conftest import config_of, row

needs_writer = pytest.mark.usefixtures("writer")


@pytest.fixture
def writer():
    pytest.importorskip("tensorboardX", reason="needs the extra tensorboard, see .ci/run")


def config():
    values = config_of("disabled")
    values["tracker"]["tensorboard"] = True
    return values


def leg(path, steps, resumed_from=0, status="interrupted", evaluated=()):
    """Record the steps of one leg of a run."""
    with RunDirectory.open(path, config(), "0123abcd") as directory:
        directory.truncate_after(resumed_from)
        tracker = Tracker.start(directory, config(), pytest.fail)
        for step in steps:
            if step in evaluated:
                tracker.write_predictions(step, predictions())
                tracker.write_histograms(step, histograms())
                tracker.log(row(step) | {"validation/error": 10.0 / step})
            else:
                tracker.log(row(step))
        if status == "finished":
            directory.write_result({"status": "finished", "metrics": {"test/error": 13.5}})
        tracker.finish(status)


def predictions():
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1), dtype=np.uint8)
    return {
        "images": images,
        "labels": np.array([0, 1]),
        "predictions": np.array([0, 0]),
        "confidences": np.array([0.75, 0.5]),
        "class_names": ("cat", "dog"),
    }


def histograms():
    edges = np.array([[0.0, 1.0, 2.0]], np.float32)
    return {"names": np.array(["weights/stem"]), "counts": np.array([[3, 4]]), "edges": edges}


def events(path):
    """Return (tag, step, value) of the event file in a run directory."""
    from tensorboardX.proto.event_pb2 import Event

    [file] = (path / "tensorboard").glob("events.out.tfevents.*")
    content, place, found = file.read_bytes(), 0, []
    while place < len(content):
        (length,) = struct.unpack("<Q", content[place : place + 8])
        event = Event()
        event.ParseFromString(content[place + 12 : place + 12 + length])
        found += [(value.tag, event.step, value) for value in event.summary.value]
        place += 12 + length + 4
    return found


def scalars(path, tag):
    return {step: value.simple_value for name, step, value in events(path) if name == tag}


@needs_writer
def test_an_event_file_has_every_number_at_its_step(path, no_account):
    leg(path, range(1, 21), status="finished")
    loss = scalars(path, "train/loss")
    assert list(loss) == list(range(1, 21))
    assert loss[5] == pytest.approx(row(5)["train/loss"])
    assert scalars(path, "test/error") == {20: 13.5}
    assert not (path / "wandb").exists()


@needs_writer
def test_a_run_that_went_on_has_each_row_once(path, no_account):
    leg(path, range(1, 11))
    leg(path, range(6, 16), resumed_from=5)
    steps = [step for tag, step, _ in events(path) if tag == "train/loss"]
    assert steps == list(range(1, 16))


@needs_writer
def test_predictions_and_histograms_are_in_the_event_file(path, no_account):
    leg(path, range(1, 5), evaluated=[2, 4])
    shown = {(tag, step): value for tag, step, value in events(path)}
    picture = Image.open(io.BytesIO(shown["predictions/1", 4].image.encoded_image_string))
    np.testing.assert_array_equal(
        np.asarray(picture.convert("L")), predictions()["images"][1, ..., 0]
    )
    histogram = shown["weights/stem", 2].histo
    assert list(histogram.bucket) == [3.0, 4.0]
    assert (histogram.min, histogram.max, histogram.num) == (0.0, 2.0, 7.0)
    [text] = shown["predictions/text_summary", 4].tensor.string_val
    assert "dog, taken for cat" in text.decode()


def test_a_missing_writer_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UserError, match="scripts/setup tensorboard"):
        require_writer()
