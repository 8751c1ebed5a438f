"""Writes array_record files with TFDS, without TensorFlow.

TFDS receives images as encoded PNG, which it stores unchanged; it would need TensorFlow to encode
arrays. Features, class names and keys, and therefore the order of the examples, are those of the
TFDS builder of the same name and version.
"""

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deeper.data.catalogue import Entry
from deeper.data.prepare.atomic_directory import Progress
from deeper.data.prepare.idx_and_cifar import Originals


def build(
    name: str, entry: Entry, originals: Originals, directory: Path, progress: Progress
) -> Path:
    """Write a data set in the format of TFDS.

    Args:
        name: name of the data set.
        entry: its entry in the catalogue.
        originals: its images and labels.
        directory: TFDS's data_dir to write to.
        progress: called with the number of examples written.

    Returns:
        The prepared directory, ``directory/NAME/VERSION``.

    Raises:
        OSError: from the file system.
    """
    import tensorflow_datasets as tfds

    stdout = sys.stdout

    def tell(split: str, done: int) -> None:
        with contextlib.redirect_stdout(stdout):  # which is redirected for TFDS below
            progress(f"write {split}", done, len(originals.splits[split].images))

    tfds.disable_progress_bar()
    features: dict[str, Any] = {
        feature: tfds.features.ClassLabel(names=names)
        for feature, names in originals.class_names.items()
    }
    features["image"] = tfds.features.Image(
        shape=entry.image_shape, dtype=np.uint8, encoding_format="png"
    )
    if all(split.ids is not None for split in originals.splits.values()):
        features["id"] = tfds.features.Text()

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
        VERSION = tfds.core.Version(entry.version)

        def _info(self) -> Any:
            return tfds.core.DatasetInfo(
                builder=self,
                description=entry.description,
                citation=entry.citation,
                features=tfds.features.FeaturesDict(features),
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            del dl_manager
            return {split: self._generate_examples(split) for split in originals.splits}

        def _generate_examples(self, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
            split = originals.splits[name]
            for number, image in enumerate(split.images):
                if number % 1000 == 0:
                    tell(name, number)
                example: dict[str, Any] = {"image": _png(image)}
                for feature, values in split.labels.items():
                    example[feature] = int(values[number])
                if split.ids is not None:
                    example["id"] = split.ids[number]
                yield number, example
            tell(name, len(split.images))

    Builder.name = name
    builder = Builder(data_dir=directory, file_format="array_record")
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints the directory
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(try_download_gcs=False)
            )
    except RuntimeError as error:
        # array_record's error of a failed write has no errno.
        full = os.strerror(errno.ENOSPC) in str(error)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error)) from error
    return Path(builder.data_dir)


def _png(image: np.ndarray) -> io.BytesIO:
    """Encode an image (H, W, C) as PNG."""
    stream = io.BytesIO()
    squeezed = image[..., 0] if image.shape[-1] == 1 else image
    Image.fromarray(np.ascontiguousarray(squeezed)).save(stream, "PNG", compress_level=1)
    stream.seek(0)
    return stream
