"""What a detector finds in photographs: in their own pixels, drawn, and as JSON."""

import json
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from deeper.cli import predict
from deeper.data.detection import PhotographReader, detection, tables_of
from deeper.errors import UserError
from deeper.models.detection.faster_rcnn import Detections
from deeper.run import detect
from deeper.tasks.detection import Detection
from tests.data import scenes

NAMES = ("red", "green", "blue")
TASK = Detection(3, (), lambda images: images.astype(jnp.float32), padded=True)


class FindsRed:
    """A net that finds what is red, as class 0, and answers NaN beside it."""

    @staticmethod
    def apply(variables, inputs, train):
        assert not train
        images = inputs.images
        red = (images[..., 0] > 180) & (images[..., 1] < 90)

        def ends(along):
            there = red.any(axis=along)
            size = there.shape[1]
            return there.argmax(axis=1), size - there[:, ::-1].argmax(axis=1)

        (x1, x2), (y1, y2) = ends(1), ends(2)
        box = jnp.stack([x1, y1, x2, y2], axis=-1).astype(jnp.float32)
        found = red.any(axis=(1, 2))
        none = jnp.full_like(found, False)
        return Detections(
            jnp.stack([box, box, box], axis=1),
            jnp.stack([jnp.where(found, 0.9, 0.0), found * jnp.nan, 0.0 * found], axis=1),
            jnp.stack([jnp.where(found, 0, -1), jnp.where(found, 1, -1), none - 1], axis=1),
        )


@pytest.fixture
def net(monkeypatch):
    """A detector of which no run is needed."""
    config = SimpleNamespace(
        data=SimpleNamespace(call={"canvas": [64, 64]}), train=SimpleNamespace(cpu_kernels=False)
    )
    stored = SimpleNamespace(config=config, model=FindsRed, variables={})
    monkeypatch.setattr(detect.load, "config_of", lambda *_, **__: config)
    monkeypatch.setattr(detect.load, "open_stored", lambda *_, **__: stored)
    monkeypatch.setattr(detect.device, "start_jax", lambda *_: None)
    monkeypatch.setattr(detect.build, "task_of", lambda _: TASK)
    monkeypatch.setattr(detect.data_record, "reader_of", lambda _: None)
    monkeypatch.setattr(detect, "class_names", lambda *_: NAMES)


@pytest.fixture
def folder(tmp_path):
    """Photographs of several sizes with a red object each but the third, and a damaged file."""
    photographs = {
        "a.png": ((120, 100), [(20, 30, 60, 90, 0)]),
        "b.png": ((50, 90), [(10, 5, 40, 45, 0)]),
        "c.png": ((64, 64), []),
        "d.png": ((200, 128), [(64, 100, 128, 200, 0)]),
        "e.png": ((64, 64), [(0, 0, 64, 64, 0)]),
    }
    place = tmp_path / "photographs"
    place.mkdir()
    for name, (size, objects) in photographs.items():
        Image.fromarray(scenes.photograph(size, objects)).save(place / name)
    (place / "broken.png").write_bytes(b"no picture")
    return place


def test_boxes_are_in_pixels_of_each_photograph(net, folder, tmp_path):
    files = detect.photographs_in([folder])
    found = detect.detect_files(tmp_path, files, batch_size=2)
    assert [file[-5:] for file in found.files] == ["a.png", "b.png", "c.png", "d.png", "e.png"]
    assert found.sizes == ((120, 100), (50, 90), (64, 64), (200, 128), (64, 64))
    expected = [[(20, 30, 60, 90)], [(10, 5, 40, 45)], [], [(64, 100, 128, 200)], [(0, 0, 64, 64)]]
    for boxes, scores, labels, true in zip(
        found.boxes, found.scores, found.labels, expected, strict=True
    ):
        assert len(boxes) == len(scores) == len(labels) == len(true)
        np.testing.assert_allclose(boxes, np.array(true).reshape(-1, 4), atol=3.2)
    assert len(found.left_out) == 1
    assert "broken.png" in found.left_out[0]
    assert "red 0.90" in repr(found)
    assert "c.png: nothing" in repr(found)


def test_no_readable_photograph_is_said(net, folder, tmp_path):
    with pytest.raises(UserError, match="no photograph"):
        detect.detect_files(tmp_path, [folder / "broken.png"])


def test_what_is_found_is_drawn_on_the_photograph(net, folder, tmp_path):
    found = detect.detect_files(tmp_path, [folder / "a.png"])
    drawn = found.draw(0)
    before = np.asarray(Image.open(folder / "a.png"))
    assert drawn.shape == before.shape
    assert (drawn != before).any()
    np.testing.assert_array_equal(found.draw(0, least=0.95), before)


