"""The real Fashion-MNIST, where Debian's package dataset-fashion-mnist is installed."""

import gzip
import hashlib
import runpy
import struct
from pathlib import Path

import numpy as np
import pytest
import yaml

from deeper.data.catalogue import CATALOGUE
from deeper.data.dataset import open_dataset
from deeper.data.prepare.idx_and_cifar import read
from deeper.data.prepare.prepare import prepare, published_files
from deeper.data.splitting import hold_out

ENTRY = CATALOGUE["fashion_mnist"]
assert ENTRY.debian is not None
DEBIAN = Path(ENTRY.debian[0])
CONF = Path(__file__).parents[2] / "conf" / "data" / "fashion_mnist.yaml"

pytestmark = pytest.mark.skipif(
    not DEBIAN.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed"
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    place = tmp_path_factory.mktemp("prepared")
    prepare("fashion_mnist", place)  # from the package, which it finds
    return place


def test_the_packages_files_are_the_published_ones_under_another_header():
    # Debian has replaced the gzip header: it has lost the name and the time, which was this.
    times = {"train": 1504176606, "t10k": 1504176627}  # 31 August 2017
    published = published_files("fashion_mnist")
    for file in ENTRY.files:
        raw = (DEBIAN / file).read_bytes()
        name = file.removesuffix(".gz").encode() + b"\0"
        head = struct.pack("<4BI2B", 0x1F, 0x8B, 8, 8, times[file.split("-")[0]], 0, 3) + name
        assert hashlib.sha256(head + raw[10:]).hexdigest() == published[file].checksum
        assert hashlib.sha256(gzip.decompress(raw)).hexdigest() == ENTRY.contents[file]


def test_the_draws_of_labels_are_the_listed_ones(prepared, monkeypatch):
    monkeypatch.setenv("DEEPER_DATA", str(prepared))
    folder = Path(__file__).parents[2] / "experiments" / "uda"
    lines = runpy.run_path(str(folder / "draws.py"))["lines"]()
    assert lines == (folder / "draws.csv").read_text().splitlines()


def test_the_originals_have_the_published_sizes_labels_and_statistics():
    splits = read(ENTRY, DEBIAN).splits
    assert {name: len(split.images) for name, split in splits.items()} == ENTRY.sizes
    # As in the table of examples of the authors' page.
    assert splits["train"].labels["label"][:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    assert splits["test"].labels["label"][:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
    conf = yaml.safe_load(CONF.read_text())
    pixels = splits["train"].images.astype(np.float64) / 255
    assert [round(pixels.mean(), 4)] == conf["mean"]
    assert [round(pixels.std(), 4)] == conf["std"]


def test_prepared_it_has_every_original_image_once_in_the_order_of_tfds(prepared):
    dataset = open_dataset("fashion_mnist", prepared)
    for name, original in read(ENTRY, DEBIAN).splits.items():
        split = dataset.splits[name]
        both = [
            np.sort(_hashes(split.images, split.labels)),
            np.sort(_hashes(original.images, original.labels["label"])),
        ]
        np.testing.assert_array_equal(*both)
    assert dataset.splits["train"].labels[:10].tolist() == [2, 1, 8, 4, 1, 9, 2, 2, 0, 2]
    assert dataset.splits["test"].labels[:10].tolist() == [4, 4, 9, 7, 5, 1, 0, 5, 7, 4]
    train, validation = hold_out(dataset.splits["train"], 5000)
    assert np.bincount(train.labels).tolist() == [5500] * 10
    assert np.bincount(validation.labels).tolist() == [500] * 10


def _hashes(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return a number for each image and label; equal ones get equal numbers."""
    weights = np.random.default_rng(0).integers(0, 2**40, images[0].size, np.int64)
    flat = images.reshape(len(images), -1)
    parts = [chunk.astype(np.int64) @ weights for chunk in np.array_split(flat, 20)]
    return np.concatenate(parts) * 10 + labels
