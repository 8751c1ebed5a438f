"""Reads original files: IDX (MNIST), the binary version of CIFAR, and scikit-learn's digits."""

import gzip
import hashlib
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image

from deeper.data.catalogue import CifarArchive, Entry
from deeper.errors import UserError


@dataclass(frozen=True)
class OriginalSplit:
    """One split as it was published, in its original order.

    Attributes:
        images: uint8 (N, H, W, C).
        labels: feature ("label", and CIFAR-100's "coarse_label") -> int32 (N,).
        ids: names of the images, if the TFDS builder gives them any.
    """

    images: UInt8[np.ndarray, "n height width channels"]
    labels: dict[str, Int32[np.ndarray, " n"]]
    ids: tuple[str, ...] | None


@dataclass(frozen=True)
class Originals:
    """A data set as it was published.

    Attributes:
        splits: name -> split.
        class_names: feature -> names in the order of its labels.
    """

    splits: dict[str, OriginalSplit]
    class_names: dict[str, tuple[str, ...]]


def as_published(path: Path, checksum: str, content: str | None = None) -> bool:
    """Return whether a file is the published one.

    Args:
        path: the file.
        checksum: SHA-256 of the published file.
        content: SHA-256 of its decompressed content, if known; a file with this content is accepted
            however it is compressed.
    """
    raw = path.read_bytes()
    if hashlib.sha256(raw).hexdigest() == checksum:
        return True
    if content is None:
        return False
    try:
        return hashlib.sha256(gzip.decompress(raw)).hexdigest() == content
    except (OSError, EOFError, zlib.error):
        return False


def verify(path: Path, checksum: str, content: str | None = None) -> None:
    """Raise a UserError unless a file is the published one; see `as_published`."""
    if not as_published(path, checksum, content):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        raise UserError(
            f"{path} ({path.stat().st_size:,} bytes) is not the published file: its SHA-256 begins "
            f"{digest[:12]}, that of the published one {checksum[:12]}. It is cut off or changed; "
            "remove it and fetch it again."
        )


def read(entry: Entry, directory: Path) -> Originals:
    """Read the original files of a data set.

    Args:
        entry: entry of the data set in the catalogue.
        directory: directory of the original files; unused for data that scikit-learn has.

    Raises:
        UserError: a file is damaged, or has an unexpected number of examples.
    """
    if not entry.files:
        return _sklearn_digits(entry)
    try:
        if entry.archive is not None:
            originals = _read_cifar(entry.archive, directory / entry.files[0])
        else:
            assert entry.class_names is not None
            splits = {split: _read_idx(entry, directory, split) for split in entry.sizes}
            originals = Originals(splits, {"label": entry.class_names})
    except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError, KeyError) as error:
        raise UserError(
            f"The original files in {directory} cannot be read: {error}. They may be cut off; "
            "remove them and fetch them again."
        ) from error
    for name, size in entry.sizes.items():
        split = originals.splits[name]
        counts = [len(split.images), *(len(labels) for labels in split.labels.values())]
        if any(count != size for count in counts):
            raise UserError(
                f"{directory} has {counts[0]} images and {counts[1]} labels for the {name} split; "
                f"there should be {size} of each."
            )
    return originals


def _sklearn_digits(entry: Entry) -> Originals:
    """Return scikit-learn's digits, enlarged; the last ones, by other writers, are the test split.

    The images of 8x8 pixels in 17 shades are scaled to 256 shades and resized bilinearly (Pillow).
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    size = (entry.image_shape[1], entry.image_shape[0])
    enlarged = [Image.fromarray(scan).resize(size, Image.Resampling.BILINEAR) for scan in grey]
    images = np.stack([np.asarray(picture) for picture in enlarged])[..., None]
    labels = digits.target.astype(np.int32)
    cut = entry.sizes["train"]
    splits = {"train": slice(cut), "test": slice(cut, None)}
    names = entry.class_names or ()
    return Originals(
        {
            name: OriginalSplit(images[part], {"label": labels[part]}, None)
            for name, part in splits.items()
        },
        {"label": names},
    )


def _read_idx(entry: Entry, directory: Path, split: str) -> OriginalSplit:
    prefix = "train" if split == "train" else "t10k"
    images = _idx(directory / f"{prefix}-images-idx3-ubyte.gz", 3)
    labels = _idx(directory / f"{prefix}-labels-idx1-ubyte.gz", 1)
    return OriginalSplit(
        images.reshape(-1, *entry.image_shape), {"label": labels.astype(np.int32)}, None
    )


def _idx(path: Path, axes: int) -> np.ndarray:
    """Read a compressed IDX file of unsigned bytes (format: LeCun's MNIST page)."""
    with gzip.open(path) as stream:
        raw = stream.read()
    if raw[:4] != bytes((0, 0, 8, axes)):
        raise ValueError(f"{path.name} is no IDX file of bytes with {axes} axes")
    shape = tuple(int(n) for n in np.frombuffer(raw, ">i4", axes, 4))
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _read_cifar(archive: CifarArchive, path: Path) -> Originals:
    """Read the binary version of CIFAR: label bytes, then the red, green and blue planes."""
    with tarfile.open(path) as tar:

        def member(name: str) -> bytes:
            stream = tar.extractfile(f"{archive.folder}/{name}")
            if stream is None:
                raise ValueError(f"{name} in {path.name} is no file")
            return stream.read()

        # A compressed archive is read sequentially: each part once, in the order of the images.
        raw = {
            split: np.frombuffer(b"".join(map(member, parts)), np.uint8)
            for split, parts in archive.parts.items()
        }
        class_names = {
            feature: tuple(line for line in member(file).decode().split("\n") if line)
            for feature, file in archive.labels.items()
        }
    splits = {}
    count = len(archive.labels)  # label bytes per image
    for split, data in raw.items():
        rows = data.reshape(-1, count + 3072)
        images = rows[:, count:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        labels = {
            feature: rows[:, byte].astype(np.int32) for byte, feature in enumerate(archive.labels)
        }
        ids = tuple(f"{split}_{number:05d}" for number in range(len(rows)))
        splits[split] = OriginalSplit(images, labels, ids)
    return Originals(splits, class_names)
