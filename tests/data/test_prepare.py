"""Preparing data sets from original files, small ones written by the tests."""

import errno
import os
import re
import subprocess
import sys
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from deeper.data.catalogue import CATALOGUE
from deeper.data.dataset import open_dataset, prepared_directory
from deeper.data.prepare import atomic_directory, idx_and_cifar
from deeper.data.prepare import prepare as preparing
from deeper.data.prepare.prepare import known_entry, prepare, published_files
from deeper.errors import UserError
from tests.data import tiny

IMAGES = "train-images-idx3-ubyte.gz"


def leftovers(data_dir: Path) -> list[str]:
    """Return what is in the directory."""
    return [path.name for path in data_dir.iterdir()]


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10", "cifar100"])
def test_any_user_of_tfds_can_read_what_was_prepared(name, original, tmp_path):
    import tensorflow_datasets as tfds

    directory = prepare(name, tmp_path / "data", original(name))
    assert directory == tmp_path / "data" / name / CATALOGUE[name].version
    builder = tfds.builder_from_directory(directory)
    shape = CATALOGUE[name].image_shape
    for split, size in tiny.SIZES.items():
        images, labels = tiny.images_and_labels(split, shape, CATALOGUE[name].classes, size)
        examples = list(builder.as_data_source(split))
        assert len(examples) == size
        found = {example["image"].tobytes(): example for example in examples}
        for number, (image, label) in enumerate(zip(images, labels)):
            example = found[image.tobytes()]
            assert example["label"] == label
            if name != "fashion_mnist":
                assert example["id"] == f"{split}_{number:05d}".encode()
            if name == "cifar100":
                assert example["coarse_label"] == label % 20


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10", "cifar100"])
def test_features_are_those_of_the_builder_of_tfds(name, original, tmp_path):
    import tensorflow_datasets as tfds

    ours = tfds.builder_from_directory(prepare(name, tmp_path / "data", original(name))).info
    theirs = tfds.builder(name, data_dir=tmp_path / "theirs").info
    assert set(ours.features) == set(theirs.features)
    for key in theirs.features:
        assert ours.features[key].shape == theirs.features[key].shape
        assert ours.features[key].np_dtype == theirs.features[key].np_dtype
    assert ours.supervised_keys == theirs.supervised_keys
    assert ours.version == theirs.version
    if name == "fashion_mnist":
        assert ours.features["label"].names == theirs.features["label"].names


def test_class_names_come_from_the_archive(original, tmp_path):
    prepare("cifar100", tmp_path, original("cifar100"))
    assert open_dataset("cifar100", tmp_path).class_names[:2] == ("fine 0", "fine 1")


@pytest.mark.parametrize("name", [name for name, entry in CATALOGUE.items() if entry.files])
def test_the_catalogue_names_the_files_that_tfds_registers(name):
    assert set(CATALOGUE[name].files) <= set(published_files(name))


def test_a_second_preparation_does_nothing(original, tmp_path, monkeypatch):
    directory = prepare("fashion_mnist", tmp_path / "data", original("fashion_mnist"))
    before = {path: path.stat().st_mtime_ns for path in directory.iterdir()}
    monkeypatch.setattr(preparing, "scratch_directory", None)
    assert prepare("fashion_mnist", tmp_path / "data") == directory
    assert before == {path: path.stat().st_mtime_ns for path in directory.iterdir()}


def test_progress_is_told_and_nothing_else_is_printed(original, tmp_path, capsys):
    prepare("fashion_mnist", tmp_path / "data", original("fashion_mnist"), print)
    assert capsys.readouterr().out.splitlines() == [
        "write train 0 60",
        "write train 60 60",
        "write test 0 25",
        "write test 25 25",
    ]


# --- original files that are not right ----------------------------------------------------------


@pytest.mark.parametrize("damage", ["cut", "changed", "empty"])
def test_a_file_that_is_not_the_published_one_is_named(original, tmp_path, damage):
    directory = original("fashion_mnist")
    path = directory / IMAGES
    raw = path.read_bytes()
    path.write_bytes(
        {"cut": raw[:-100], "changed": raw[:500] + b"x" + raw[501:], "empty": b""}[damage]
    )
    with pytest.raises(UserError, match=f"{re.escape(str(path))}.* is not the published file"):
        prepare("fashion_mnist", tmp_path / "data", directory)
    assert leftovers(tmp_path / "data") == []


