"""Opening prepared data sets."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deeper.data import array_cache
from deeper.data.dataset import known_size, open_dataset
from deeper.data.prepare.prepare import prepare
from deeper.errors import UserError
from tests.data import tiny


@pytest.fixture
def small(original, tmp_path) -> Path:
    """Return where a small Fashion-MNIST is prepared."""
    prepare("fashion_mnist", tmp_path / "data", original("fashion_mnist"))
    return tmp_path / "data"


def cache_of(data_dir: Path) -> Path:
    [about] = data_dir.glob("fashion_mnist/3.0.1/decoded/*/about.json")
    return about.parent


def test_images_and_labels_are_those_that_were_published(small):
    dataset = open_dataset("fashion_mnist", small)
    assert dataset.image_shape == (28, 28, 1)
    assert dataset.class_names[0] == "T-shirt/top"
    assert {name: len(split) for name, split in dataset.splits.items()} == tiny.SIZES
    for name, split in dataset.splits.items():
        images, labels = tiny.images_and_labels(name, (28, 28, 1), 10, tiny.SIZES[name])
        assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int32)
        # TFDS shuffles what it writes.
        assert sorted((i.tobytes(), n) for i, n in zip(split.images, split.labels)) == sorted(
            (i.tobytes(), n) for i, n in zip(images, labels)
        )


def test_a_second_opening_maps_what_the_first_has_decoded(small, monkeypatch):
    first = open_dataset("fashion_mnist", small)
    monkeypatch.setattr(array_cache, "_decode", None)
    second = open_dataset("fashion_mnist", small)
    assert isinstance(second.splits["train"].images, np.memmap)
    np.testing.assert_array_equal(first.splits["train"].images, second.splits["train"].images)
    assert first.fingerprint == second.fingerprint


def test_opening_imports_neither_tensorflow_nor_jax_and_tfds_only_to_decode(small):
    program = (
        "import sys; from pathlib import Path; from deeper.data.dataset import open_dataset;"
        f"open_dataset('fashion_mnist', Path({str(small)!r}));"
        "print([m for m in ('tensorflow', 'jax', 'tensorflow_datasets') if m in sys.modules])"
    )
    seen = [
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout.strip()
        for _ in range(2)
    ]
    assert seen == ["['tensorflow_datasets']", "[]"]


@pytest.mark.parametrize("file", ["train-images.npy", "test-labels.npy", "about.json"])
@pytest.mark.parametrize("damage", ["cut", "gone", "garbage"])
def test_damaged_decoded_images_are_made_again(small, file, damage):
    before = open_dataset("fashion_mnist", small)
    images = np.array(before.splits["train"].images)
    path = cache_of(small) / file
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    elif damage == "gone":
        path.unlink()
    else:
        path.write_bytes(b"garbage" * 100)
    after = open_dataset("fashion_mnist", small)
    np.testing.assert_array_equal(after.splits["train"].images, images)
    assert after.fingerprint == before.fingerprint


def test_decoded_images_of_other_files_are_not_believed(small, original):
    before = open_dataset("fashion_mnist", small)
    cache = cache_of(small)
    kept = shutil.copytree(cache, small / "kept")
    shutil.rmtree(small / "fashion_mnist")
    prepare("fashion_mnist", small, original("fashion_mnist", sizes={"train": 44, "test": 8}))
    shutil.copytree(kept, cache)
    after = open_dataset("fashion_mnist", small)
    assert len(after.splits["train"]) == 44
    assert after.fingerprint != before.fingerprint
    assert cache_of(small) != cache, "the stale images are removed"


def test_processes_that_open_at_once_get_the_same_and_decode_once(small):
    program = (
        "from pathlib import Path; import deeper.data.array_cache as d, os;"
        "real = d._decode; d._decode = lambda *a: (print('decode', flush=True), real(*a));"
        f"data = d.decoded('fashion_mnist', Path({str(small / 'fashion_mnist/3.0.1')!r}), "
        "lambda *a: None); print(data.fingerprint)"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=60)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len({output[-1] for output in outputs}) == 1
    assert sum(output.count("decode") for output in outputs) == 1
    assert not list(small.rglob("*unfinished*"))


def test_data_that_cannot_be_written_to_are_decoded_into_the_users_cache(
    small, tmp_path, monkeypatch
):
    home = tmp_path / "caches"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    writable = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: small not in path.parents and writable(path, mode)
    )
    first = open_dataset("fashion_mnist", small)
    assert len(list(home.glob("deeper/fashion_mnist-*/*/about.json"))) == 1
    assert not list(small.rglob("about.json"))
    monkeypatch.setattr(array_cache, "_decode", None)
    assert open_dataset("fashion_mnist", small).fingerprint == first.fingerprint


def test_a_full_disk_is_said_and_leaves_nothing_behind(small, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        with pytest.raises(UserError, match=r"The disk of .*decoded is full"):
            open_dataset("fashion_mnist", small)
    assert not list(small.rglob("*.npy"))
    assert len(open_dataset("fashion_mnist", small).splits["train"]) == tiny.SIZES["train"]


@pytest.mark.parametrize("damage", ["cut", "gone", "garbage", "info"])
def test_damaged_prepared_files_are_named_with_the_remedy(small, damage):
    directory = small / "fashion_mnist" / "3.0.1"
    [records] = directory.glob("*-test.array_record*")
    if damage == "cut":
        records.write_bytes(records.read_bytes()[: records.stat().st_size // 3])
    elif damage == "gone":
        records.unlink()
    elif damage == "garbage":
        records.write_bytes(b"garbage" * 10_000)
    else:
        (directory / "dataset_info.json").write_text("{")
    with pytest.raises(UserError, match=re.escape(str(directory))) as raised:
        open_dataset("fashion_mnist", small)
    assert "remove that directory and run `deeper prepare data=fashion_mnist`" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not list(directory.rglob("*.npy"))


def test_files_that_need_tensorflow_are_named_with_the_remedy(small):
    directory = small / "fashion_mnist" / "3.0.1"
    info = json.loads((directory / "dataset_info.json").read_text())
    info["fileFormat"] = "tfrecord"
    (directory / "dataset_info.json").write_text(json.dumps(info))
    for records in directory.glob("*.array_record-*"):
        records.rename(directory / records.name.replace("array_record", "tfrecord"))
    with pytest.raises(UserError, match=r"without TensorFlow \(its files are tfrecord\).*prepare"):
        open_dataset("fashion_mnist", small)


def test_a_missing_data_set_names_the_directory_and_the_command(tmp_path):
    with pytest.raises(UserError, match="run `deeper prepare data=mnist`") as raised:
        open_dataset("mnist", tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in str(raised.value)
    with pytest.raises(UserError, match="on the two tars or the tree"):
        open_dataset("imagenet", tmp_path)
    with pytest.raises(UserError, match="which says how TFDS makes it"):
        open_dataset("kmnist", tmp_path)


def test_sizes_are_known_without_the_data(tmp_path):
    assert known_size("cifar10", "train", tmp_path) == 50_000
    assert known_size("imagenet", "test", tmp_path) == 50_000
    with pytest.raises(UserError, match=r"data=folder data\.name=kmnist"):
        known_size("kmnist", "train", tmp_path)
