"""What is evaluated: a split of the run's own data, or of other data of the same classes."""

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
class Examined:
    """The examples that a net is asked about.

    Attributes:
        split: images, shown as the protocol says, and their classes by the net's numbers.
        data: the data set's name.
        class_names: of the net.
        unreadable: file names of the photographs that were left out.
        subset: numbers of the net's classes that the data have, where they have not all.
    """

    split: Split
    data: str
    class_names: tuple[str, ...]
    unreadable: tuple[str, ...]
    subset: tuple[int, ...] | None = None


def open_examined(
    path: Path,
    config: RunConfig,
    protocol: Protocol,
    split: str,
    other: Any = None,
    progress: Progress = quiet,
) -> Examined:
    """Open the split that a run is evaluated on.

    Args:
        path: the run directory.
        config: the run's.
        protocol: how images are shown.
        split: its name.
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
    train = splits.train.select(slice(config.train.train_error_examples))
    parts = {"train": train, "validation": splits.validation, "test": splits.test}
    part = parts.get(split)
    if part is None:
        there = ", ".join(name for name, one in parts.items() if one is not None)
        raise UserError(f"split={split} is not there; this run has {there}.")
    unreadable = splits.unreadable.get(split, ())
    return Examined(part, config.data.name, splits.dataset.class_names, unreadable)


def _of_other_data(
    path: Path, config: RunConfig, shown: Any, split: str, other: Any, progress: Progress
) -> Examined:
    """Open a split of a data set that the net was not trained on, shown as the run's own is."""
    if isinstance(shown, OwnDataset) or isinstance(other, OwnDataset):
        raise UserError("Other data can be evaluated for images that deeper opens alone.")
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
    return Examined(parts[split], name, names, unreadable.get(split, ()), subset)


def _names_of_net(path: Path, config: RunConfig) -> tuple[str, ...]:
    """Return the names of the classes that a net was trained on, as its data set had them."""
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
    """Return the net's number of each class of a data set.

    Folders of ImageNet's classes may be called by WordNet id, by name or by number, all or some of
    them. ImageNet-V2 as a tree has one folder per class that is called by the class's number.
    Sorted by name, as folders are, 10 comes before 2: such names are taken as the numbers that they
    are. Where the net's own classes go by numbers too, those of the same value are the same, 007
    and 7.

    Args:
        theirs: the data set's class names.
        ours: the net's.
        name: of the data set, for messages.
        others: other names of the net's classes, in the same order; case, and whether there is a
            space, a hyphen or an underscore, are not looked at.

    Raises:
        UserError: the net does not know all the classes.
    """
    if set(theirs) <= set(ours):
        return np.array([list(ours).index(one) for one in theirs], np.int32)
    places = {_folded(one): place for place, one in enumerate(others)}
    if {_folded(one) for one in theirs} <= set(places):
        return np.array([places[_folded(one)] for one in theirs], np.int32)
    if all(one.isdecimal() for one in theirs):
        numbers = [int(one) for one in theirs]
        if all(one.isdecimal() for one in ours):  # numbers by which the net's own classes go
            place = {int(one): i for i, one in enumerate(ours)}
            distinct = len(place) == len(ours) and len(set(numbers)) == len(numbers)
            if distinct and set(numbers) <= set(place):
                return np.array([place[number] for number in numbers], np.int32)
        elif len(set(numbers)) == len(numbers) and max(numbers) < len(ours):
            return np.array(numbers, np.int32)
    unknown = [one for one in theirs if one not in ours]
    raise UserError(
        f"{len(unknown)} of the {len(theirs)} classes of {name} are none of this net's "
        f"{len(ours)}, among them {', '.join(unknown[:3])} (the net's are {', '.join(ours[:3])} "
        "...)."
    )


def _folded(name: str) -> str:
    """Return a name as it is compared: in small letters, with spaces alone between words."""
    return " ".join(re.split(r"[\s_-]+", name.strip().lower()))


# --- several right answers ----------------------------------------------------------------------

VALIDATION_FILE = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")


def right_answers(
    path: Path, names: Sequence[str], examined: Examined
) -> Bool[np.ndarray, "n classes"]:
    """Return which answers count as right, by a file such as real.json of ImageNet ReaL.

    Beyer et al. 2020, "Are we done with ImageNet?" (arXiv:2006.07159): the file is a list with the
    labels of ILSVRC2012_val_00000001.JPEG first, each a list of class numbers in the order of
    WordNet ids. A photograph without labels is left out.

    Args:
        path: of the file.
        names: of the photographs' files, in their order.
        examined: what is evaluated.

    Raises:
        UserError: the file holds something else, or the photographs are others.
    """
    images = examined.split.images
    assert isinstance(images, Photographs)
    found = [VALIDATION_FILE.fullmatch(Path(name).name) for name in names]
    if not names or not all(found):
        raise UserError(
            f"labels={path} is for the validation photographs of ImageNet, which are found by "
            f"their files' names: those of {examined.data} have others "
            f"({names[0] if names and names[0] else 'or none'})."
        )
    if list(examined.class_names) != sorted(examined.class_names):
        raise UserError(
            f"labels={path} numbers classes in the order of their WordNet ids; this net has "
            "another order."
        )
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"labels={path} cannot be read: {error}") from error
    classes = len(examined.class_names)
    if not isinstance(listed, list) or not all(
        isinstance(one, list) and all(isinstance(n, int) and 0 <= n < classes for n in one)
        for one in listed
    ):
        raise UserError(
            f"labels={path}: give a list with a list of class numbers, 0 to {classes - 1}, for "
            "each photograph."
        )
    count = sum(split_lengths(images.directory)[images.split])
    if len(listed) != count:
        raise UserError(
            f"labels={path} has labels of {len(listed):,} photographs, and {examined.data} has "
            f"{count:,}."
        )
    right = np.zeros((len(names), classes), bool)
    for row, match in zip(right, found, strict=True):
        assert match is not None
        number = int(match[1])
        if not 1 <= number <= count:
            raise UserError(f"labels={path} has no entry for {match[0]}.")
        row[listed[number - 1]] = True
    return right
