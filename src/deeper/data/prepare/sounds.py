"""Makes data sets of sounds: from a folder a class, and from what TensorFlow Datasets prepared."""

from collections import Counter
from collections.abc import Sequence
from math import gcd
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from deeper.data import array_records
from deeper.data.dataset import prepared_directory
from deeper.data.image_files import describe_left_out
from deeper.data.prepare.atomic_directory import Progress
from deeper.data.prepare.image_folder import NAMED, FileKind, Photograph, read_tree
from deeper.data.sound import Sounds, is_prepared, store
from deeper.data.sound_files import FULL_SCALE, SUFFIXES, UnreadableError, read_sound
from deeper.errors import UserError

SOUNDS = FileKind("sound", SUFFIXES)


def from_folder(
    dir: str,
    name: str,
    source: str | None,
    rate: int,
    fraction: float,
    on_bad: str,
    progress: Progress = lambda what, done, total: None,
) -> tuple[Path, list[str]]:
    """Prepare sound files in a folder a class, unless that is done.

    Args:
        dir: where prepared data sets are.
        name: of the data set.
        source: train/CLASS and test/CLASS, or CLASS alone.
        rate: samples per second that all sounds get.
        fraction: share of each class for the test split, if there is no test/.
        on_bad: raise a UserError for files that cannot be read or are silent, or skip them.
        progress: called with the number of files read.

    Returns:
        Its directory, and sentences on what was done to files.

    Raises:
        UserError: there are no such files, or some cannot be read.
    """
    directory = Path(dir) / name
    if is_prepared(directory):
        return directory, []
    if source is None:
        raise UserError(
            f"Say where the sounds of {name} are: data.prepare.source=DIRECTORY, with train/CLASS "
            "and test/CLASS in it, or CLASS alone."
        )
    if on_bad not in ("raise", "skip"):
        raise UserError(f"data.prepare.on_bad={on_bad} is unknown; choose raise or skip.")
    tree = read_tree(Path(source), fraction, SOUNDS)
    bad: list[str] = []
    done: Counter[str] = Counter()
    splits = {
        split: _read(files, rate, bad, done, lambda n, total, s=split: progress(s, n, total))
        for split, files in tree.splits.items()
    }
    shown = bad[:NAMED] + [f"and {len(bad) - NAMED:,} more"] * (len(bad) > NAMED)
    if bad and on_bad == "raise":
        head = f"{len(bad):,} files cannot be used; remove them, or say data.prepare.on_bad=skip:"
        raise UserError("\n".join([head, *shown]))
    for split, sounds in splits.items():
        missing = set(range(len(tree.class_names))) - {label for _, label in sounds}
        if missing:
            name_of = tree.class_names[min(missing)]
            raise UserError(f"No sound of the class {name_of} in {split} can be used.")
    store(directory, splits, tree.class_names, rate, progress)
    sentences = [f"{count:,} files {words}" for words, count in done.items()]
    if bad:
        sentences += [f"{len(bad):,} files left out that cannot be used:", *shown]
    if tree.left_out:
        sentences.append(describe_left_out(tree.left_out))
    return directory, sentences


def _read(
    files: Sequence[Photograph], rate: int, bad: list[str], done: Counter[str], progress
) -> Sounds:
    """Read files; add errors to ``bad``, and to ``done`` what was done to the others."""
    sounds = []
    for number, file in enumerate(files, 1):
        progress(number, len(files))
        try:
            samples, changes = read_sound(file.path, rate)
        except UnreadableError as error:
            bad.append(str(error))
            continue
        done.update(changes)
        sounds.append((samples, file.label))
    return sounds


def from_tfds(
    dir: str,
    name: str,
    tfds: str,
    source: str | None,
    rate: int,
    original_rate: int,
    progress: Progress = lambda what, done, total: None,
) -> Path:
    """Prepare an audio classification set that TFDS prepared with file_format=array_record.

    Args:
        dir: where prepared data sets are.
        name: of the data set made here.
        tfds: its name in TFDS; its features are ``audio``, integers of 16 bits, and ``label``.
        source: TFDS's data_dir.
        rate: samples per second that all sounds get.
        original_rate: that TFDS's sounds have.
        progress: called with the number of sounds read.

    Raises:
        UserError: it is not there, has another file format, or is no audio classification.
    """
    directory = Path(dir) / name
    if is_prepared(directory):
        return directory
    prepared = None if source is None else prepared_directory(tfds, Path(source))
    if prepared is None:
        raise UserError(
            f"data.prepare.source={source} has no {tfds}: say TFDS's data_dir. TensorFlow Datasets "
            "makes it, in an environment of its own: pip install tensorflow tensorflow-datasets "
            f'array_record pydub; python -c "import tensorflow_datasets as tfds; '
            f"tfds.builder('{tfds}', file_format='array_record').download_and_prepare()\""
        )
    if array_records.read_about(prepared).get("fileFormat", "tfrecord") != "array_record":
        raise UserError(
            f"The files in {prepared} are no array_record: tfds convert_format "
            f"--dataset_version_dir={prepared.absolute()} --out_file_format=array_record "
            "--out_dir=DIRECTORY makes them so."
        )
    splits = {}
    common = gcd(rate, original_rate)
    for split in (s for s in array_records.split_lengths(prepared) if s in array_records.READ):
        records = array_records.open_records(prepared, split)
        sounds = []
        for number in range(len(records)):
            record = records[number]
            label = array_records.label_of(record, split, prepared)
            try:
                samples = array_records.integers(record, "audio")
            except ValueError as error:
                raise UserError(f"A record of {split} in {prepared} holds no sound.") from error
            if rate != original_rate:
                values = resample_poly(
                    samples.astype(np.float64), rate // common, original_rate // common
                )
                samples = np.rint(values)
            sounds.append((np.clip(samples, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16), label))
            progress(f"read {split}", number + 1, len(records))
        splits[split] = sounds
    store(directory, splits, array_records.class_names(prepared), rate, progress)
    return directory
