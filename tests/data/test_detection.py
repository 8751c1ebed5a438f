"""Prepared photographs with boxes, as the columns that a detector's task reads."""

import io
import pickle

import numpy as np
import pytest
from PIL import ExifTags, Image

from deeper.data import array_records, jpeg
from deeper.data.canvas import Canvas, FittedPhotographs
from deeper.data.detection import PhotographReader, detection, tables_of
from deeper.data.host_batches import Workers, stream
from deeper.errors import UserError
from tests.data import scenes


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return scenes.prepare_coco(tmp_path_factory.mktemp("things"))


def opened(data, **others):
    return detection(str(data), "things", **{"canvas": (48, 48), "most_boxes": 4, **others})


def test_files_are_stored_unchanged(data):
    directory = data / "things" / "1.0.0"
    tables, _ = tables_of(str(data), "things")
    records = array_records.open_records(directory, "train")
    stored = [array_records.fields(records[i])["image"] for i in range(len(records))]
    originals = [(data.parent / "train" / name).read_bytes() for name in tables["train"].names]
    assert stored == originals


def test_columns_have_one_row_a_photograph_and_keep_those_without_boxes(data):
    dataset = opened(data)
    train = dataset.splits["train"]
    assert dataset.class_names == ("red", "green", "blue")
    assert len(train) == 12
    assert len(dataset.splits["test"]) == 6
    shapes = {name: (column.shape[1:], column.dtype) for name, column in train.columns.items()}
    assert shapes == {
        "image": ((48, 48, 3), np.uint8),
        "size": ((2,), np.float32),
        "original": ((2,), np.float32),
        "boxes": ((4, 4), np.float32),
        "labels": ((4,), np.int32),
        "crowd": ((4,), bool),
        "difficult": ((4,), bool),
        "area": ((4,), np.float32),
        "number": ((), np.int32),
    }
    assert ((train.columns["labels"] >= 0).sum(axis=1) == 0).sum() == 4


@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.parametrize("shorter_side", [None, 24])
def test_a_box_of_the_canvas_is_around_its_object(data, memory, shorter_side):
    train = opened(data, memory=memory, shorter_side=shorter_side).splits["train"]
    assert isinstance(train.columns["image"], np.ndarray if memory else FittedPhotographs)
    looked_at = 0
    for i in range(len(train)):
        image = train.columns["image"][i].astype(int)
        height, width = train.columns["size"][i].astype(int)
        assert not image[height:].any()
        assert not image[:, width:].any()
        assert image[:height, :width].any(axis=2).all()
        objects = train.columns["boxes"][i][train.columns["labels"][i] >= 0]
        labels = train.columns["labels"][i]
        for (x1, y1, x2, y2), label in list(zip(objects, labels, strict=False))[-1:]:  # on top
            is_of = np.abs(image - scenes.colour(int(label))).max(axis=2) < 90
            rows, columns = np.flatnonzero(is_of.any(axis=1)), np.flatnonzero(is_of.any(axis=0))
            assert rows[0] <= y1 + 2
            assert columns[0] <= x1 + 2
            assert rows[-1] >= y2 - 3
            assert columns[-1] >= x2 - 3
            middle = image[int((y1 + y2) / 2), int((x1 + x2) / 2)]
            assert np.abs(middle - scenes.colour(int(label))).max() < 60
            looked_at += 1
    assert looked_at == 8


def test_boxes_of_the_canvas_return_to_those_of_the_photograph(data):
    test = opened(data).splits["test"]
    tables, classes = tables_of(str(data), "things")
    table = tables["test"]
    assert classes.ids == (2, 5, 9)
    scale = (test.columns["original"] / test.columns["size"])[:, None, [1, 0, 1, 0]]
    ends = table.ends
    for i, end in enumerate(ends):
        count = int(end - (ends[i - 1] if i else 0))
        back = (test.columns["boxes"] * scale)[i, :count]
        np.testing.assert_allclose(back, table.boxes[end - count : end], atol=1e-4)
        size = table.boxes[end - count : end]
        areas = 0.8 * (size[:, 2:] - size[:, :2]).prod(axis=1)
        np.testing.assert_allclose(test.columns["area"][i, :count], areas, rtol=1e-5)
    assert set(table.ids.tolist()) == {5000 + 7 * i for i in range(6)}


def test_the_fitted_size_is_the_largest_that_keeps_the_shape():
    sizes = np.array([[375, 500], [500, 375], [100, 400], [600, 600]], np.int32)
    assert Canvas(300, 300).fitted(sizes).tolist() == [
        [225, 300],
        [300, 225],
        [75, 300],
        [300, 300],
    ]
    # torchvision: the shorter side becomes 800, unless the longer one would then exceed 1333.
    assert Canvas(1344, 1344, shorter_side=800, longer_side=1333).fitted(sizes).tolist() == [
        [800, 1067],
        [1067, 800],
        [333, 1333],
        [800, 800],
    ]


