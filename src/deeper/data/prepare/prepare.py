"""Preparing a data set: original files in, a TFDS directory of array_record files out.

Any user of TensorFlow Datasets can read the result.
"""

import errno
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import requests

from deeper.data.catalogue import CATALOGUE, Entry
from deeper.data.dataset import prepared_directory
from deeper.data.encoded_images import holds_photographs
from deeper.data.prepare import idx_and_cifar, shard_writer
from deeper.data.prepare.atomic_directory import Progress, alone, publish, scratch_directory
from deeper.data.prepare.image_folder import Tree
from deeper.data.prepare.jpeg_storage import AS_THEY_ARE, Storage, require_storage
from deeper.data.prepare.tfds_writer import build
from deeper.errors import UserError

SECONDS = 30  # without a byte, after which a server counts as gone


@dataclass(frozen=True)
class Published:
    """Where an original file is published, and what it is.

    Attributes:
        url: its address.
        checksum: its SHA-256.
        size: in bytes.
    """

    url: str
    checksum: str
    size: int


def prepare(
    name: str,
    data_dir: Path,
    original_dir: Path | None = None,
    progress: Progress = lambda what, done, total: None,
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
    try:
        found = prepared_directory(name, data_dir)
        if found is not None:
            _require_published(found, name)
            return found
        with scratch_directory(data_dir, name, progress) as scratch:
            # Another process may have prepared it while this one waited.
            found = prepared_directory(name, data_dir)
            if found is not None:
                return found
            target = data_dir / name / entry.version
            if target.exists():
                raise UserError(
                    f"{target} is there but is no prepared data set (it has no dataset_info.json): "
                    "move it away and prepare again."
                )
            source = scratch
            if entry.files:
                source = _find_originals(name, entry, original_dir, scratch, progress)
            contents = idx_and_cifar.read(entry, source)
            publish(build(name, entry, contents, scratch / "tfds", progress), target)
            return target
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise UserError(
                f"The disk of {data_dir.absolute()} is full: {name} needs about {_space(entry)} "
                "MB. Make room, or choose another disk with data.dir=DIRECTORY."
            ) from error
        raise UserError(
            f"{name} cannot be prepared in {data_dir.absolute()}: {error}. Mend that, or choose "
            "another place with data.dir=DIRECTORY."
        ) from error


def prepare_photographs(
    name: str,
    data_dir: Path,
    read: Callable[[], Tree],
    channels: int,
    storage: Storage = AS_THEY_ARE,
    progress: Progress = lambda what, done, total: None,
) -> Path:
    """Make a data set of photographs; a call that was cut is gone on with.

    Args:
        name: what the data set is called from now on, or imagenet.
        data_dir: root of the prepared data sets.
        read: finds the photographs, if the data set is not there.
        channels: 3, or 1 where all are grey.
        storage: how they are stored.
        progress: told how far it is.

    Returns:
        The prepared directory.

    Raises:
        UserError: whatever is in the way, in a sentence.
    """
    if not name.isidentifier():
        raise UserError(f"data.name={name}: give letters, digits and _, the first no digit.")
    folder, version = ("imagenet2012", "5.1.0") if name == "imagenet" else (name, "1.0.0")
    place, target = data_dir / f".{folder}-begun" / version, data_dir / folder / version
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with alone(data_dir / f".{folder}.lock", progress):
            found = prepared_directory(name, data_dir)
            if found is not None:
                require_storage(found, name, storage)
                return found
            shard_writer.write(folder, version, read(), channels, storage, place, progress)
            publish(place, target)
            place.parent.rmdir()
    except OSError as error:
        raise UserError(
            f"{name} cannot be prepared in {data_dir.absolute()}: {error}. Mend that and repeat "
            "the command: it goes on from there."
        ) from error
    return target


def _require_published(directory: Path, name: str) -> None:
    """Refuse a user's photographs that are called as a data set of the catalogue."""
    if holds_photographs(directory):
        raise UserError(
            f"{directory} holds photographs of any size, which is not {name} as it was published: "
            "move it away, or choose another place with data.dir=DIRECTORY."
        )


def _space(entry: Entry) -> int:
    """Return the megabytes that the original files, the prepared ones and the decoded take."""
    return 3 * sum(entry.sizes.values()) * math.prod(entry.image_shape) // 10**6


def known_entry(name: str) -> Entry:
    """Return a data set's entry in the catalogue."""
    known = ", ".join(CATALOGUE)
    if name not in CATALOGUE:
        raise UserError(f"The data set {name} cannot be prepared here; there are {known}.")
    return CATALOGUE[name]


def published_files(name: str) -> dict[str, Published]:
    """Return the original files by name, as TFDS's own builder registers them."""
    import tensorflow_datasets as tfds

    return {
        info.filename: Published(url, info.checksum, int(info.size))
        for url, info in tfds.builder_cls(name).url_infos.items()
    }


def _find_originals(
    name: str, entry: Entry, original_dir: Path | None, scratch: Path, progress: Progress
) -> Path:
    """Return a directory with the verified original files."""
    published = published_files(name)
    debian = None if entry.debian is None else Path(entry.debian[0])
    for place in (original_dir, debian):
        if place is None:
            continue
        missing = [file for file in entry.files if not (place / file).is_file()]
        if missing and place == original_dir:
            raise UserError(
                f"data.original_dir={place} lacks {', '.join(missing)} of {name}: name the "
                "directory that holds the files as they were published, or leave it out."
            )
        if missing:
            continue
        for file in entry.files:
            idx_and_cifar.verify(place / file, published[file].checksum, entry.contents.get(file))
        return place
    directory = scratch / "originals"
    directory.mkdir()
    _download(name, entry, published, directory, progress)
    return directory


def _download(
    name: str,
    entry: Entry,
    published: Mapping[str, Published],
    directory: Path,
    progress: Progress,
) -> None:
    """Fetch and verify the original files.

    TFDS's own download manager would try for minutes where there is no network, and for ever where
    a server hangs.
    """
    for file in entry.files:
        url, host = published[file].url, published[file].url.split("/")[2]
        try:
            with (
                requests.get(url, stream=True, timeout=SECONDS) as answer,
                (directory / file).open("wb") as out,
            ):
                answer.raise_for_status()
                done = 0
                for block in answer.iter_content(1 << 16):
                    out.write(block)
                    done += len(block)
                    progress(f"fetch {file}", done, published[file].size)
        except requests.RequestException as error:
            debian = f", or install the Debian package {entry.debian[1]}" if entry.debian else ""
            raise UserError(
                f"{file} of {name} could not be fetched from {host} ({_reason(error)}). Try again, "
                f"or put {', '.join(entry.files)} into a directory and say "
                f"data.original_dir=DIRECTORY{debian}."
            ) from error
        if not idx_and_cifar.as_published(directory / file, published[file].checksum):
            raise UserError(
                f"What {host} sent as {file} of {name} is not the published file: its SHA-256 "
                "differs. Try again later, or say data.original_dir=DIRECTORY if you have the file."
            )


def _reason(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"it answered {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return f"it did not answer within {SECONDS} seconds"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was cut"
    return "it cannot be reached: is there a network?"
