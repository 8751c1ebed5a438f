"""Data sets and their splits; opens prepared data sets.

A prepared data set is a TFDS directory of array_record files. Images of one size are decoded once
into plain arrays (`array_cache`), which later runs map into memory; such a run opens its data in a
few milliseconds and does not import TFDS. Photographs of any size stay encoded (`encoded_images`).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int32

from deeper.data.array_cache import cached_arrays
from deeper.data.array_records import split_lengths
from deeper.data.catalogue import CATALOGUE
from deeper.data.encoded_images import View, holds_photographs, open_photographs
from deeper.data.prepare.atomic_directory import Progress
from deeper.errors import UserError


class Decoder(Protocol):
    """A column whose values are decoded on access, such as `Photographs`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array that this stands in for: (n, ...)."""

    @property
    def dtype(self) -> Any:
        """Dtype of the values."""

    def __getitem__(self, which: Any) -> np.ndarray:
        """Decode some values; the index is that of a NumPy array."""

    def select(self, which: Any) -> "Decoder":
        """Return a subset without decoding."""


@runtime_checkable
class EncodedImages(Protocol):
    """A `Decoder` of photographs, such as `encoded_images.Photographs`: workers decode parts of it.

    It can be pickled, for workers that are processes.
    """

    def decode_into(
        self, images: np.ndarray, rows: np.ndarray, seed: int | None = None, first: int = 0
    ) -> None:
        """Decode into an array uint8 (n, H, W, C), see `encoded_images.Photographs`."""


Column = np.ndarray | Decoder


@dataclass(frozen=True)
class Split:
    """One part of a data set: named columns of one length.

    The names are the task's. Image classification has ``image``, uint8 (N, H, W, C), possibly
    memory-mapped, or a `Decoder`; and ``label``, int32 (N,).

    Attributes:
        columns: name -> values (N, ...).
    """

    columns: Mapping[str, Any]

    @classmethod
    def of(cls, **columns: Any) -> "Split":
        """Create a split of these columns.

        Raises:
            UserError: the columns differ in length, or there is none.
        """
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) != 1:
            described = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
            raise UserError(
                f"The columns of a split need one length, and have: {described or 'none'}."
            )
        return cls(columns)

    @property
    def images(self) -> Any:
        """The column ``image``: uint8 (N, H, W, C), or `Photographs`."""
        return self.columns["image"]

    @property
    def labels(self) -> Int32[np.ndarray, " n"]:
        """The column ``label``."""
        return self.columns["label"]

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(next(iter(self.columns.values())))

    def select(self, which: Any) -> "Split":
        """Return some of the examples; the index is that of a NumPy array."""
        return Split(
            {
                name: column[which] if isinstance(column, np.ndarray) else column.select(which)
                for name, column in self.columns.items()
            }
        )

    def with_columns(self, **columns: Any) -> "Split":
        """Return the split with replaced or additional columns."""
        return Split({**self.columns, **columns})


@dataclass(frozen=True)
class Dataset:
    """A data set; a user's own ``data._target_`` returns one.

    Attributes:
        name: name of the data set.
        splits: ``train``, ``test`` and further ones; without a ``validation`` split, it is held out
            of ``train``.
        class_names: in the order of the labels; empty without classes.
        fingerprint: SHA-256 of all examples, which does not depend on where they were prepared;
            computed from the columns if it is empty.
        image_shape: (height, width, channels) of images; empty without images.
        unused: split -> why it is not read: it has no labels, or no run uses it.
        reader: the call that makes its `deeper.data.reader.Reader`; None where there is none.
        token_vectors: float32 (tokens, features), what the net's `deeper.models.layers.Embedding`
            of tokens begins with; rows of NaN are drawn. None where all are drawn.
    """

    name: str
    splits: dict[str, Split]
    class_names: tuple[str, ...] = ()
    fingerprint: str = ""
    image_shape: tuple[int, ...] = ()
    unused: dict[str, str] = field(default_factory=dict)
    reader: Mapping[str, Any] | None = None
    token_vectors: Float32[np.ndarray, "tokens features"] | None = None

    def __post_init__(self) -> None:
        """Compute the fingerprint, if it is not given."""
        if not self.fingerprint:
            object.__setattr__(self, "fingerprint", _fingerprint(self.splits))


def _fingerprint(splits: Mapping[str, Split]) -> str:
    digest = hashlib.sha256()
    for name, split in splits.items():
        for key, column in split.columns.items():
            values = np.ascontiguousarray(column[:])
            digest.update(f"{name} {key} {values.dtype} {values.shape}".encode())
            digest.update(values.tobytes() if values.dtype.hasobject else values.data)
    return digest.hexdigest()


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
                f"data.name={name}, whose config says how they are cropped."
            )
        opened = open_photographs(directory, view, progress)
        parts = _tested(_labelled(opened.splits))
        return Dataset(
            name, parts, opened.class_names, opened.fingerprint, view.image_shape, opened.unused
        )
    cached = cached_arrays(name, directory, progress)
    parts = _tested(_labelled(cached.arrays))
    return Dataset(
        name, parts, cached.class_names, cached.fingerprint, cached.image_shape, cached.unused
    )


def _labelled(splits: Mapping[str, tuple[Any, Any]]) -> dict[str, Split]:
    return {name: Split.of(image=images, label=labels) for name, (images, labels) in splits.items()}


def _tested(parts: dict[str, Split]) -> dict[str, Split]:
    """Use the validation split as the test split if there is no test split with labels."""
    if "validation" in parts and "test" not in parts:
        parts["test"] = parts.pop("validation")
    return parts


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
