"""A cache of the decoded images of a prepared data set, as memory-mapped NumPy arrays.

The arrays are stored in the TFDS directory, or in the user's cache directory if that is not
writable. The name of the cache is a digest of the names, sizes and times of the prepared files; the
images are decoded again whenever the cache is missing, damaged or made from other files.
"""

import errno
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image

from deeper.data import array_records, jpeg
from deeper.data.prepare.atomic_directory import Progress, publish, scratch_directory
from deeper.errors import UserError

FOLDER = "decoded"
CHUNK = 1000  # records per read: five times as fast as single reads


@dataclass(frozen=True)
class CachedArrays:
    """The arrays of a data set and their description.

    Attributes:
        arrays: split -> images uint8 (N, H, W, C), memory-mapped, and labels int32 (N,).
        class_names: in the order of the labels.
        image_shape: (height, width, channels).
        fingerprint: SHA-256 of all images and labels; it does not depend on where they were
            prepared.
        unused: split -> why it is not read.
    """

    arrays: dict[str, tuple[UInt8[np.ndarray, "n height width channels"], Int32[np.ndarray, " n"]]]
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    fingerprint: str
    unused: dict[str, str]


def cached_arrays(name: str, directory: Path, progress: Progress) -> CachedArrays:
    """Return the arrays of a prepared data set, decoding them if they are not cached.

    Args:
        name: name of the data set.
        directory: the prepared TFDS directory.
        progress: called while images are decoded.

    Raises:
        UserError: the files are damaged or need TensorFlow, or the disk is full.
    """
    version = _version(directory)
    candidates = places(name, directory)
    for place in candidates:
        cached = _read(place / version)
        if cached is not None:
            return cached
    place = next((place for place in candidates if _writable(place)), candidates[-1])
    try:
        with scratch_directory(place, "decoded", progress) as scratch:
            # Another process may have decoded the same images while this one waited.
            if _read(place / version) is None:
                made = scratch / version
                made.mkdir()
                _decode(name, directory, made, progress)
                for stale in place.iterdir():
                    if not stale.name.startswith("."):
                        stale.rename(scratch / f"stale-{stale.name}")
                publish(made, place / version)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise UserError(
                f"The disk of {place} is full: the decoded images of {name} did not fit. Make "
                "room, or move the prepared data and say data.dir=DIRECTORY."
            ) from error
        raise UserError(f"The decoded images of {name} cannot be written: {error}.") from error
    cached = _read(place / version)
    if cached is None:
        raise UserError(f"The decoded images in {place} were changed just now; start again.")
    return cached


def _version(directory: Path) -> str:
    """Return a digest of the names, sizes and times of the prepared files."""
    files = [
        (path.name, path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(directory.iterdir())
        if path.is_file()
    ]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16]


def places(name: str, directory: Path) -> tuple[Path, Path]:
    """Return candidate directories of a cache: in the prepared directory, or in the user's cache
    directory.
    """
    try:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # no HOME and no entry in the user database, as in a container
        caches = Path(tempfile.gettempdir()) / f"cache-{os.getuid()}"
    path = hashlib.sha256(str(directory.absolute()).encode()).hexdigest()[:8]
    return directory / FOLDER, caches / "deeper" / f"{name}-{path}"


def _writable(place: Path) -> bool:
    return os.access(place if place.exists() else place.parent, os.W_OK | os.X_OK)


def _read(cache: Path) -> CachedArrays | None:
    """Map a cache into memory; None if it is missing, incomplete or damaged."""
    try:
        about = json.loads((cache / "about.json").read_text(encoding="utf-8"))
        shape = tuple(about["image_shape"])
        arrays = {}
        for split, size in about["sizes"].items():
            # Memory-mapping compares the length of the file with the shape in its header.
            images = np.load(cache / f"{split}-images.npy", mmap_mode="r")
            labels = np.load(cache / f"{split}-labels.npy")
            if images.shape != (size, *shape) or images.dtype != np.uint8:
                return None
            if labels.shape != (size,) or labels.dtype != np.int32:
                return None
            arrays[split] = images, labels
        names, unused = tuple(about["class_names"]), about.get("unused", {})
        wrong = any((labels < 0).any() for _, labels in arrays.values())
        if wrong or not set(arrays) <= set(array_records.READ):
            return None  # decoded by an older version, which read all splits
        return CachedArrays(arrays, names, shape, about["fingerprint"], unused)
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None


