"""Small data sets in the published formats of real ones, for tests of their preparation."""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from deeper.data.catalogue import CATALOGUE
from deeper.data.prepare import prepare
from deeper.data.prepare.prepare import Published

SIZES = {"train": 60, "test": 25}


def images_and_labels(split: str, shape: tuple[int, ...], classes: int, size: int):
    """Return random images uint8 (N, H, W, C) and labels int (N,), equal at every call."""
    rng = np.random.default_rng([size, len(split), classes])
    images = rng.integers(0, 256, (size, *shape), np.uint8)
    return images, rng.integers(0, classes, size)


def write_fashion_mnist(directory: Path, sizes: dict[str, int]) -> None:
    """Write IDX files."""
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = images_and_labels(split, (28, 28, 1), 10, sizes[split])
        for kind, data, shape in (
            ("images-idx3", images, images.shape[:3]),
            ("labels-idx1", labels, labels.shape),
        ):
            head = bytes((0, 0, 8, len(shape))) + np.array(shape, ">i4").tobytes()
            raw = head + data.astype(np.uint8).tobytes()
            (directory / f"{prefix}-{kind}-ubyte.gz").write_bytes(gzip.compress(raw, mtime=0))


def write_cifar100(directory: Path, sizes: dict[str, int]) -> None:
    """Write CIFAR-100's archive; the coarse label is the fine one modulo 20."""
    members = {
        "coarse_label_names.txt": "".join(f"coarse {i}\n" for i in range(20)).encode(),
        "fine_label_names.txt": "".join(f"fine {i}\n" for i in range(100)).encode(),
    }
    for split, size in sizes.items():
        images, labels = images_and_labels(split, (32, 32, 3), 100, size)
        planes = images.transpose(0, 3, 1, 2).reshape(size, -1)
        rows = np.column_stack([labels % 20, labels, planes]).astype(np.uint8)
        members[f"{split}.bin"] = rows.tobytes()
    write_archive(directory / "cifar-100-binary.tar.gz", "cifar-100-binary", members)


def write_cifar10(directory: Path, sizes: dict[str, int]) -> None:
    """Write CIFAR-10's archive, its training split in five parts."""
    names = CATALOGUE["fashion_mnist"].class_names
    assert names is not None
    members = {"batches.meta.txt": ("\n".join(names) + "\n\n").encode()}
    for split, size in sizes.items():
        images, labels = images_and_labels(split, (32, 32, 3), 10, size)
        planes = images.transpose(0, 3, 1, 2).reshape(size, -1)
        rows = np.column_stack([labels, planes]).astype(np.uint8)
        if split == "test":
            members["test_batch.bin"] = rows.tobytes()
        else:
            for part, some in enumerate(np.array_split(rows, 5), 1):
                members[f"data_batch_{part}.bin"] = some.tobytes()
    write_archive(directory / "cifar-10-binary.tar.gz", "cifar-10-batches-bin", members)


def write_archive(path: Path, folder: str, members: dict[str, bytes]) -> None:
    """Write a compressed tar file."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


WRITERS = {
    "fashion_mnist": write_fashion_mnist,
    "cifar10": write_cifar10,
    "cifar100": write_cifar100,
}


def install(
    name: str,
    directory: Path,
    set_item: Callable[[Any, str, Any], None],
    set_attribute: Callable[[Any, str, Any], None],
    sizes: dict[str, int] = SIZES,
    url: str = "http://127.0.0.1:9",
) -> None:
    """Write a small data set, and patch the checksums so that it passes as the published one.

    Args:
        name: name in the catalogue.
        directory: for the original files.
        set_item: sets an item of a mapping, such as pytest's ``monkeypatch.setitem``.
        set_attribute: sets an attribute, such as pytest's ``monkeypatch.setattr``.
        sizes: split -> number of examples.
        url: address of the published files.
    """
    directory.mkdir(parents=True, exist_ok=True)
    WRITERS[name](directory, sizes)
    entry = replace(CATALOGUE[name], sizes=sizes, contents={}, debian=None)
    published = {}
    for file in entry.files:
        raw = (directory / file).read_bytes()
        published[file] = Published(f"{url}/{file}", hashlib.sha256(raw).hexdigest(), len(raw))
    set_item(CATALOGUE, name, entry)
    set_attribute(prepare, "published_files", lambda asked: published if asked == name else {})


def install_for_good(name: str, directory: Path) -> None:
    """Run `install` in a separate process."""
    install(name, directory, lambda mapping, key, value: mapping.update({key: value}), setattr)
