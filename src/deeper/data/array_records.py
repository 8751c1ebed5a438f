"""Reads the records of a TFDS directory of array_record files, without TFDS or TensorFlow.

A record is a serialised tf.train.Example. Parsing it with TFDS takes 2.5 ms per photograph; only
two or three of its fields are needed here.
"""

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from deeper.errors import UserError

_NUMBER, _TEXT = 0, 2  # wire types: https://protobuf.dev/programming-guides/encoding


class Records:
    """The records of a split, a sequence of bytes objects.

    Args:
        directory: the prepared TFDS directory.
        split: name of the split.

    Raises:
        UserError: a file is missing or damaged, which the message names. Reading a record raises
            the same error.
    """

    def __init__(self, directory: Path, split: str):
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        lengths = split_lengths(directory)[split]
        self._paths = sorted(directory.glob(f"*-{split}.array_record-?????-of-{len(lengths):05d}"))
        if len(self._paths) != len(lengths):
            raise UserError(
                f"{directory} has {len(self._paths)} of the {len(lengths)} files "
                f"*-{split}.array_record-*. {AGAIN}"
            )
        self._source = self._read(lambda: ArrayRecordDataSource([str(p) for p in self._paths]))
        count = self._read(lambda: len(self._source))
        if count != sum(lengths):
            raise UserError(
                f"The files of {split} in {directory} have {count:,} records, and "
                f"dataset_info.json says {sum(lengths):,}. {AGAIN}"
            )

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self._source)

    def __getitem__(self, number: int) -> bytes:
        """Return one record."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        record: bytes = self._read(lambda: self._source[number])
        return record

    def __getitems__(self, numbers: Sequence[int]) -> Sequence[bytes]:
        """Return several records in one read."""
        records: Sequence[bytes] = self._read(lambda: self._source.__getitems__(numbers))
        return records

    def _read(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except (RuntimeError, ValueError, OSError) as error:  # array_record has no error of its own
            lines = str(error).splitlines()
            raise UserError(
                f"{_damaged(self._paths)} is damaged{f' ({lines[0]})' if lines else ''}. {AGAIN}"
            ) from error


AGAIN = "Move that directory away and prepare the data set again."


def _damaged(paths: Sequence[Path]) -> Path:
    """Return the first file that cannot be read completely, or else their directory."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    for path in paths:
        try:
            source = ArrayRecordDataSource([str(path)])
            for number in range(len(source)):
                source[number]
        except (RuntimeError, ValueError, OSError):
            return path
    return paths[0].parent


def open_records(directory: Path, split: str) -> Records:
    """Return the records of a split; see `Records`."""
    return Records(directory, split)


def read_about(directory: Path) -> dict[str, Any]:
    """Return the content of ``dataset_info.json``.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = directory / "dataset_info.json"
    try:
        about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for split in about["splits"]:
            sum(int(n) for n in split["shardLengths"]), str(split["name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged or no description of a data set. {AGAIN}") from error
    return about


def split_lengths(directory: Path) -> dict[str, list[int]]:
    """Return split -> number of records in each of its files."""
    splits = read_about(directory)["splits"]
    return {split["name"]: [int(n) for n in split["shardLengths"]] for split in splits}


READ = ("train", "validation", "test")
SAMPLE = 16  # records that are read to find out whether a split has labels


def splits_read(directory: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the splits that are read, in order, and the reasons why others are not.

    Some of the sets that TFDS prepares have splits that no run uses (extra, unlabelled), or labels
    that are not public, in whose place it writes -1.

    Raises:
        UserError: the first records of a split cannot be read.
    """
    read, others = [], {}
    for split, lengths in split_lengths(directory).items():
        if split not in READ:
            others[split] = f"{sum(lengths):,} images that no run uses"
        elif not _is_labelled(directory, split):
            others[split] = f"{sum(lengths):,} images without labels"
        else:
            read.append(split)
    return tuple(read), others


def _is_labelled(directory: Path, split: str) -> bool:
    """Return whether any of some records, spread over the split, has a label."""
    count = sum(split_lengths(directory)[split])
    labels = _noted_labels(directory, split)
    if labels is None and count:
        numbers = np.unique(np.linspace(0, count - 1, SAMPLE).astype(int)).tolist()
        some = open_records(directory, split).__getitems__(numbers)
        labels = np.array([label_of(record, split, directory) for record in some])
    return labels is None or bool((labels >= 0).any())


def label_of(record: bytes, split: str, directory: Path) -> int:
    """Return a record's label.

    Raises:
        UserError: it has none.
    """
    try:
        label = fields(record)["label"]
        if isinstance(label, int):
            return label
    except (ValueError, KeyError):
        pass
    raise UserError(f"A record of {split} in {directory} is damaged or has no label. {AGAIN}")


def require_labels(labels: np.ndarray, classes: int, split: str, directory: Path) -> None:
    """Raise a UserError if a label is not the index of a class."""
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise UserError(
            f"{len(wrong):,} of the {len(labels):,} labels of {split} in {directory} are of none "
            f"of the {classes} classes, 0 to {classes - 1}: the first is {wrong[0]}. {AGAIN}"
        )


def image_shape(directory: Path) -> tuple[int | None, ...]:
    """Return the shape of the images in TFDS's features, with None for sides that vary."""
    features = json.loads((directory / "features.json").read_text(encoding="utf-8"))
    image = features["featuresDict"]["features"]["image"]["image"]
    sizes = [int(size) for size in image["shape"].get("dimensions", ())]
    return tuple(None if size < 0 else size for size in sizes)


