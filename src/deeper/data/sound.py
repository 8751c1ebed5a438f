"""Sounds with a class each: how they are stored, and how they become rows of samples.

A prepared data set is a directory with ``sounds.json``, the sampling rate and the names of the
classes in the order of their numbers, and for each split ``SPLIT.npz``: ``samples`` int16 of all
sounds one after the other, ``ends`` int64 (n,) of each, and ``label`` int32 (n,). Sounds are stored
whole, so that one prepared data set serves nets of any length.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int16, Int32

from deeper.data.dataset import Dataset, Split
from deeper.data.image_files import pictures_below
from deeper.data.prepare.atomic_directory import Progress, publish, scratch_directory
from deeper.data.reader import Given, Read
from deeper.data.sound_files import SUFFIXES, UnreadableError, padded, read_sound
from deeper.errors import UserError

COLUMN, LABEL = "sound", "label"
ABOUT = "sounds.json"

Sounds = Sequence[tuple[Int16[np.ndarray, " samples"], int]]  # samples, number of the class


def is_prepared(directory: Path) -> bool:
    """Return whether a directory holds a prepared data set of sounds."""
    return (directory / ABOUT).is_file()


def store(
    directory: Path,
    splits: Mapping[str, Sounds],
    class_names: Sequence[str],
    rate: int,
    progress: Progress,
) -> None:
    """Write a data set of sounds, whole or not at all.

    Args:
        directory: where it is to be.
        splits: name -> sounds.
        class_names: in the order of their numbers.
        rate: samples per second.
        progress: called where another process has to be waited for.
    """
    with scratch_directory(directory.parent, directory.name, progress) as scratch:
        if is_prepared(directory):
            return
        made = scratch / directory.name
        made.mkdir()
        for split, sounds in splits.items():
            lengths = [len(samples) for samples, _ in sounds]
            np.savez(
                made / f"{split}.npz",
                samples=np.concatenate([np.zeros(0, np.int16), *(s for s, _ in sounds)]),
                ends=np.cumsum(lengths, dtype=np.int64),
                label=np.array([label for _, label in sounds], np.int32),
            )
        about = json.dumps({"rate": rate, "classes": list(class_names)}, ensure_ascii=False)
        (made / ABOUT).write_text(about, encoding="utf-8")
        publish(made, directory)


def load(
    directory: Path, rate: int
) -> tuple[dict[str, tuple[list[np.ndarray], Int32[np.ndarray, " n"]]], list[str]]:
    """Return the sounds of each split with the numbers of their classes, and the classes' names.

    Args:
        directory: of a prepared data set.
        rate: that its sounds should have.

    Raises:
        UserError: it is not there, has another sampling rate, or a file is damaged.
    """
    if not is_prepared(directory):
        raise UserError(
            f"The data set {directory.name} is not in {directory.parent.absolute()}: run `deeper "
            "prepare` with the same data=..., or say data.dir=DIRECTORY."
        )
    path = directory / ABOUT
    again = f"Move {directory} away and run `deeper prepare` again."
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        names, stored = [str(name) for name in about["classes"]], int(about["rate"])
        splits = {}
        for path in sorted(directory.glob("*.npz")):
            with np.load(path) as arrays:
                sounds = np.split(arrays["samples"], arrays["ends"][:-1])
                splits[path.stem] = (sounds[: len(arrays["label"])], arrays["label"])
    # Damaged archives raise errors of many types, such as zipfile.BadZipFile.
    except Exception as error:
        raise UserError(f"{path} is damaged: {error}. {again}") from error
    if stored != rate:
        raise UserError(
            f"The sounds in {directory} were prepared at {stored:,} Hz, and data.rate={rate}. Say "
            f"data.rate={stored}. To prepare them at another rate: {again}"
        )
    return splits, names


@dataclass(frozen=True)
class SoundReader:
    """Reads sound files as the data set's were read.

    Attributes:
        rate: samples per second.
        kept: samples of a sound; of a longer one the middle, a shorter one is padded with zeros.
    """

    rate: int
    kept: int

    def __call__(self, given: Sequence[Given]) -> Read:
        """Read sound files, and those in directories."""
        left_out: list[str] = []
        files: list[Path] = []
        for one in given:
            if isinstance(one, str):
                left_out.append(f"{one!r} is no file: this net is asked about sound files.")
            else:
                files += pictures_below(one, one, {}, SUFFIXES) if one.is_dir() else [one]
        changed: Counter[str] = Counter()
        sounds, names = [], []
        for path in files:
            try:
                samples, done = read_sound(path, self.rate)
            except UnreadableError as error:
                left_out.append(str(error))
                continue
            sounds.append(samples)
            names.append(str(path))
            changed.update(done)
            changed[f"cut to {self.kept:,} samples"] += len(samples) > self.kept
        if not sounds:
            raise UserError("\n".join(["There is no sound to hear.", *left_out]))
        told = {words: count for words, count in changed.items() if count}
        return Read({COLUMN: padded(sounds, self.kept)}, tuple(names), tuple(left_out), told)


def sounds(
    dir: str,
    folder: str,
    rate: int,
    length: int,
    kept: int,
) -> Dataset:
    """Open a prepared data set of sounds.

    Columns: ``sound`` int16 (n, kept), 0 behind the end of a sound; ``label`` int32 (n,).

    Args:
        dir: where prepared data sets are.
        folder: of the data set in it.
        rate: samples per second.
        length: samples that the net takes.
        kept: samples of each sound that are kept, its middle: ``length``, or more where training
            takes parts of long sounds (``augment=sounds``).

    Raises:
        UserError: it is not prepared, has another rate, or fewer samples are kept than the net
            takes.
    """
    if kept < length:
        raise UserError(f"data.kept={kept} is less than data.length={length}: keep at least that.")
    splits, names = load(Path(dir) / folder, rate)
    parts = {
        split: Split.of(**{COLUMN: padded(some, kept), LABEL: labels})
        for split, (some, labels) in splits.items()
    }
    reader = {"_target_": "deeper.data.sound.SoundReader", "rate": rate, "kept": kept}
    return Dataset(folder, parts, tuple(names), reader=reader)
