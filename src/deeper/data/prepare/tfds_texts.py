"""Texts that TensorFlow Datasets has prepared as array_record, read without TensorFlow."""

from collections.abc import Sequence
from pathlib import Path

from deeper.data.array_records import class_names, fields, open_records, splits_read
from deeper.data.prepare.atomic_directory import Progress
from deeper.data.prepare.tfds_prepared import find_array_records
from deeper.data.text import is_prepared, store
from deeper.errors import UserError

CHUNK = 256  # records at a time


def tfds_texts(
    dir: str,
    name: str,
    tfds: str,
    columns: Sequence[str],
    progress: Progress = lambda what, done, total: None,
) -> tuple[Path, list[str]]:
    """Store the texts of a TFDS data set as deeper's own, unless that is done.

    Args:
        dir: where prepared data sets are, TFDS's data_dir.
        name: of deeper's data set.
        tfds: name in TFDS, followed by a slash and the config if it has any.
        columns: of the texts; several are joined by a space.
        progress: called with the number of records read.

    Returns:
        Its directory, and sentences on the splits that were not read.

    Raises:
        UserError: TFDS has not prepared it as array_record, or it has no such texts or labels.
    """
    directory = Path(dir) / name
    if is_prepared(directory):
        return directory, []
    source = find_array_records(tfds, Path(dir))
    read, others = splits_read(source)
    texts = {}
    for split in read:
        records = open_records(source, split)
        examples: list[tuple[str, int]] = []
        for begin in range(0, len(records), CHUNK):
            progress(f"texts of {split}", begin, len(records))
            numbers = range(begin, min(begin + CHUNK, len(records)))
            examples += [_example(one, columns, tfds) for one in records.__getitems__(numbers)]
        progress(f"texts of {split}", len(records), len(records))
        texts[split] = examples
    store(directory, texts, class_names(source), progress)
    said = [f"not read: {split}, {why.replace('images', 'texts')}" for split, why in others.items()]
    return directory, said


def _example(record: bytes, columns: Sequence[str], tfds: str) -> tuple[str, int]:
    try:
        values = fields(record)
    except ValueError as error:
        raise UserError(f"A record of {tfds} is damaged.") from error
    parts, label = [values.get(column) for column in columns], values.get("label")
    if not isinstance(label, int) or not all(isinstance(part, bytes) for part in parts):
        raise UserError(
            f"{tfds} is no classification of texts: its features are {', '.join(sorted(values))}, "
            f"and {', '.join(columns)} and label are needed."
        )
    joined = b" ".join(part for part in parts if isinstance(part, bytes))
    return joined.decode("utf-8", errors="replace"), label