def class_names(directory: Path) -> tuple[str, ...]:
    """Return the names of the classes, or their numbers if the TFDS builder gives no names."""
    try:
        text = (directory / "label.labels.txt").read_text(encoding="utf-8")
        # Not splitlines: a name may contain one of the other line separators.
        return tuple(text.removesuffix("\n").split("\n"))
    except FileNotFoundError:
        features = json.loads((directory / "features.json").read_text(encoding="utf-8"))
        label = features["featuresDict"]["features"]["label"]["classLabel"]
        return tuple(str(number) for number in range(int(label["numClasses"])))


def fields(record: bytes) -> dict[str, bytes | int]:
    """Return the fields of a serialised Example: the first value of each, as bytes or int.

    Raises:
        ValueError: the record is not an Example.
    """
    values_by_name: dict[str, bytes | int] = {}
    try:
        for name, kind, values in _features(record):
            first = next(_parts(values), None)
            if first is not None:
                value = first[1]
                if kind == 3 and not isinstance(value, int):  # packed numbers
                    value = _number(value, 0)[0]
                if isinstance(value, int) and value >= 1 << 63:
                    value -= 1 << 64  # two's complement, as of -1
                values_by_name[name] = value if isinstance(value, int) else bytes(value)
    except (IndexError, TypeError, UnicodeDecodeError) as error:
        raise ValueError("the record is damaged") from error
    return values_by_name


def integers(
    record: bytes, name: str, *, missing_is_empty: bool = False
) -> Int64[np.ndarray, " values"]:
    """Return all values of a field of a serialised Example that holds integers, such as samples.

    Args:
        record: the Example.
        name: of the field.
        missing_is_empty: return no values where there is no such field.

    Raises:
        ValueError: the record is not an Example, or has no such field.
    """
    try:
        for found, kind, values in _features(record):
            if found == name and kind == 3:
                parts = [value for _, value in _parts(values)]
                packed = [_varints(value) for value in parts if not isinstance(value, int)]
                single = np.array([v for v in parts if isinstance(v, int)], np.uint64)
                return np.concatenate([*packed, single.view(np.int64)])
    except (IndexError, TypeError, UnicodeDecodeError) as error:
        raise ValueError("the record is damaged") from error
    if missing_is_empty:
        return np.zeros(0, np.int64)
    raise ValueError(f"the record has no integers {name}")


def floats(record: bytes, name: str) -> Float32[np.ndarray, " values"]:
    """Return all values of a field of a serialised Example that holds floats, such as corners.

    Raises:
        ValueError: the record is not an Example, or has no such field.
    """
    try:
        for found, kind, values in _features(record):
            if found == name and kind == 2:
                packed = [np.frombuffer(value, "<f4") for _, value in _parts(values)]
                return np.concatenate([np.zeros(0, np.float32), *packed])
    except (IndexError, TypeError, UnicodeDecodeError) as error:
        raise ValueError("the record is damaged") from error
    raise ValueError(f"the record has no floats {name}")


def _varints(packed: Any) -> Int64[np.ndarray, " values"]:
    """Decode numbers of seven bits a byte, the lowest first; the last byte of each is below 128."""
    read = np.frombuffer(packed, np.uint8)
    last = np.flatnonzero(read < 128)
    if not len(last) or last[-1] != len(read) - 1:
        raise IndexError
    first = np.concatenate([[0], last[:-1] + 1])
    place = np.arange(len(read)) - np.repeat(first, last - first + 1)
    shifted = (read & 127).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.add.reduceat(shifted, first).view(np.int64)


def _features(record: bytes) -> Iterator[tuple[str, int, Any]]:
    """Yield (name, kind, message of the values) of an Example's fields.

    Kind 2 is a list of floats, 3 one of integers.
    """
    for _, features in _parts(record):
        for _, entry in _parts(features):
            name, feature = (part for _, part in _parts(entry))
            for kind, values in _parts(feature):
                yield bytes(name).decode(), kind, values


def _parts(message: Any) -> Iterator[tuple[int, Any]]:
    """Yield (field number, value) of a protocol buffer message."""
    view, place = memoryview(message), 0
    while place < len(view):
        key, place = _number(view, place)
        if key & 7 == _TEXT:
            length, place = _number(view, place)
            if place + length > len(view):
                raise IndexError
            yield key >> 3, view[place : place + length]
            place += length
        elif key & 7 == _NUMBER:
            value, place = _number(view, place)
            yield key >> 3, value
        else:
            raise TypeError


def _number(view: Any, place: int) -> tuple[int, int]:
    """Decode a varint; return it and the position after it."""
    value = shift = 0
    while True:
        byte = view[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if not byte & 128:
            return value, place


def labels_of(directory: Path, split: str, progress: Any) -> np.ndarray:
    """Return the labels of a split, int32 (N,), from the file that `prepare` wrote or the records.

    Args:
        directory: the prepared TFDS directory.
        split: name of the split.
        progress: called while labels are read from the records.
    """
    noted = _noted_labels(directory, split)
    if noted is not None:
        return noted
    count = sum(split_lengths(directory)[split])
    records = open_records(directory, split)
    labels = np.empty(count, np.int32)
    for begin in range(0, count, 256):
        chunk = records.__getitems__(range(begin, min(begin + 256, count)))
        labels[begin : begin + len(chunk)] = [
            label_of(record, split, directory) for record in chunk
        ]
        progress(f"labels of {split}", begin + len(chunk), count)
    # If the directory is not writable, each run reads the labels from the records.
    with contextlib.suppress(OSError):
        np.save(directory / f"labels-{split}.npy", labels)
    return labels


def _noted_labels(directory: Path, split: str) -> np.ndarray | None:
    """Return the labels stored beside the records, or None."""
    try:
        labels = np.load(directory / f"labels-{split}.npy")
        fits = labels.shape == (sum(split_lengths(directory)[split]),)
        return labels if fits and labels.dtype == np.int32 else None
    except (OSError, ValueError, EOFError):
        return None
