"""Opens the examples to evaluate: a split of the run's data, or of other data of the same
classes.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int32

from deeper.config.data_sections import OwnDataset
from deeper.config.schema import RunConfig
from deeper.data.array_records import split_lengths
from deeper.data.dataset import Split, open_dataset, prepared_directory
from deeper.data.encoded_images import Photographs, holds_photographs
from deeper.data.prepare.imagenet import CLASSES, wordnet_ids
from deeper.errors import UserError
from deeper.progress import Progress, quiet
from deeper.run import data_record, net_record
from deeper.run.dataset import leave_out_unreadable, open_data, view_of
from deeper.run.protocols import Protocol


@dataclass(frozen=True)
class EvaluationSet:
    """An evaluation split, with labels as the class indices of the net.

    Attributes:
        split: images, preprocessed for the protocol, and labels as class indices of the net.
        data: name of the data set.
        class_names: class names of the net.
        unreadable: file names of the photographs that were left out.
        subset: numbers of the net's classes that the data have, where they have not all.
    """

    split: Split
    data: str
    class_names: tuple[str, ...]
    unreadable: tuple[str, ...]
    subset: tuple[int, ...] | None = None


def open_evaluation_set(
    path: Path,
    config: RunConfig,
    protocol: Protocol,
    split: str,
    other: Any = None,
    progress: Progress = quiet,
) -> EvaluationSet:
    """Open the split that a run is evaluated on.

    Args:
        path: the run directory.
        config: the run's.
        protocol: the evaluation protocol.
        split: name of the split.
        other: ``data`` section of another data set, of the same classes; None for the run's own.
        progress: told of what is done once for a data set.

    Raises:
        UserError: there is no such split, or the data do not fit the net.
    """
    shown = config
    if not isinstance(config.data, OwnDataset):
        changes: dict[str, Any] = {"data.image_shape": list(protocol.shown)}
        if protocol.shorter_side is not None:
            changes["data.shorter_side"] = protocol.shorter_side
        shown = config.replace(changes)
    if other is not None:
        return _of_other_data(path, config, shown.data, split, other, progress)
    splits = data_record.open_own_splits(path, shown, progress)
    part = splits.named(split)
    if split == "train":
        part = part.select(slice(config.train.train_error_examples))
    unreadable = splits.unreadable.get(split, ())
    return EvaluationSet(part, config.data.name, splits.dataset.class_names, unreadable)


def _of_other_data(
    path: Path, config: RunConfig, shown: Any, split: str, other: Any, progress: Progress
) -> EvaluationSet:
    """Open a split of another data set, with the preprocessing of the run's data."""
    if isinstance(shown, OwnDataset) and isinstance(other, OwnDataset):
        return _of_other_own_data(path, config, split, other, progress)
    if isinstance(shown, OwnDataset) or isinstance(other, OwnDataset):
        raise UserError(f"{other.name} is of another kind than {shown.name}, the run's own data.")
    view = view_of(shown)
    root, name = Path(other.dir), str(other.name)
    directory = prepared_directory(name, root)
    if view is None and directory is not None and holds_photographs(directory):
        raise UserError(
            f"{name} holds photographs of any size, and this net was trained on images of one size."
        )
    dataset = open_dataset(name, root, progress, view)
    if tuple(dataset.image_shape) != tuple(shown.image_shape):
        raise UserError(
            f"The images of {name} are {list(dataset.image_shape)}, and this net takes "
            f"{list(shown.image_shape)}."
        )
    if split not in dataset.splits:
        raise UserError(f"split={split} is not there; {name} has {', '.join(dataset.splits)}.")
    record = net_record.read(path, config)
    names = _names_of_net(path, config)
    numbers = numbers_by_name(dataset.class_names, names, name, record.class_names)
    known = tuple(sorted({int(number) for number in numbers}))
    part = dataset.splits[split]
    part = part.with_columns(label=numbers[part.labels]).select(slice(other.limit))
    parts, unreadable = leave_out_unreadable(other, {split: part}, progress)
    subset = known if len(known) < len(names) else None
    return EvaluationSet(parts[split], name, names, unreadable.get(split, ()), subset)


def _of_other_own_data(
    path: Path, config: RunConfig, split: str, other: OwnDataset, progress: Progress
) -> EvaluationSet:
    """Open a split of another data set that a ``_target_`` returns."""
    if other.example != config.data.example:
        raise UserError(
            f"The net is given {list(other.input_shape)} {other.input_dtype} by {other.name}, and "
            f"takes {list(config.data.input_shape)} {config.data.input_dtype}."
        )
    dataset = open_data(other, progress)
    data_record.require_same_vocabulary(path, dataset, "run")
    if split not in dataset.splits:
        raise UserError(
            f"split={split} is not there; {other.name} has {', '.join(dataset.splits)}."
        )
    names, part = _names_of_net(path, config), dataset.splits[split]
    if part.labels.ndim == 1:
        numbers = numbers_by_name(dataset.class_names, names, other.name)
        part = part.with_columns(label=numbers[part.labels])
    elif dataset.class_names != names:
        raise UserError(f"The labels of {other.name} are not those of the run's data.")
    return EvaluationSet(part.select(slice(other.limit)), other.name, names, ())