def test_a_file_packed_anew_is_accepted_if_its_content_is_known(original, tmp_path, monkeypatch):
    import gzip
    import hashlib
    from dataclasses import replace

    directory = original("fashion_mnist")
    content = gzip.decompress((directory / IMAGES).read_bytes())
    (directory / IMAGES).write_bytes(gzip.compress(content, 1, mtime=1))
    with pytest.raises(UserError, match="is not the published file"):
        prepare("fashion_mnist", tmp_path / "data", directory)
    entry = replace(
        CATALOGUE["fashion_mnist"], contents={IMAGES: hashlib.sha256(content).hexdigest()}
    )
    monkeypatch.setitem(CATALOGUE, "fashion_mnist", entry)
    prepare("fashion_mnist", tmp_path / "data", directory)


def test_missing_original_files_are_listed(original, tmp_path):
    directory = original("fashion_mnist")
    (directory / IMAGES).unlink()
    with pytest.raises(UserError, match=f"data.original_dir=.* lacks {IMAGES} of fashion_mnist"):
        prepare("fashion_mnist", tmp_path / "data", directory)
    with pytest.raises(UserError, match=r"lacks cifar-10-binary\.tar\.gz"):
        prepare("cifar10", tmp_path / "data", tmp_path / "nowhere")


def test_a_split_of_another_size_is_refused(original, tmp_path, monkeypatch):
    from dataclasses import replace

    directory = original("fashion_mnist")
    entry = replace(CATALOGUE["fashion_mnist"], sizes={"train": 60, "test": 26})
    monkeypatch.setitem(CATALOGUE, "fashion_mnist", entry)
    with pytest.raises(UserError, match=r"25 images and 25 labels for the test split.* 26 of each"):
        prepare("fashion_mnist", tmp_path / "data", directory)


def test_an_archive_without_its_files_is_named(original, tmp_path, monkeypatch):
    directory = original("cifar100")
    tiny.write_archive(directory / "cifar-100-binary.tar.gz", "elsewhere", {"train.bin": b""})
    monkeypatch.setattr(idx_and_cifar, "verify", lambda *arguments: None)
    with pytest.raises(UserError, match=r"original files in .* cannot be read"):
        prepare("cifar100", tmp_path / "data", directory)


def test_an_unknown_data_set_lists_the_known_ones():
    with pytest.raises(
        UserError, match="there are fashion_mnist, mnist, digits, cifar10, cifar100"
    ):
        known_entry("fashion")


# --- downloads, from a server of the test -------------------------------------------------------


class Quiet(SimpleHTTPRequestHandler):
    """Serve a directory."""

    def log_message(self, *arguments) -> None:
        """Say nothing."""