def _decode(name: str, directory: Path, made: Path, progress: Progress) -> None:
    """Decode all splits and write their arrays and description into ``made``."""
    sources, class_names, shape, unused = _open_sources(name, directory)
    digest = hashlib.sha256()
    for split, source in sources.items():
        digest.update(split.encode())
        labels = np.empty(len(source), np.int32)
        done = 0
        # Written rather than memory-mapped: a full disk then raises OSError instead of SIGBUS.
        with (made / f"{split}-images.npy").open("wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "|u1", "fortran_order": False, "shape": (len(source), *shape)}
            )
            for images, chunk_labels in _chunks(name, directory, source, shape):
                file.write(images.data)
                digest.update(images.data)
                labels[done : done + len(chunk_labels)] = chunk_labels
                done += len(chunk_labels)
                progress(f"decode {split}", done, len(source))
        array_records.require_labels(labels, len(class_names), split, directory)
        np.save(made / f"{split}-labels.npy", labels)
        digest.update(labels.astype("<i4").tobytes())
    about = {
        "sizes": {split: len(source) for split, source in sources.items()},
        "class_names": class_names,
        "image_shape": shape,
        "fingerprint": digest.hexdigest(),
        "unused": unused,
    }
    (made / "about.json").write_text(json.dumps(about), encoding="utf-8")


def _open_sources(
    name: str, directory: Path
) -> tuple[dict[str, Any], list[str], tuple[int, int, int], dict[str, str]]:
    """Return each split's records, the class names, the images' shape and the splits not read."""
    import tensorflow_datasets as tfds  # the import takes a second, and is not needed with a cache

    try:
        builder = tfds.builder_from_directory(directory)
        features = builder.info.features
        form = builder.info.file_format.value
        class_names, shape = features["label"].names, tuple(features["image"].shape)
        dtype = np.dtype(features["image"].np_dtype)
        # Pillow decodes a PNG five times faster than TFDS does.
        skip = {"image": tfds.decode.SkipDecoding()}
        if form != "array_record":
            raise NotImplementedError(form)
        read, unused = array_records.splits_read(directory)
        sources = {split: builder.as_data_source(split, decoders=skip) for split in read}
    except (NotImplementedError, ModuleNotFoundError) as error:
        raise UserError(
            f"{directory} cannot be read without TensorFlow (its files are {form}): move it away "
            f"and run `deeper prepare data={name}`, or prepare it with "
            "file_format='array_record'."
        ) from error
    except Exception as error:  # TFDS raises many exception types on damaged files
        raise _damaged(name, directory, error) from error
    if dtype != np.uint8:
        raise UserError(
            f"The images of {name} in {directory} are {dtype}: only images of 8 bits (uint8) can "
            "be opened. Prepare it anew with TFDS from images that are scaled to 0 to 255."
        )
    if None in shape or len(shape) != 3:
        raise UserError(
            f"The images of {name} in {directory} have no fixed size (their shape is {shape}): "
            "only data sets of images of one size can be opened."
        )
    return sources, class_names, shape, unused


def _chunks(
    name: str, directory: Path, source: Any, shape: tuple[int, int, int]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield images uint8 (n, H, W, C) and labels int32 (n,), with n up to `CHUNK`."""
    for start in range(0, len(source), CHUNK):
        try:
            records = source.__getitems__(range(start, min(start + CHUNK, len(source))))
            chunk = np.stack([_pixels(record["image"], shape) for record in records])
            labels = np.array([record["label"] for record in records], np.int32)
        except Exception as error:  # array_record, protobuf and Pillow raise types of their own
            raise _damaged(name, directory, error) from error
        yield chunk, labels


def _pixels(data: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """Decode an image, uint8 of the data set's shape.

    Raises:
        ValueError: it has another shape, or more than 8 bits per channel.
    """
    if shape[2] in (1, 3):
        stored = jpeg.decode(data, shape[2], "an image")
    else:  # with transparency as a channel of its own
        with Image.open(io.BytesIO(data)) as image:
            stored = np.asarray(image)
    if stored.dtype == np.uint8 and stored.shape == shape:
        return stored
    raise ValueError(f"an image is {stored.dtype} {stored.shape}, not uint8 {shape}")


def _damaged(name: str, directory: Path, error: Exception) -> UserError:
    lines = str(error).splitlines() or [type(error).__name__]
    return UserError(
        f"The prepared files of {name} in {directory} cannot be read ({lines[0]}): remove that "
        f"directory and run `deeper prepare data={name}`."
    )
