"""Opening a prepared data set as arrays.

The TFDS directory of array_record files is the data set. Decoded once, its images lie beside it as
plain arrays, which later runs map into memory: a run opens its data in a few milliseconds and
never imports TFDS.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8

from deeper.data.array_cache import decoded
from deeper.data.array_records import split_lengths
from deeper.data.catalogue import CATALOGUE
from deeper.data.encoded_images import Photographs, View, holds_photographs, open_photographs
from deeper.data.prepare.atomic_directory import Progress
from deeper.errors import UserError


@dataclass(frozen=True)
class Split:
    """Images and labels of one part of a data set.

    Attributes:
        images: uint8 (N, H, W, C), possibly mapped into memory, or what decodes them.
        labels: int32 (N,).
    """

    images: UInt8[np.ndarray, "n height width channels"] | Photographs
    labels: Int32[np.ndarray, " n"]

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.labels)

    def select(self, which: Any) -> "Split":
        """Return some of the examples; which are chosen as from an array."""
        images = self.images
        some = images.select(which) if isinstance(images, Photographs) else images[which]
        return Split(some, self.labels[which])


@dataclass(frozen=True)
class Dataset:
    """A prepared data set.

    Attributes:
        name: in the catalogue.
        splits: train and test.
        class_names: in the order of the labels.
        image_shape: (height, width, channels).
        fingerprint: SHA-256 of all images and labels, the same wherever they were prepared.
    """

    name: str
    splits: dict[str, Split]
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    fingerprint: str


def prepared_directory(name: str, data_dir: Path) -> Path | None:
    """Return the newest version that TFDS or `prepare` has finished, if there is one."""
    folder = "imagenet2012" if name == "imagenet" else name  # TFDS's name
    versions = [path.parent for path in (data_dir / folder).glob("*/dataset_info.json")]
    numbered = [v for v in versions if all(part.isdigit() for part in v.name.split("."))]
    return max(numbered, key=lambda v: [int(p) for p in v.name.split(".")], default=None)


def known_size(name: str, split: str, data_dir: Path, *, own: bool = False) -> int:
    """Return the number of examples in a split: as it was published, or as it was prepared.

    Args:
        name: of the data set.
        split: train or test.
        data_dir: root of the prepared data sets.
        own: whether it is a folder of the user's, whatever it is called.
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
        name: in the catalogue.
        data_dir: root of the prepared data sets.
        progress: told how far the first opening, which decodes the images, is.
        view: how photographs are shown; images of one size are shown as they are.

    Raises:
        UserError: it is not there, or not readable without TensorFlow.
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
        opened = open_photographs(directory, view, progress)
        parts = _tested({split: Split(*part) for split, part in opened.splits.items()}, name)
        shape = next(iter(parts.values())).images.shape[1:]
        return Dataset(name, parts, opened.class_names, shape, opened.fingerprint)
    found = decoded(name, directory, progress)
    parts = _tested({split: Split(*part) for split, part in found.arrays.items()}, name)
    return Dataset(name, parts, found.class_names, found.image_shape, found.fingerprint)


def _tested(parts: dict[str, Split], name: str) -> dict[str, Split]:
    """Call the validation split test where there is no test split, or none with labels."""
    if "validation" in parts and (name == "imagenet" or "test" not in parts):
        parts["test"] = parts.pop("validation")  # ImageNet's test labels are not public
    return parts


def _missing(name: str, data_dir: Path) -> str:
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
