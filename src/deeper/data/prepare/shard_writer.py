"""Writes photographs into a TFDS directory of array_record files.

Each file is written under a temporary name and then renamed, so that a `prepare` that was killed
continues after the complete files. TensorFlow Datasets can read the result.
"""

import errno
import hashlib
import io
import itertools
import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

from deeper.data.image_files import LeftOut
from deeper.data.prepare.atomic_directory import Progress
from deeper.data.prepare.image_folder import Photograph, Tree
from deeper.data.prepare.jpeg_storage import Storage, write_storage
from deeper.errors import UserError
from deeper.platform_support import core_count

SHARD = 128 << 20  # approximate size of a file in bytes
SIGNATURE = "unfinished"  # file with a digest of what is being written
SOURCE = "source.json"  # digest of the photographs' names and sizes, and what was left out


def write(
    name: str,
    version: str,
    tree: Tree,
    channels: int,
    storage: Storage,
    place: Path,
    progress: Progress,
) -> None:
    """Write the splits and the metadata of TFDS.

    Args:
        name: name of the data set.
        version: version of the data set.
        tree: the photographs.
        channels: 3, or 1 if all photographs are grey.
        storage: how photographs are stored.
        place: directory to write to; complete files that are there are kept.
        progress: called with the number of photographs written.

    Raises:
        UserError: a file is not an image or has changed, or the disk has too little room.
        OSError: from the file system.
    """
    import tensorflow_datasets as tfds

    place.mkdir(parents=True, exist_ok=True)
    _require_same(place, tree, storage)
    by_name: dict[str, Any] = {
        "image": tfds.features.Image(
            shape=(None, None, channels), dtype=np.uint8, encoding_format="jpeg"
        )
    }
    if tree.class_names:
        by_name["label"] = tfds.features.ClassLabel(names=list(tree.class_names))
    by_name["file_name"] = tfds.features.Text()
    features = tfds.features.FeaturesDict(by_name)
    infos = []
    plan = {split: _shards(photographs) for split, photographs in tree.splits.items()}
    _require_room(place, name, plan)
    for split, shards in plan.items():
        total, done = sum(map(len, shards)), 0
        with ThreadPoolExecutor(core_count()) as pool:
            pending = {
                pool.submit(
                    _write_shard,
                    features,
                    shard,
                    channels,
                    storage,
                    place / _file(name, split, i, len(shards)),
                ): len(shard)
                for i, shard in enumerate(shards)
            }
            try:
                for ended in as_completed(pending):
                    ended.result()
                    done += pending[ended]
                    progress(f"write {split}", done, total)
            finally:
                pool.shutdown(cancel_futures=True)
        if tree.class_names:
            labels = [photograph.label for shard in shards for photograph in shard]
            np.save(place / f"labels-{split}.npy", np.array(labels, np.int32))
        infos.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[len(shard) for shard in shards],
                num_bytes=sum(p.size for shard in shards for p in shard),
                filename_template=tfds.core.ShardedFileTemplate(
                    data_dir=place, dataset_name=name, split=split, filetype_suffix="array_record"
                ),
            )
        )
    for paper, content in tree.papers.items():
        (place / paper).write_bytes(content)
    write_storage(place, storage)
    source = {"sha256": signature_of(tree.found or tree.splits), "left_out": tree.left_out}
    (place / SOURCE).write_text(json.dumps(source) + "\n", encoding="utf-8")
    (place / SIGNATURE).unlink()
    tfds.folder_dataset.write_metadata(
        data_dir=place,
        features=features,
        split_infos=infos,
        version=version,
        check_data=False,
        description=(
            f"{name}: {len(tree.class_names)} classes of photographs."
            if tree.class_names
            else f"{name}: photographs."
        ),
    )
    _name(place / "dataset_info.json", name)


def _name(info: Path, name: str) -> None:
    """Set name and file format in ``dataset_info.json``, which TFDS infers from the directory."""
    known = json.loads(info.read_text(encoding="utf-8"))
    info.write_text(
        json.dumps(known | {"name": name, "fileFormat": "array_record"}, indent=2), encoding="utf-8"
    )


def _require_same(place: Path, tree: Tree, storage: Storage) -> None:
    """Remove files of an interrupted call with other photographs or another storage."""
    signature = f"{storage} {signature_of(tree.splits)}"
    begun = place / SIGNATURE
    if begun.is_file() and begun.read_text(encoding="utf-8") == signature:
        return
    for path in place.iterdir():
        path.unlink()
    begun.write_text(signature, encoding="utf-8")


def signature_of(splits: Mapping[str, Sequence[Photograph]]) -> str:
    """Return a digest of the photographs' names, sizes, splits and classes."""
    digest = hashlib.sha256()
    for split, photographs in splits.items():
        for p in photographs:
            digest.update(f"{split} {p.name} {p.size} {p.label}\n".encode())
    return digest.hexdigest()


def is_of(directory: Path, tree: Tree) -> bool | None:
    """Return whether a prepared directory has these photographs; None if it is not recorded."""
    known = _source(directory).get("sha256")
    return None if known is None else bool(known == signature_of(tree.found or tree.splits))


def noted_left_out(directory: Path) -> LeftOut:
    """Return the recorded reason -> files that were left out of a prepared directory."""
    noted = _source(directory).get("left_out")
    return noted if isinstance(noted, dict) else {}


def _source(directory: Path) -> dict[str, Any]:
    try:
        noted = json.loads((directory / SOURCE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}


def _shards(photographs: Sequence[Photograph]) -> list[list[Photograph]]:
    """Divide photographs evenly into files of about `SHARD` bytes."""
    count = max(1, math.ceil(sum(p.size for p in photographs) / SHARD))
    bounds = [len(photographs) * i // count for i in range(count + 1)]
    return [list(photographs[a:b]) for a, b in itertools.pairwise(bounds)]


def _file(name: str, split: str, number: int, count: int) -> str:
    return f"{name}-{split}.array_record-{number:05d}-of-{count:05d}"


def _require_room(place: Path, name: str, plan: dict[str, list[list[Photograph]]]) -> None:
    """Raise a UserError if the disk has too little room for the files that are still missing."""
    missing = sum(
        sum(p.size for p in shard)
        for split, shards in plan.items()
        for i, shard in enumerate(shards)
        if not (place / _file(name, split, i, len(shards))).exists()
    )
    free = shutil.disk_usage(place).free
    if missing * 1.01 > free:
        raise UserError(
            f"{name} needs {missing / 1e9:.1f} GB more in {place.parent.absolute()}, where "
            f"{free / 1e9:.1f} GB are free: make room, or say data.dir=DIRECTORY."
        )


def _write_shard(
    features: Any,
    photographs: Sequence[Photograph],
    channels: int,
    storage: Storage,
    target: Path,
) -> None:
    """Write one file of records, unless it exists."""
    from array_record.python.array_record_module import ArrayRecordWriter

    if target.exists():
        return
    part = target.with_name(f"part-{target.name}")
    part.unlink(missing_ok=True)
    writer = ArrayRecordWriter(str(part), "group_size:1")
    try:
        for photograph in photographs:
            where = f"{photograph.name} in {photograph.path}"
            data = storage.of(photograph.read(), channels, where)
            example = {"image": io.BytesIO(data), "file_name": photograph.name}
            if "label" in features:
                example["label"] = photograph.label
            writer.write(features.serialize_example(features.encode_example(example)))
        writer.close()
    except RuntimeError as error:  # array_record's error of a failed write has no errno
        full = os.strerror(errno.ENOSPC) in str(error)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error)) from error
    part.replace(target)
