"""Which pixels made a detector's box: of the very score that the box has, over the photograph."""

import json
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from deeper.errors import UserError
from deeper.models.detection.faster_rcnn import faster_rcnn
from deeper.models.initializers import initialise
from deeper.models.resnet import resnet
from deeper.run import detect, see_detections
from deeper.tasks.detection import Detection
from tests.data import scenes

TASK = Detection(2, (), lambda images: images.astype(jnp.float32) / 255 - 0.5, padded=True)


@pytest.fixture
def path(monkeypatch, tmp_path):
    """A directory that stands for a run of a small detector with drawn weights."""
    net = faster_rcnn(
        resnet(8, 1, width=4, stem="stride2"), 2, channels=8, hidden=16, detections=10,
        proposals_before=(20, 20), proposals_after=(20, 20), sampled=8, sampled_anchors=8,
    )  # fmt: skip
    variables = initialise(net, 0, (64, 64, 3))
    # Scores that differ from each other, and boxes that are not their proposals.
    for name, factor in (("class", 30.0), ("box", 10.0)):
        variables["params"][name]["kernel"] *= factor
    data = SimpleNamespace(call={"canvas": [64, 64]}, name="drawn")
    config = SimpleNamespace(data=data, label="small")
    stored = SimpleNamespace(config=config, model=net, variables=variables)
    monkeypatch.setattr(see_detections.load, "open_stored", lambda *_, **__: stored)
    monkeypatch.setattr(see_detections.build, "task_of", lambda _: TASK)
    monkeypatch.setattr(see_detections, "class_names", lambda *_: ("red", "green"))
    monkeypatch.setattr(detect.data_record, "reader_of", lambda _: None)
    picture = scenes.photograph((50, 80), [(20, 10, 50, 40, 0)])
    Image.fromarray(picture).save(tmp_path / "wide.png")
    return tmp_path


@pytest.mark.long
def test_the_score_of_a_detection_is_attributed_to_pixels_of_its_photograph(path):
    out = path / "see"
    title, sheet = see_detections.draw_sheet(
        path, out, images=path / "wide.png", methods=["gradient", "grad_cam"], which=1
    )
    [record] = json.loads((out / "attribution.json").read_text())
    assert title == "small on drawn" and sheet.path.is_file()
    height, width = map(int, record["size"])
    assert (height, width) == (40, 64)
    with np.load(out / "attribution.npz") as drawn:
        label = ("red", "green").index(record["class"])
        np.testing.assert_allclose(drawn["probabilities"][0, label], record["score"], rtol=1e-4)
        assert drawn["class_names"].tolist() == ["red", "green", "background"]
        gradient = drawn["gradient/maps"][0]
    assert gradient[:height, :width].any() and not gradient[height:].any()
    assert record["box"] != record["proposal"]


def test_a_detection_that_there_is_not_is_told_with_the_photograph(path):
    with pytest.raises(UserError, match=r"wide\.png"):
        see_detections.draw_sheet(
            path, path / "see", images=path / "wide.png", methods=["gradient"], which=99
        )
