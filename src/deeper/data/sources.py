"""Opening a prepared data set as arrays.

The TFDS directory of array_record files is the data set. Decoded once, its images lie beside it as
plain arrays, which later runs map into memory: a run opens its data in a few milliseconds and
never imports TFDS.
"""

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image

from deeper.data.catalogue import CATALOGUE
from deeper.errors import UserError

CACHE = "decoded"

Progress = Callable[[str, int, int], None]  # what is done, how many so far, of how many


@dataclass(frozen=True)
class Split:
    """Images and labels of one part of a data set.

    Attributes:
        images: uint8 (N, H, W, C), possibly mapped into memory.
        labels: int32 (N,).
    """

    images: UInt8[np.ndarray, "n height width channels"]
    labels: Int32[np.ndarray, " n"]

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A prepared data set.

    Attributes:
        name: in the catalogue.
        splits: train and test.
        class_names: in the order of the labels.
        image_shape: (height, width, channels).
        fingerprint: of the prepared files.
    """

    name: str
    splits: dict[str, Split]
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    fingerprint: str


def prepared_directory(name: str, data_dir: Path) -> Path | None:
    """Return the newest version that TFDS or `prepare` has finished, if there is one."""
    versions = [path.parent for path in (data_dir / name).glob("*/dataset_info.json")]
    numbered = [v for v in versions if all(part.isdigit() for part in v.name.split("."))]
    return max(numbered, key=lambda v: [int(p) for p in v.name.split(".")], default=None)


def known_size(name: str, split: str) -> int:
    """Return the number of examples in a split, from the catalogue; opens nothing."""
    if name not in CATALOGUE and name != "imagenet":
        raise UserError(f"The size of the data set {name} is not known.")
    sizes = CATALOGUE[name].sizes if name in CATALOGUE else {"train": 1_281_167, "test": 50_000}
    return sizes[split]


def open_dataset(
    name: str,
    data_dir: Path,
    progress: Progress = lambda what, done, total: None,
) -> Dataset:
    """Open a prepared data set.

    Args:
        name: in the catalogue.
        data_dir: root of the prepared data sets.
        progress: told how far the first opening, which decodes the images, is.

    Raises:
        UserError: it is not there, or not readable without TensorFlow.
    """
    directory = prepared_directory(name, data_dir)
    if directory is None:
        raise UserError(
            f"The data set {name} is not in {data_dir.absolute()}: run `deeper prepare "
            f"data={name}`, or say data.dir=DIRECTORY."
        )
    fingerprint = _fingerprint(directory)
    cache = directory / CACHE / fingerprint
    if not (cache / "complete.json").is_file():
        _decode(name, directory, cache, progress)
    about = json.loads((cache / "complete.json").read_text())
    splits = {}
    for split in about["splits"]:
        try:
            images = np.load(cache / f"{split}-images.npy", mmap_mode="r")
            labels = np.load(cache / f"{split}-labels.npy")
        except (OSError, ValueError) as error:
            raise UserError(
                f"The decoded images in {cache} are damaged ({error}): remove that directory; the "
                "next run makes it again."
            ) from error
        splits[split] = Split(images, labels)
    return Dataset(
        name, splits, tuple(about["class_names"]), tuple(about["image_shape"]), fingerprint
    )


def hold_out(split: Split, n: int) -> tuple[Split, Split]:
    """Divide a training split into what is trained on and a validation split.

    The division is a function of the data set alone, the same for every seed, and takes the same
    share of each class as far as possible.

    Args:
        split: the training split.
        n: examples to hold out.

    Returns:
        (training, validation), each in the order of the data set.
    """
    if not 0 <= n < len(split):
        raise UserError(
            f"data.validation={n}: hold out 0 to {len(split) - 1} of the {len(split)} examples."
        )
    # Number each class's examples in a fixed random order, then take the lowest numbers.
    order = np.random.Generator(np.random.Philox(key=[0, len(split)])).permutation(len(split))
    rank = np.empty(len(split), np.float64)
    for label in np.unique(split.labels):
        members = order[split.labels[order] == label]
        rank[members] = (np.arange(len(members)) + 0.5) / len(members)
    held = np.zeros(len(split), bool)
    held[np.argsort(rank, kind="stable")[:n]] = True
    if n == 0:
        return split, Split(split.images[:0], split.labels[:0])
    return (
        Split(split.images[~held], split.labels[~held]),
        Split(split.images[held], split.labels[held]),
    )


def _fingerprint(directory: Path) -> str:
    """Return a hash of the names, sizes and times of the prepared files."""
    facts = [
        (path.name, path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(directory.iterdir())
        if path.is_file()
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _decode(name: str, directory: Path, cache: Path, progress: Progress) -> None:
    """Decode all images once; the cache appears whole or not at all."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(directory)
    try:
        # Pillow decodes a PNG five times faster than TFDS's own path does.
        skip = {"image": tfds.decode.SkipDecoding()}
        sources = {
            split: builder.as_data_source(split, decoders=skip) for split in builder.info.splits
        }
    except (NotImplementedError, ModuleNotFoundError) as error:
        raise UserError(
            f"{directory} cannot be read without TensorFlow (its format is "
            f"{builder.info.file_format.value}): move it away and run `deeper prepare "
            f"data={name}`, or prepare it with file_format='array_record'."
        ) from error
    cache.parent.mkdir(exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=cache.parent))
    shape: Any = builder.info.features["image"].shape
    for split, source in sources.items():
        images = np.lib.format.open_memmap(
            scratch / f"{split}-images.npy", "w+", np.uint8, (len(source), *shape)
        )
        labels = np.empty(len(source), np.int32)
        for number, example in enumerate(source):
            pixels = np.asarray(Image.open(io.BytesIO(example["image"])))
            images[number] = pixels.reshape(shape)
            labels[number] = example["label"]
            if number % 1000 == 999 or number + 1 == len(source):
                progress(f"decode {split}", number + 1, len(source))
        images.flush()
        np.save(scratch / f"{split}-labels.npy", labels)
    about = {
        "splits": list(sources),
        "class_names": builder.info.features["label"].names,
        "image_shape": list(shape),
    }
    (scratch / "complete.json").write_text(json.dumps(about))
    os.sync()
    try:
        scratch.rename(cache)
    except OSError:
        # Another process has decoded the same meanwhile; its cache is as good.
        if not (cache / "complete.json").is_file():
            raise
