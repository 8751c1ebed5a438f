"""Reading the files in which data sets were published: IDX (MNIST) and CIFAR's binary form."""

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8

from deeper.data.catalogue import Entry
from deeper.errors import UserError

Arrays = tuple[UInt8[np.ndarray, "n height width channels"], Int32[np.ndarray, " n"]]


def verify(path: Path, checksum: str, content: str | None) -> None:
    """Raise a UserError unless a file is the one that was published.

    Args:
        path: the file.
        checksum: SHA-256 of the file as published.
        content: SHA-256 of what is in it, if known: another packing of the same is accepted.
    """
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found == checksum:
        return
    if content is not None:
        try:
            unpacked = hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()
        except (OSError, EOFError, zlib.error):
            unpacked = "damaged"
        if unpacked == content:
            return
    raise UserError(
        f"{path} is not the published file: its SHA-256 begins {found[:12]}, that of the published "
        f"one {checksum[:12]}. It may be cut off or changed; remove it and fetch it again."
    )


def read(entry: Entry, directory: Path) -> Iterator[tuple[str, Arrays, tuple[str, ...] | None]]:
    """Read the original files.

    Yields:
        Split name, its images and labels, and the class names where the files tell them.

    Raises:
        UserError: a file is damaged or has another size than it should.
    """
    for split, size in entry.sizes.items():
        try:
            if entry.layout == "idx":
                images, labels, names = *_read_idx(entry, directory, split), None
            else:
                images, labels, names = _read_cifar(entry, directory, split)
        except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError, KeyError) as error:
            raise UserError(
                f"The original files in {directory} cannot be read: {error}. They may be cut off; "
                "remove them and fetch them again."
            ) from error
        if len(images) != size or len(labels) != size:
            raise UserError(
                f"{directory} has {len(images)} images and {len(labels)} labels for the {split} "
                f"split; there should be {size} of each."
            )
        yield split, (images, labels), names


def _read_idx(entry: Entry, directory: Path, split: str) -> Arrays:
    prefix = "train" if split == "train" else "t10k"
    images = _idx(directory / f"{prefix}-images-idx3-ubyte.gz", 3)
    labels = _idx(directory / f"{prefix}-labels-idx1-ubyte.gz", 1)
    return images.reshape(-1, *entry.image_shape), labels.astype(np.int32)


def _idx(path: Path, axes: int) -> np.ndarray:
    """Read an IDX file of bytes (format: LeCun's MNIST page)."""
    with gzip.open(path) as stream:
        raw = stream.read()
    if raw[:4] != bytes((0, 0, 8, axes)):
        raise ValueError(f"{path.name} is no IDX file of bytes with {axes} axes")
    shape = tuple(int(n) for n in np.frombuffer(raw, ">i4", axes, 4))
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _read_cifar(
    entry: Entry, directory: Path, split: str
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...] | None]:
    """Read CIFAR's binary form: label bytes, then the red, green and blue planes."""
    ten = entry.classes == 10
    folder = "cifar-10-batches-bin" if ten else "cifar-100-binary"
    if ten:
        parts = (
            [f"data_batch_{i}.bin" for i in range(1, 6)] if split == "train" else ["test_batch.bin"]
        )
    else:
        parts = [f"{split}.bin"]
    with tarfile.open(directory / entry.files[0]) as archive:

        def member(name: str) -> bytes:
            stream = archive.extractfile(f"{folder}/{name}")
            assert stream is not None
            return stream.read()

        raw = np.frombuffer(b"".join(member(name) for name in parts), np.uint8)
        names = None if ten else tuple(member("fine_label_names.txt").decode().split())
    label_bytes = 1 if ten else 2  # CIFAR-100: coarse, then fine
    rows = raw.reshape(-1, label_bytes + 3072)
    images = rows[:, label_bytes:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return images, rows[:, label_bytes - 1].astype(np.int32), names