def test_the_command_writes_json_and_drawn_photographs(net, folder, tmp_path, monkeypatch, capsys):
    config = {
        "images": str(folder), "inputs": None, "weights": str(tmp_path), "checkpoint": "last",
        "crop": None, "exif": None, "batch_size": 4, "out": str(tmp_path / "found.json"),
    }  # fmt: skip
    with pytest.raises(UserError, match=r"1 of 6 files left out:\n.*broken\.png"):
        predict.run(OmegaConf.create(config))
    records = json.loads((tmp_path / "found.json").read_text())
    assert [len(one["detections"]) for one in records] == [1, 1, 0, 1, 1]
    first = records[0]
    assert (first["width"], first["height"]) == (100, 120)
    assert first["detections"][0]["class"] == "red"
    assert first["detections"][0]["score"] == pytest.approx(0.9)
    np.testing.assert_allclose(first["detections"][0]["box"], [20, 30, 60, 90], atol=3.2)
    pictures = sorted(path.name for path in (tmp_path / "found").iterdir())
    assert pictures == ["1-a.jpg", "2-b.jpg", "3-c.jpg", "4-d.jpg", "5-e.jpg"]
    assert "5 pictures" in capsys.readouterr().out
    for wrong in ({"crop": 0.5}, {"out": str(tmp_path / "found.csv")}):
        with pytest.raises(UserError, match=r"crop|out="):
            predict.run(OmegaConf.create(config | wrong))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return scenes.prepare_coco(tmp_path_factory.mktemp("things"))


def rows_of(part, seed=0):
    """Return what the task predicts of a split whose detections are the objects."""
    batch = {name: jnp.asarray(np.asarray(column[:])) for name, column in part.columns.items()}
    scores = jnp.where(batch["labels"] >= 0, 0.5, 0.0)
    rows = TASK.predict(Detections(batch["boxes"], scores, batch["labels"]), batch)
    return {name: np.asarray(values) for name, values in rows.items()}


def test_results_have_the_data_sets_own_numbers_of_photographs_and_classes(data):
    arguments = {"dir": str(data), "folder": "things", "canvas": (48, 48), "most_boxes": 4}
    test = detection(**arguments).splits["test"]
    chosen = test.select(np.array([4, 1, 0]))
    section = {"_target_": "deeper.data.detection.detection", **arguments}
    results = TASK.results(rows_of(chosen), section, "test")
    annotations = json.loads((data.parent / "test.json").read_text())["annotations"]
    tables, _ = tables_of(str(data), "things")
    ids = tables["test"].ids[[4, 1, 0]].tolist()
    expected = [one for number in ids for one in annotations if one["image_id"] == number]
    assert [(one["image_id"], one["category_id"]) for one in results] == [
        (one["image_id"], one["category_id"]) for one in expected
    ]
    np.testing.assert_allclose(
        [one["bbox"] for one in results], [one["bbox"] for one in expected], atol=1e-3
    )


def test_results_of_what_was_held_out_of_training_have_its_numbers(data):
    arguments = {"dir": str(data), "folder": "things", "canvas": (48, 48), "most_boxes": 4}
    held = detection(**arguments).splits["train"].select(np.array([7, 3]))
    results = TASK.results(rows_of(held), arguments, "validation")
    tables, _ = tables_of(str(data), "things")
    assert {one["image_id"] for one in results} <= set(tables["train"].ids[[7, 3]].tolist())
    assert results


def test_what_is_found_of_the_objects_themselves_is_all_of_them(data):
    test = detection(str(data), "things", (48, 48), 4).splits["test"]
    numbers = TASK.summarise(rows_of(test))
    assert numbers["ap"] == numbers["voc_ap50"] == numbers["ar_100"] == 100


def test_examples_show_boxes_in_pixels_of_the_canvas(data):
    test = detection(str(data), "things", (48, 48), 4).splits["test"]
    rows = rows_of(test)
    batch = {name: np.asarray(column[:3]) for name, column in test.columns.items()}
    shown = TASK.examples(batch, rows, NAMES)
    assert shown["images"].shape == (3, 48, 48, 3)
    np.testing.assert_allclose(shown["found_boxes"], batch["boxes"], atol=1e-3)
    np.testing.assert_array_equal(shown["found_labels"], batch["labels"])


def test_a_reader_is_made_of_the_config_where_none_is_recorded(net, folder, tmp_path):
    reader = PhotographReader((64, 64), None, None, True)
    columns = reader([folder / "a.png"]).columns
    assert columns["image"].shape == (1, 64, 64, 3)
    assert detect.detect_files(tmp_path, [folder / "a.png"]).sizes == ((120, 100),)
