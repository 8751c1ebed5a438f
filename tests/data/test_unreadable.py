"""Unreadable photographs: an error that names them, or a run without them."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from deeper.data.dataset import open_dataset
from deeper.data.encoded_images import View
from deeper.data.host_batches import stream
from deeper.data.prepare.image_folder import read_tree
from deeper.data.prepare.prepare import prepare_photographs
from deeper.data.unreadable import without_unreadable
from deeper.errors import UserError

VIEW = View((32, 32, 3), "inception", 36, antialias=True)
CUT = {"cat/03.jpg", "dog/07.jpg"}


def nothing(what, done, total):
    """Take no notice."""


@pytest.fixture
def train(tmp_path):
    """Sixty photographs, of which two are cut short behind their headers."""
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "tree" / label).mkdir(parents=True)
        for number in range(40):
            stream = io.BytesIO()
            pixels = rng.integers(0, 256, (48, 64, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(stream, "JPEG")
            name = f"{label}/{number:02d}.jpg"
            data = stream.getvalue()
            (tmp_path / "tree" / name).write_bytes(data[:-500] if name in CUT else data)
    prepare_photographs("pets", tmp_path, lambda: read_tree(tmp_path / "tree", 0.25), 3)
    return open_dataset("pets", tmp_path, view=VIEW).splits["train"]


def test_what_cannot_be_read_is_left_out_and_named_and_the_rest_stays(train):
    told = []
    kept, names = without_unreadable(train, lambda *one: told.append(one))
    assert set(names) == CUT
    assert told == [("decode train", 60, 60)]
    assert len(kept) == 58
    number = list(train.images.numbers).index(kept.images.numbers[20])
    np.testing.assert_array_equal(kept.images[20], train.images[number])
    assert kept.labels[20] == train.labels[number]


def test_batches_without_them_are_functions_of_their_number(train):
    with pytest.raises(UserError, match=r"(cat/03|dog/07)\.jpg .*data\.on_bad=skip"):
        list(stream(train, lambda batch: np.arange(60), 0, stop=1, seed=0))
    kept, _ = without_unreadable(train, nothing)

    def batches(first):
        numbers = lambda batch: (np.arange(16) + 16 * batch) % 58  # noqa: E731
        return list(stream(kept, numbers, first, stop=6, seed=0))

    for one, other in zip(batches(0)[4:], batches(4), strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])
        np.testing.assert_array_equal(one["label"], other["label"])


def test_what_was_found_is_noted_for_the_files_it_is_of(train):
    _, names = without_unreadable(train, nothing)
    told = []
    assert without_unreadable(train, lambda *one: told.append(one))[1] == names
    some, few = without_unreadable(train.select(np.arange(30)), lambda *one: told.append(one))
    assert not told and len(some) + len(few) == 30
    note = train.images.directory / "unreadable-train.json"
    noted = json.loads(note.read_text())
    assert sorted(noted["unreadable"].values()) == sorted(CUT)
    noted["files"][0][1] += 1  # of other files
    note.write_text(json.dumps(noted | {"unreadable": {}}))
    assert without_unreadable(train, lambda *one: told.append(one))[1] == names
    assert told
