"""Data sets, their splits, and how a prepared one is opened.

A prepared data set is a TFDS directory of array_record files. Images of one size are decoded once
into plain arrays (`array_cache`), which later runs map into memory; such a run opens its data in a
few milliseconds and does not import TFDS. Photographs of any size stay encoded (`encoded_images`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8

from deeper.data.array_cache import cached_arrays
from deeper.data.array_records import split_lengths
from deeper.data.catalogue import CATALOGUE
from deeper.data.encoded_images import Photographs, View, holds_photographs, open_photographs
from deeper.data.prepare.atomic_directory import Progress
from deeper.errors import UserError


@dataclass(frozen=True)
class Split:
    """Images and labels of one split of a data set.

    Attributes:
        images: uint8 (N, H, W, C), possibly memory-mapped, or photographs that are decoded when
            they are indexed.
        labels: int32 (N,).
    """

    images: UInt8[np.ndarray, "n height width channels"] | Photographs
    labels: Int32[np.ndarray, " n"]

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.labels)

    def select(self, which: Any) -> "Split":
        """Return a subset of the examples.

        Args:
            which: an index of a NumPy array: a slice, a mask (N,) or integers.
        """
        images = self.images
        chosen = images.select(which) if isinstance(images, Photographs) else images[which]
        return Split(chosen, self.labels[which])


@dataclass(frozen=True)
class Dataset:
    """A prepared data set.

    Attributes:
        name: name of the data set.
        splits: train and test, and others that the data set has.
        class_names: in the order of the labels.
        image_shape: (height, width, channels).
        fingerprint: SHA-256 of all images and labels; it does not depend on where or how they were
            prepared.
    """

    name: str
    splits: dict[str, Split]
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    fingerprint: str


def prepared_directory(name: str, data_dir: Path) -> Path | None:
    """Return the directory of the newest version that TFDS or `prepare` has finished, or None."""
    folder = "imagenet2012" if name == "imagenet" else name  # TFDS's name
    versions = [path.parent for path in (data_dir / folder).glob("*/dataset_info.json")]
    numbered = [v for v in versions if all(part.isdigit() for part in v.name.split("."))]
    return max(numbered, key=lambda v: [int(p) for p in v.name.split(".")], default=None)


def known_size(name: str, split: str, data_dir: Path, *, own: bool = False) -> int:
    """Return the number of examples in a split, as published or else as prepared.

    Args:
        name: name of the data set.
        split: train or test.
        data_dir: root of the prepared data sets.
        own: whether it is the user's own data set, whose name may be that of a published one.

    Raises:
        UserError: the size was not published, and the data set is not in ``data_dir``.
    """
    if name == "imagenet" and not own:
        return {"train": 1_281_167, "test": 50_000}[split]
    if name in CATALOGUE and not own:
        return CATALOGUE[name].sizes[split]
    directory = prepared_directory(name, data_dir)
    if directory is None:
        raise UserError(_missing(name, data_dir))
    return sum(split_lengths(directory)[split])


def open_dataset(
    name: str,
    data_dir: Path,
    progress: Progress = lambda what, done, total: None,
    view: View | None = None,
) -> Dataset:
    """Open a prepared data set.

    Args:
        name: name of the data set.
        data_dir: root of the prepared data sets.
        progress: called with the progress of the first opening, which decodes the images.
        view: crop and size at which photographs are shown; unused for images of one size.

    Raises:
        UserError: the data set is missing or damaged, or cannot be read without TensorFlow.
    """
    directory = prepared_directory(name, data_dir)
    if directory is None:
        raise UserError(_missing(name, data_dir))
    if holds_photographs(directory):
        if view is None:
            raise UserError(
                f"{name} holds photographs of any size: say data=folder or data=tfds and "
                f"data.name={name}, whose config tells how they are cropped."
            )
        photographs = open_photographs(directory, view, progress)
        splits = {split: Split(*part) for split, part in photographs.splits.items()}
        splits = _with_test_split(splits, name)
        shape = next(iter(splits.values())).images.shape[1:]
        return Dataset(name, splits, photographs.class_names, shape, photographs.fingerprint)
    cache = cached_arrays(name, directory, progress)
    splits = {split: Split(*part) for split, part in cache.arrays.items()}
    splits = _with_test_split(splits, name)
    return Dataset(name, splits, cache.class_names, cache.image_shape, cache.fingerprint)


def _with_test_split(splits: dict[str, Split], name: str) -> dict[str, Split]:
    """Rename the validation split to test if there is no test split, or none with labels."""
    if "validation" in splits and (name == "imagenet" or "test" not in splits):
        splits["test"] = splits.pop("validation")  # ImageNet's test labels are not public
    return splits


def _missing(name: str, data_dir: Path) -> str:
    """Return the message for a missing data set, with the command that prepares it."""
    where = f"The data set {name} is not in {data_dir.absolute()}"
    if name in CATALOGUE:
        return f"{where}: run `deeper prepare data={name}`, or say data.dir=DIRECTORY."
    if name == "imagenet":
        return (
            f"{where}: run `deeper prepare data=imagenet data.source=DIRECTORY` on the two tars or "
            "the tree of class folders, or say data.dir=DIRECTORY."
        )
    if name == "photos":
        return f"{where}: run `deeper prepare data=photos`, or say data.dir=DIRECTORY."
    return (
        f"{where}: run `deeper prepare data=folder data.name={name} data.source=DIRECTORY`, or "
        f"`deeper prepare data=tfds data.name={name}`, which says how TFDS makes it, or say "
        "data.dir=DIRECTORY."
    )
