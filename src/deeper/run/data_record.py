"""The record of a run's data: ``data.json`` in its directory, written when the run starts.

A data set is identified by its content, not by its name or directory: the same config on other
images is another experiment. The data are read only when the run starts, so the content is not part
of the run directory's name. Directories of older versions have no such file until they are
continued.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deeper.config.data_sections import OwnDataset
from deeper.config.instantiate import build, require_trusted
from deeper.config.schema import RunConfig
from deeper.config.settings import plain
from deeper.data.dataset import Dataset, prepared_directory
from deeper.data.reader import Reader
from deeper.errors import UserError
from deeper.progress import Progress, quiet
from deeper.record.atomic_files import read_json
from deeper.record.schema import DATA
from deeper.run.dataset import Splits, open_data, open_splits

PREPROCESSING = (
    *("image_shape", "crop", "shorter_side", "antialias", "interpolation", "exif", "mean", "std"),
)
LISTED = 3  # number of class names in messages
SAME_ELSEWHERE = "If the data that it saw lie elsewhere, say data.dir=DIRECTORY"


def record_of(config: RunConfig, splits: Splits) -> dict[str, Any]:
    """Return the content of ``data.json``.

    Args:
        config: the run's.
        splits: splits of the run.
    """
    data, dataset = config.data, splits.dataset
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    record = {
        "name": data.name,
        "version": None,
        "fingerprint": dataset.fingerprint,
        "splits": {name: len(part) for name, part in parts.items() if part is not None},
        "class_names": list(dataset.class_names),
    }
    if isinstance(data, OwnDataset):
        if dataset.reader is not None:
            record["reader"] = plain(dataset.reader)
        if dataset.token_vectors is not None:
            content = np.ascontiguousarray(dataset.token_vectors).tobytes()
            record["token_vectors"] = hashlib.sha256(content).hexdigest()
        return record
    directory = prepared_directory(data.name, Path(data.dir))
    assert directory is not None
    section = config.plain()["data"]
    return record | {
        "version": directory.name,
        "image_shape": list(dataset.image_shape),
        "preprocessing": {key: _plain(section[key]) for key in PREPROCESSING if key in section},
    }


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else list(value)


def read_record(path: Path) -> dict[str, Any] | None:
    """Return a run's record of its data, or None."""
    return read_json(path / DATA)


def reader_of(path: Path) -> Reader | None:
    """Return the reader that was recorded with the run's data; None if there is none.

    Args:
        path: the run directory.

    Raises:
        UserError: the reader is of a package that is not trusted.
    """
    record = read_record(path)
    if record is None or record.get("reader") is None:
        return None
    require_trusted(record["reader"], f"{path / DATA}")
    return build(record["reader"])


def require_same_vocabulary(path: Path, dataset: Dataset, key: str) -> None:
    """Raise a UserError if a data set's tokens are not those that a run's net was trained with.

    Readers without a vocabulary are not compared.

    Args:
        path: the run directory.
        dataset: whose examples the net is to be given.
        key: of the command that asks for it, for the message.
    """
    theirs = getattr(reader_of(path), "vocabulary", None)
    ours = None if dataset.reader is None else build(dataset.reader)
    if theirs is not None and theirs != getattr(ours, "vocabulary", None):
        raise UserError(
            f"{key}={path}: its net's tokens stand for other characters or words than those of "
            f"{dataset.name} do. Say data.vocabulary={path}, so that they are read alike."
        )


def differences(record: Mapping[str, Any], present: Mapping[str, Any]) -> list[str]:
    """Return a description of the differences between present data and a record.

    Args:
        record: record of the run.
        present: record of the present data; keys that only one of them has are not compared.
    """
    out = []
    if "fingerprint" in record and record["fingerprint"] != present["fingerprint"]:
        then, now = (str(each["fingerprint"])[:12] for each in (record, present))
        out.append(f"the images or labels are others (fingerprint {now}, and the run saw {then})")
    if "class_names" in record and record["class_names"] != list(present["class_names"]):
        then, now = (_listed(each["class_names"]) for each in (record, present))
        out.append(f"the classes are {now}, and were {then}")
    vectors = [each.get("token_vectors") for each in (record, present)]
    if None not in vectors and vectors[0] != vectors[1]:
        out.append("the vectors of tokens that the net begins with are others")
    for part in ("splits", "preprocessing"):
        before, after = record.get(part) or {}, present.get(part) or {}
        out += [
            f"{part}: {key} is {after[key]}, and was {before[key]}"
            for key in before
            if key in after and after[key] != before[key]
        ]
    return out


def _listed(names: Any) -> str:
    shown = ", ".join(str(name) for name in list(names)[:LISTED])
    return f"{shown}{' ...' * (len(names) > LISTED)} ({len(names)})"


def require_same(path: Path, data: Any, present: Mapping[str, Any], otherwise: str) -> None:
    """Raise a UserError if data are not those of a run's record; runs without a record are not
    checked.

    Args:
        path: the run directory.
        data: ``data`` section of the config, for messages.
        present: record of the present data.
        otherwise: what to do if these data are meant.

    Raises:
        UserError: the data differ; the message says how.
    """
    record = read_record(path)
    differ = [] if record is None else differences(record, present)
    if differ:
        raise UserError(
            f"{data.name} in {Path(data.dir or '').absolute()} is not the data of the run in "
            f"{path}: {'; '.join(differ)}. {SAME_ELSEWHERE}; {otherwise}."
        )


def require_same_if_there(path: Path, data: Any, otherwise: str) -> None:
    """Compare a run's record with the data at the place in its config, if there are any.

    Args:
        path: the run directory.
        data: section of the run's config.
        otherwise: what to do if these data are meant.

    Raises:
        UserError: they differ, or cannot be read.
    """
    own = isinstance(data, OwnDataset)
    if read_record(path) is None:
        return
    if not own and prepared_directory(data.name, Path(data.dir)) is None:
        return
    require_same(path, data, content_of(open_data(data)), otherwise)


def content_of(dataset: Dataset) -> dict[str, Any]:
    """Return the part of a record that does not depend on preprocessing."""
    return {"fingerprint": dataset.fingerprint, "class_names": dataset.class_names}


def open_own_splits(path: Path, config: RunConfig, progress: Progress = quiet) -> Splits:
    """Open the data of a run again.

    Args:
        path: the run directory.
        config: config of the run; the preprocessing may be changed.
        progress: called during work that is done once per data set.

    Raises:
        UserError: the present data are not those that the run saw.
    """
    splits = open_splits(config, progress)
    require_same(
        path, config.data, content_of(splits.dataset), "other data are named by data=... data.name="
    )
    return splits
