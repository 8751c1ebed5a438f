"""What a run knows of its data: ``data.json`` in its directory, written when the run begins.

A data set is known by its content, not by its name or place: the same config on other images is
another experiment. The data are looked at when the run begins, and not before, so that none of
this is in the run directory's name. A directory of an older deeper has no such file until it is
gone on with.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deeper.config.data_sections import OwnDataset
from deeper.config.schema import RunConfig
from deeper.data.dataset import Dataset, prepared_directory
from deeper.errors import UserError
from deeper.progress import Progress, quiet
from deeper.record.atomic_files import read_json
from deeper.record.schema import DATA
from deeper.run.dataset import Splits, open_data, open_splits

PREPROCESSING = (
    *("image_shape", "crop", "shorter_side", "antialias", "interpolation", "exif", "mean", "std"),
)
LISTED = 3  # class names, in messages
SAME_ELSEWHERE = "If the data that it saw lie elsewhere, say data.dir=DIRECTORY"


def record_of(config: RunConfig, splits: Splits) -> dict[str, Any]:
    """Return what ``data.json`` holds.

    Args:
        config: the run's.
        splits: as the run uses them.
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
    """Return a run's record of its data; None where there is none."""
    return read_json(path / DATA)


def differences(record: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Return in words in what the data found differ from those of a record.

    Args:
        record: a run's.
        found: of the data as they are now, as a record has it; what is in one of them alone is
            not compared.
    """
    out = []
    if "fingerprint" in record and record["fingerprint"] != found["fingerprint"]:
        then, now = (str(one["fingerprint"])[:12] for one in (record, found))
        out.append(f"the images or labels are others (fingerprint {now}, and the run saw {then})")
    if "class_names" in record and record["class_names"] != list(found["class_names"]):
        then, now = (_listed(one["class_names"]) for one in (record, found))
        out.append(f"the classes are {now}, and were {then}")
    for part in ("splits", "preprocessing"):
        before, after = record.get(part) or {}, found.get(part) or {}
        out += [
            f"{part}: {key} is {after[key]}, and was {before[key]}"
            for key in before
            if key in after and after[key] != before[key]
        ]
    return out


def _listed(names: Any) -> str:
    shown = ", ".join(str(name) for name in list(names)[:LISTED])
    return f"{shown}{' ...' * (len(names) > LISTED)} ({len(names)})"


def require_same(path: Path, data: Any, found: Mapping[str, Any], otherwise: str) -> None:
    """Refuse data that are not those of a run's record; of a run without one nothing is known.

    Args:
        path: the run directory.
        data: section of the config that says where the data were found.
        found: the data as they are now.
        otherwise: what to do if these data are meant.

    Raises:
        UserError: they differ; it says in what.
    """
    record = read_record(path)
    differ = [] if record is None else differences(record, found)
    if differ:
        raise UserError(
            f"{data.name} in {Path(data.dir).absolute()} is not the data of the run in {path}: "
            f"{'; '.join(differ)}. {SAME_ELSEWHERE}; {otherwise}."
        )


def require_same_if_there(path: Path, data: Any, otherwise: str) -> None:
    """Compare a run's record with the data that are where its config says, if any are.

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
    """Return the part of a record that is the data set's own, however a run shows it."""
    return {"fingerprint": dataset.fingerprint, "class_names": dataset.class_names}


def open_own_splits(path: Path, config: RunConfig, progress: Progress = quiet) -> Splits:
    """Open a run's own data again.

    Args:
        path: the run directory.
        config: the run's; its images may be shown in another way.
        progress: told of what is done once for a data set.

    Raises:
        UserError: what is there now is not what the run saw.
    """
    splits = open_splits(config, progress)
    require_same(
        path, config.data, content_of(splits.dataset), "other data are named by data=... data.name="
    )
    return splits