def test_a_photograph_of_the_canvas_size_keeps_its_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    stream_ = io.BytesIO()
    Image.fromarray(pixels).save(stream_, "PNG")
    image = np.full((25, 30, 3), 7, np.uint8)
    assert Canvas(25, 30).show_into(image, stream_.getvalue(), "one") == (20, 30)
    np.testing.assert_array_equal(image[:20], pixels)
    assert not image[20:].any()


@pytest.mark.parametrize("processes", [False, True])
def test_batches_are_the_same_from_memory_threads_and_processes(data, processes):
    numbers = np.arange(12, dtype=np.int32).reshape(3, 4)

    def batches(split, workers):
        return list(stream(split, numbers.__getitem__, 0, stop=3, workers=workers))

    memory = batches(opened(data, memory=True).splits["train"], Workers(2))
    lazy = batches(opened(data, memory=False).splits["train"], Workers(2, processes))
    for one, other in zip(memory, lazy, strict=True):
        for name, values in one.items():
            np.testing.assert_array_equal(values, other[name], err_msg=name)


def test_a_column_of_photographs_survives_pickling_and_selection(data):
    column = opened(data, memory=False).splits["train"].columns["image"]
    chosen = np.array([3, 1])
    again = pickle.loads(pickle.dumps(column.select(chosen)))
    np.testing.assert_array_equal(again[:], column[:][chosen])


def test_splits_may_be_joined_of_stored_ones(data):
    both = opened(data, splits={"train": ["train", "test"], "test": ["test"]})
    apart = opened(data)
    assert len(both.splits["train"]) == 18
    for name in ("image", "boxes", "labels"):
        np.testing.assert_array_equal(
            both.splits["train"].columns[name][12:], apart.splits["test"].columns[name][:]
        )
    with pytest.raises(UserError, match="which has train, test"):
        opened(data, splits={"train": ["trainval"]})


def test_more_boxes_than_there_is_room_for_are_refused_with_the_number_that_fits(data):
    with pytest.raises(UserError, match=r"say data\.most_boxes=3"):
        opened(data, most_boxes=1)
    assert len(opened(data, most_boxes=3).splits["train"]) == 12


def test_the_fingerprint_is_of_files_and_boxes_and_not_of_the_canvas(data, tmp_path):
    assert opened(data).fingerprint == opened(data, canvas=(32, 64)).fingerprint
    other = scenes.prepare_coco(tmp_path)
    assert opened(other).fingerprint == opened(data).fingerprint
    path = other / "things" / "1.0.0" / "boxes-train.npz"
    with np.load(path) as arrays:
        changed = dict(arrays)
    changed["boxes"][0, 0] += 1
    np.savez(path, **changed)
    assert opened(other).fingerprint != opened(data).fingerprint


def test_a_data_set_that_is_not_prepared_names_the_command(tmp_path):
    with pytest.raises(UserError, match="deeper prepare"):
        detection(str(tmp_path), "things", (32, 32), 4)


def test_damaged_boxes_are_refused_by_name(tmp_path):
    data = scenes.prepare_coco(tmp_path)
    path = data / "things" / "1.0.0" / "boxes-test.npz"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=r"boxes-test\.npz is damaged"):
        opened(data)
    path.unlink()
    with pytest.raises(UserError, match="missing"):
        opened(data)


def test_the_reader_shows_a_photograph_as_the_data_set_does(data):
    dataset = opened(data, shorter_side=24)
    reader = PhotographReader(
        **{key: value for key, value in dataset.reader.items() if key != "_target_"}
    )
    bad = data.parent / "bad.jpg"
    bad.write_bytes(b"no picture")
    tables, _ = tables_of(str(data), "things")
    files = [data.parent / "train" / name for name in tables["train"].names[:3]]
    read = reader([*files, bad, data.parent / "absent.jpg", "a text"])
    assert len(read.left_out) == 3
    assert read.names == tuple(map(str, files))
    train = dataset.splits["train"]
    for name in ("image", "size", "original"):
        np.testing.assert_array_equal(read.columns[name], train.columns[name][:3])
    assert (read.columns["labels"] == -1).all()


@pytest.mark.parametrize("orientation", [6, 3])
def test_photographs_are_shown_upright(orientation):
    pixels = scenes.photograph((20, 30), [(0, 0, 10, 10, 0)])
    entry = Image.Exif()
    entry[ExifTags.Base.Orientation] = orientation
    stored = io.BytesIO()
    Image.fromarray(pixels).save(stored, "JPEG", quality=95, subsampling=0, exif=entry.tobytes())
    size = jpeg.size_of(stored.getvalue(), "one", exif=True)
    image = np.empty((*size, 3), np.uint8)
    assert Canvas(*size).show_into(image, stored.getvalue(), "one") == size
    expected = jpeg.decode(stored.getvalue(), 3, "one", exif=True)
    np.testing.assert_array_equal(image, expected)
