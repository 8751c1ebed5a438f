"""Prepares a data set: converts original files to a TFDS directory of array_record files.

TensorFlow Datasets can read the result.
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
from deeper.data.prepare.atomic_directory import Progress, exclusive, publish, scratch_directory
from deeper.data.prepare.image_folder import Tree
from deeper.data.prepare.jpeg_storage import UNCHANGED, Storage, require_storage
from deeper.data.prepare.tfds_writer import build
from deeper.errors import UserError

SECONDS = 30  # timeout of a download, while no byte arrives


@dataclass(frozen=True)
class Published:
    """An original file as it was published.

    Attributes:
        url: address.
        checksum: SHA-256, in hex digits.
        size: size in bytes.
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
    """Prepare a data set of the catalogue, unless it is already prepared.

    The original files are looked for in ``original_dir``, then in the directory of the Debian
    package, and are downloaded otherwise.

    Args:
        name: name in the catalogue.
        data_dir: root of the prepared data sets, TFDS's data_dir.
        original_dir: directory of the original files, if they are on this machine.
        progress: called during downloads and conversion.

    Returns:
        The prepared directory. It is published as a whole: a failure leaves nothing that a later
        run could take for it.

    Raises:
        UserError: the files are missing or damaged, the network fails, or the disk is full.
    """
    entry = known_entry(name)
    try:
        existing = prepared_directory(name, data_dir)
        if existing is not None:
            _require_published(existing, name)
            return existing
        with scratch_directory(data_dir, name, progress) as scratch:
            # Another process may have prepared it while this one waited.
            existing = prepared_directory(name, data_dir)
            if existing is not None:
                return existing
            target = data_dir / name / entry.version
            if target.exists():
                raise UserError(
                    f"{target} is not a prepared data set (it has no dataset_info.json): "
                    "move it away and prepare again."
                )
            source = scratch
            if entry.files:
                source = _find_originals(name, entry, original_dir, scratch, progress)
            originals = idx_and_cifar.read(entry, source)
            publish(build(name, entry, originals, scratch / "tfds", progress), target)
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
    storage: Storage = UNCHANGED,
    progress: Progress = lambda what, done, total: None,
) -> Path:
    """Prepare a data set of photographs, unless it is already prepared.

    A call that was interrupted is continued by the next one.

    Args:
        name: name of the new data set, or imagenet.
        data_dir: root of the prepared data sets.
        read: finds the photographs; called only if the data set is not prepared.
        channels: 3, or 1 if all photographs are grey.
        storage: how photographs are stored.
        progress: called while files are written.

    Returns:
        The prepared directory.

    Raises:
        UserError: a photograph is unreadable, the name is not allowed, the directory stores its
            photographs in another way, or the file system fails.
    """
    if not name.isidentifier():
        raise UserError(f"data.name={name}: give letters, digits and _, the first no digit.")
    folder, version = ("imagenet2012", "5.1.0") if name == "imagenet" else (name, "1.0.0")
    place, target = data_dir / f".{folder}-begun" / version, data_dir / folder / version
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with exclusive(data_dir / f".{folder}.lock", progress):
            existing = prepared_directory(name, data_dir)
            if existing is not None:
                require_storage(existing, name, storage)
                return existing
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
    """Raise a UserError if photographs of a user have the name of a data set of the catalogue."""
    if holds_photographs(directory):
        raise UserError(
            f"{directory} holds photographs of any size, which is not {name} as it was published: "
            "move it away, or choose another place with data.dir=DIRECTORY."
        )


def _space(entry: Entry) -> int:
    """Return the megabytes that the original, the prepared and the decoded files need."""
    return 3 * sum(entry.sizes.values()) * math.prod(entry.image_shape) // 10**6


def known_entry(name: str) -> Entry:
    """Return the entry of a data set in the catalogue.

    Raises:
        UserError: it is not in the catalogue.
    """
    known = ", ".join(CATALOGUE)
    if name not in CATALOGUE:
        raise UserError(f"The data set {name} cannot be prepared here; there are {known}.")
    return CATALOGUE[name]


def published_files(name: str) -> dict[str, Published]:
    """Return file name -> original file, as registered by the TFDS builder of the same name."""
    import tensorflow_datasets as tfds

    return {
        info.filename: Published(url, info.checksum, int(info.size))
        for url, info in tfds.builder_cls(name).url_infos.items()
    }


def _find_originals(
    name: str, entry: Entry, original_dir: Path | None, scratch: Path, progress: Progress
) -> Path:
    """Return a directory with the original files, whose checksums have been verified."""
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
    """Download the original files and verify their checksums.

    The download manager of TFDS retries for minutes without a network, and waits without limit for
    a server that hangs.
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