def _names_of_net(path: Path, config: RunConfig) -> tuple[str, ...]:
    """Return the class names of the data set that a net was trained on."""
    record, data = data_record.read_record(path), config.data
    carried = net_record.read(path, config)
    if carried.wordnet_ids:
        return tuple(carried.wordnet_ids)
    if record is not None and "class_names" in record:
        return tuple(record["class_names"])
    if data.name == "imagenet" and data.classes == CLASSES:
        return wordnet_ids()
    try:
        return open_data(data).class_names
    except UserError as error:
        raise UserError(
            f"To ask this net about other data, its own classes' names are needed. {error}"
        ) from error


def numbers_by_name(
    theirs: Sequence[str], ours: Sequence[str], name: str, others: Sequence[str] = ()
) -> Int32[np.ndarray, " classes"]:
    """Return the net's class index for each class of a data set.

    Folders of ImageNet classes may be named by WordNet id, by class name or by class index, and may
    be a subset. ImageNet-V2 has one folder per class, named by the class index. Sorting such names
    as text puts 10 before 2, so they are read as numbers. If the net's own class names are numbers
    too, equal numbers match (007 and 7).

    Args:
        theirs: class names of the data set.
        ours: class names of the net.
        name: name of the data set, for messages.
        others: other names of the net's classes, in the same order; compared without case, and
            with spaces, hyphens and underscores as equal.

    Raises:
        UserError: the net does not know all the classes.
    """
    if set(theirs) <= set(ours):
        return np.array([list(ours).index(label) for label in theirs], np.int32)
    places = {_folded(label): place for place, label in enumerate(others)}
    if {_folded(label) for label in theirs} <= set(places):
        return np.array([places[_folded(label)] for label in theirs], np.int32)
    if all(label.isdecimal() for label in theirs):
        numbers = [int(label) for label in theirs]
        if all(label.isdecimal() for label in ours):  # the net's own class names are numbers
            place = {int(label): i for i, label in enumerate(ours)}
            distinct = len(place) == len(ours) and len(set(numbers)) == len(numbers)
            if distinct and set(numbers) <= set(place):
                return np.array([place[number] for number in numbers], np.int32)
        elif len(set(numbers)) == len(numbers) and max(numbers) < len(ours):
            return np.array(numbers, np.int32)
    unknown = [label for label in theirs if label not in ours]
    raise UserError(
        f"{len(unknown)} of the {len(theirs)} classes of {name} are none of this net's "
        f"{len(ours)}, among them {', '.join(unknown[:3])} (the net's are {', '.join(ours[:3])} "
        "...)."
    )


def _folded(name: str) -> str:
    """Return a name in the form in which names are compared."""
    return " ".join(re.split(r"[\s_-]+", name.strip().lower()))


# --- several correct labels ---------------------------------------------------------------------

VALIDATION_FILE = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")


def correct_labels(
    path: Path, names: Sequence[str], evaluation_set: EvaluationSet
) -> Bool[np.ndarray, "n classes"]:
    """Return the correct labels from a file such as real.json of ImageNet ReaL.

    Beyer et al. 2020, "Are we done with ImageNet?" (arXiv:2006.07159): the file is a list with the
    labels of ILSVRC2012_val_00000001.JPEG first, each a list of class numbers in the order of
    WordNet ids. A photograph without labels is left out.

    Args:
        path: path of the file.
        names: file names of the photographs, in the order of the examples.
        evaluation_set: the evaluation split.

    Raises:
        UserError: the file has another format, or is for other photographs.
    """
    images = evaluation_set.split.images
    assert isinstance(images, Photographs)
    matches = [VALIDATION_FILE.fullmatch(Path(name).name) for name in names]
    if not names or not all(matches):
        raise UserError(
            f"labels={path} is for the validation photographs of ImageNet, which are found by "
            f"their files' names: those of {evaluation_set.data} have others "
            f"({names[0] if names and names[0] else 'or none'})."
        )
    if list(evaluation_set.class_names) != sorted(evaluation_set.class_names):
        raise UserError(
            f"labels={path} numbers classes in the order of their WordNet ids; this net has "
            "another order."
        )
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"labels={path} cannot be read: {error}") from error
    classes = len(evaluation_set.class_names)
    if not isinstance(listed, list) or not all(
        isinstance(entry, list) and all(isinstance(n, int) and 0 <= n < classes for n in entry)
        for entry in listed
    ):
        raise UserError(
            f"labels={path}: give a list with a list of class numbers, 0 to {classes - 1}, for "
            "each photograph."
        )
    count = sum(split_lengths(images.directory)[images.split])
    if len(listed) != count:
        raise UserError(
            f"labels={path} has labels of {len(listed):,} photographs, and "
            f"{evaluation_set.data} has {count:,}."
        )
    right = np.zeros((len(names), classes), bool)
    for row, match in zip(right, matches, strict=True):
        assert match is not None
        number = int(match[1])
        if not 1 <= number <= count:
            raise UserError(f"labels={path} has no entry for {match[0]}.")
        row[listed[number - 1]] = True
    return right