class Cut(BaseHTTPRequestHandler):
    """Promise more than is sent."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        self.wfile.write(b"beginning")

    def log_message(self, *arguments) -> None:
        """Say nothing."""


@pytest.fixture
def serve(monkeypatch):
    """Return a function that starts a server and says where it is."""
    servers = []

    def start(handler) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=partial(server.serve_forever, 0.01), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_original_files_are_fetched_and_not_kept(original, tmp_path, serve):
    url = serve(partial(Quiet, directory=tmp_path / "original"))
    original("fashion_mnist", url=url)
    told = set()
    prepare("fashion_mnist", tmp_path / "data", progress=lambda what, *counts: told.add(what))
    assert len(open_dataset("fashion_mnist", tmp_path / "data").splits["train"]) == 60
    assert f"fetch {IMAGES}" in told
    assert leftovers(tmp_path / "data") == ["fashion_mnist"]


@pytest.mark.parametrize(
    ("handler", "sentence"),
    [
        (None, r"could not be fetched from .* \(it cannot be reached: is there a network\?\)"),
        (Cut, r"could not be fetched from .* \(the connection was cut\)"),
        ("nothing there", r"could not be fetched from .* \(it answered 404 File not found\)"),
        ("another file", r"What .* sent as .* is not the published file"),
    ],
)
def test_a_failed_download_is_said_in_a_sentence(original, tmp_path, serve, handler, sentence):
    if handler is None:
        url = "http://127.0.0.1:9"  # nobody listens there
        serve(Quiet)
    elif handler is Cut:
        url = serve(Cut)
    else:
        (tmp_path / "served").mkdir()
        if handler == "another file":
            (tmp_path / "served" / IMAGES).write_bytes(b"<html>Sign in to this network</html>")
        url = serve(partial(Quiet, directory=tmp_path / "served"))
    original("fashion_mnist", url=url)
    with pytest.raises(UserError, match=sentence) as raised:
        prepare("fashion_mnist", tmp_path / "data")
    assert "data.original_dir=DIRECTORY" in str(raised.value)
    assert leftovers(tmp_path / "data") == []


# --- disks, crashes and other processes ---------------------------------------------------------


def test_a_full_disk_is_said_and_leaves_nothing_behind(original, tmp_path, monkeypatch):
    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic_directory.os, "fsync", full)
    with pytest.raises(UserError, match=r"The disk of .* is full: fashion_mnist needs about"):
        prepare("fashion_mnist", tmp_path / "data", original("fashion_mnist"))
    assert leftovers(tmp_path / "data") == []


def test_a_disk_that_fills_while_records_are_written_is_said(original, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "none", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs a root that may mount")
    try:
        directory = original("fashion_mnist", sizes={"train": 500, "test": 20})
        with pytest.raises(UserError, match="is full"):
            prepare("fashion_mnist", disk, directory)
        assert leftovers(disk) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_directory_that_cannot_be_written_to_is_named(original, tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(UserError, match=f"cannot be prepared in {re.escape(str(tmp_path))}"):
        prepare("fashion_mnist", tmp_path / "data", original("fashion_mnist"))


def test_a_directory_in_the_way_is_left_alone(original, tmp_path):
    mine = tmp_path / "data" / "fashion_mnist" / "3.0.1" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("kept")
    with pytest.raises(UserError, match=r"has no dataset_info\.json.*move it away"):
        prepare("fashion_mnist", tmp_path / "data", original("fashion_mnist"))
    assert mine.read_text() == "kept"


PROGRAM = """
import sys, time
from pathlib import Path
from deeper.data.prepare.prepare import prepare
from deeper.data.dataset import open_dataset
from tests.data import tiny

root, stop = Path(sys.argv[1]), sys.argv[2]
tiny.install_for_good("fashion_mnist", root / "original")

def progress(what, done, total):
    if what == stop:
        print("there", flush=True)
        time.sleep(60)

prepare("fashion_mnist", root / "data", root / "original", progress)
print(open_dataset("fashion_mnist", root / "data", progress).fingerprint)
"""


def start(root: Path, stop: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(root), stop],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def test_nothing_that_a_killed_process_has_left_is_believed(original, tmp_path):
    data_dir = tmp_path / "data"
    for stop in ("write test", "decode test"):
        process = start(tmp_path, stop)
        assert process.stdout is not None
        line = process.stdout.readline()
        process.kill()
        process.communicate()
        assert line == "there\n"
        assert list(data_dir.rglob(".*-unfinished-*"))
        if stop == "write test":
            assert prepared_directory("fashion_mnist", data_dir) is None
        original("fashion_mnist")
        prepare("fashion_mnist", data_dir, tmp_path / "original")
        dataset = open_dataset("fashion_mnist", data_dir)
        images, _ = tiny.images_and_labels("train", (28, 28, 1), 10, 60)
        assert np.sort(dataset.splits["train"].images.sum((1, 2, 3))).tolist() == sorted(
            images.sum((1, 2, 3)).tolist()
        )
        assert not list(data_dir.rglob(".*-unfinished-*")), "what was left is cleared away"
        if stop == "write test":  # so that the second process has something to decode
            [about] = data_dir.rglob("about.json")
            about.unlink()


def test_processes_that_prepare_at_once_all_succeed(tmp_path):
    processes = [start(tmp_path, "never") for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert len(set(outputs)) == 1
    assert leftovers(tmp_path / "data") == ["fashion_mnist"]


def test_digits_come_with_scikit_learn(tmp_path):
    from sklearn.datasets import load_digits

    prepare("digits", tmp_path)
    digits = open_dataset("digits", tmp_path)
    assert {name: len(split) for name, split in digits.splits.items()} == {
        "train": 1297,
        "test": 500,
    }
    given = load_digits()
    counts = sum(np.bincount(split.labels, minlength=10) for split in digits.splits.values())
    np.testing.assert_array_equal(counts, np.bincount(given.target))
    # Brightness of a scan is brightness of its picture, whatever the order that TFDS keeps.
    ours = np.sort(digits.splits["test"].images.mean((1, 2, 3)))
    theirs = np.sort(given.images[1297:].mean((1, 2))) * 255 / 16
    np.testing.assert_allclose(ours, theirs, atol=4.0)
