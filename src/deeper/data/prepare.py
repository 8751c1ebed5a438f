"""Preparing a data set: original files in, a TFDS directory of array_record files out.

Any user of TensorFlow Datasets can read the result. TensorFlow is not needed: images are handed to
TFDS as encoded PNG bytes, which it stores as they are.
"""

import contextlib
import errno
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deeper.data import originals
from deeper.data.catalogue import CATALOGUE, Entry
from deeper.data.sources import Progress, prepared_directory
from deeper.errors import UserError


def prepare(
    name: str,
    data_dir: Path,
    original_dir: Path | None = None,
    progress: Progress = lambda split, done, total: None,
) -> Path:
    """Make a data set ready to be opened; does nothing if it is.

    It looks for a prepared TFDS directory, then for the original files in ``original_dir``, then
    where Debian's package puts them, and downloads them otherwise.

    Args:
        name: one of the catalogue.
        data_dir: root of the prepared data sets, as TFDS lays it out.
        original_dir: where the original files are.
        progress: told how far it is.

    Returns:
        The prepared directory.

    Raises:
        UserError: whatever is in the way, in a sentence; nothing half-made is left where a later
            run would find it.
    """
    entry = known_entry(name)
    found = prepared_directory(name, data_dir)
    if found is not None:
        return found
    target = data_dir / name / entry.version
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{name}-unfinished-", dir=data_dir))
    except OSError as error:
        raise UserError(f"{data_dir} cannot be written to: {error.strerror}.") from error
    try:
        source = _find_originals(name, entry, original_dir, scratch)
        made = _build(name, entry, source, scratch, progress)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            made.rename(target)
        except OSError:
            # Another process was faster; what it made is as good.
            if prepared_directory(name, data_dir) is None:
                raise
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise UserError(
                f"The disk of {data_dir} is full: {name} needs about 500 MB while it is prepared. "
                "Make room, or choose another disk with data.dir=DIRECTORY."
            ) from error
        raise UserError(f"{name} could not be prepared in {data_dir}: {error}.") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def known_entry(name: str) -> Entry:
    """Return a data set's entry in the catalogue."""
    if name not in CATALOGUE:
        raise UserError(
            f"The data set {name} cannot be prepared here; there are {', '.join(CATALOGUE)}."
        )
    return CATALOGUE[name]


def _find_originals(name: str, entry: Entry, original_dir: Path | None, scratch: Path) -> Path:
    """Return a directory with the verified original files."""
    import tensorflow_datasets as tfds

    published = {
        info.filename: (url, info) for url, info in tfds.builder_cls(name).url_infos.items()
    }
    places = [original_dir] if original_dir is not None else []
    if entry.debian is not None:
        places.append(Path(entry.debian[0]))
    for place in places:
        missing = [file for file in entry.files if not (place / file).is_file()]
        if not missing:
            for file in entry.files:
                originals.verify(
                    place / file, published[file][1].checksum, entry.contents.get(file)
                )
            return place
        if place == original_dir:
            raise UserError(
                f"data.original_dir={place} lacks {', '.join(missing)} of {name}: name the "
                "directory that holds the files as they were published."
            )
    return _download(name, entry, published, scratch)


def _download(name: str, entry: Entry, published: dict[str, Any], scratch: Path) -> Path:
    """Fetch the original files with TFDS's download manager, which checks them."""
    import logging

    import tensorflow_datasets as tfds

    logging.getLogger("urllib3").setLevel(logging.ERROR)
    directory = scratch / "originals"
    directory.mkdir()
    manager = tfds.download.DownloadManager(
        download_dir=scratch / "downloads",
        url_infos=dict(published.values()),
        dataset_name=name,
        force_checksums_validation=True,
    )
    try:
        for file in entry.files:
            shutil.move(manager.download(published[file][0]), directory / file)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        debian = f", or install the Debian package {entry.debian[1]}" if entry.debian else ""
        host = published[entry.files[0]][0].split("/")[2]
        raise UserError(
            f"{name} could not be fetched from {host} (is there a network?). Put "
            f"{', '.join(entry.files)} into a directory and say data.original_dir=DIRECTORY"
            f"{debian}."
        ) from error
    except tfds.download.download_manager.NonMatchingChecksumError as error:
        raise UserError(
            f"A file of {name} came with another checksum than the published one: the server may "
            "be down or the connection cut. Try again."
        ) from error
    return directory


def _build(name: str, entry: Entry, source: Path, scratch: Path, progress: Progress) -> Path:
    """Write the array_record files and TFDS's description of them."""
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    parts: dict[str, originals.Arrays] = {}
    class_names = entry.class_names
    for split, arrays, names in originals.read(entry, source):
        parts[split] = arrays
        class_names = names or class_names
    assert class_names is not None

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
        VERSION = tfds.core.Version(entry.version)

        def _info(self) -> Any:
            return tfds.core.DatasetInfo(
                builder=self,
                description=entry.description,
                citation=entry.citation,
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(
                            shape=entry.image_shape, dtype=np.uint8, encoding_format="png"
                        ),
                        "label": tfds.features.ClassLabel(names=class_names),
                    }
                ),
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            del dl_manager
            return {split: self._generate_examples(split) for split in parts}

        def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
            images, labels = parts[split]
            for number, (image, label) in enumerate(zip(images, labels, strict=True)):
                if number % 1000 == 0:
                    progress(split, number, len(labels))
                yield number, {"image": _png(image), "label": int(label)}
            progress(split, len(labels), len(labels))

    Builder.name = name
    builder = Builder(data_dir=scratch / "prepared", file_format="array_record")
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints where it writes
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(try_download_gcs=False)
        )
    os.sync()  # before the rename makes it visible
    return Path(builder.data_dir)


def _png(image: np.ndarray) -> io.BytesIO:
    """Encode an image as TFDS would, losslessly."""
    stream = io.BytesIO()
    squeezed = image[..., 0] if image.shape[-1] == 1 else image
    Image.fromarray(np.ascontiguousarray(squeezed)).save(stream, "PNG", compress_level=1)
    stream.seek(0)
    return stream
