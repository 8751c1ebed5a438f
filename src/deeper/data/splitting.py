"""Subsets of a split: a validation split held out, fewer examples, some of the classes.

Every subset is a function of the data set and of the arguments alone, and each draw takes the same
share of every class as far as possible.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int32

from deeper.data.dataset import Dataset, Split
from deeper.errors import UserError

# Seeds of the draws; those from 1 on are of `first_of_draw`.
VALIDATION, FOLDS = 0, 2**32


def hold_out(split: Split, n: int) -> tuple[Split, Split]:
    """Divide a training split into a smaller training split and a validation split.

    The division is a function of the data set alone, the same for every seed, and takes the same
    share of each class as far as possible.

    Args:
        split: the training split.
        n: number of examples to hold out.

    Returns:
        (training, validation), each in the order of the data set.

    Raises:
        UserError: ``n`` is negative, or not less than the number of examples.
    """
    if not 0 <= n < len(split):
        raise UserError(
            f"data.validation={n}: hold out 0 to {len(split) - 1} of the {len(split)} examples."
        )
    if n == 0:
        return split, split.select(slice(0))
    held = np.zeros(len(split), bool)
    held[draw_by_class(_classes_of(split), n, VALIDATION)] = True
    return split.select(~held), split.select(held)


def fold_of(split: Split, folds: int, fold: int) -> tuple[Split, Split]:
    """Divide a training split for cross-validation.

    The parts are a function of the data set and of ``folds`` alone. They do not overlap, and each
    takes the same share of each class as far as possible.

    Args:
        split: the training split.
        folds: parts.
        fold: number of the part that is tested on.

    Returns:
        (training, test), each in the order of the data set.

    Raises:
        UserError: there are fewer examples than parts.
    """
    if folds > len(split):
        raise UserError(f"data.folds={folds}: there are only {len(split)} training examples.")
    size = len(split)
    order = draw_by_class(_classes_of(split), size, FOLDS)
    tested = np.zeros(size, bool)
    tested[order[fold * size // folds : (fold + 1) * size // folds]] = True
    return split.select(~tested), split.select(tested)


def _classes_of(split: Split) -> Int32[np.ndarray, " n"]:
    """Return the examples' classes; one for all where there are no classes to take shares of."""
    labels = split.columns.get("label")
    if labels is None or np.ndim(labels) != 1:
        return np.zeros(len(split), np.int32)
    return np.asarray(labels)


def only_classes(dataset: Dataset, classes: tuple[int, ...]) -> Dataset:
    """Return the examples of some classes, with labels 0, 1, ... in the order of ``classes``.

    Args:
        dataset: a data set with all classes.
        classes: numbers of the classes to keep.

    Raises:
        UserError: a class is unknown or repeated, or there is none.
    """
    known = len(dataset.class_names)
    require_classes(classes, known)
    new_label = np.full(known, -1, np.int32)
    new_label[list(classes)] = np.arange(len(classes))

    def keep(split: Split) -> Split:
        labels = new_label[split.labels]
        return split.with_columns(label=labels).select(labels >= 0)

    return replace(
        dataset,
        splits={name: keep(split) for name, split in dataset.splits.items()},
        class_names=tuple(dataset.class_names[c] for c in classes),
    )


def require_classes(classes: Sequence[int], known: int) -> None:
    """Raise a UserError unless these are numbers of some of the known classes, each once."""
    if len({*classes} & {*range(known)}) != len(classes) or not classes:
        raise UserError(
            f"data.keep_classes={list(classes)}: give numbers from 0 to {known - 1}, each once."
        )


def first_of_draw(split: Split, n: int, draw: int) -> Split:
    """Return n examples of a training split, with the same share of each class.

    The first n examples of a draw are among its first n + 1, so that subsets of different sizes
    are nested.

    Args:
        split: the training split.
        n: number of examples to keep.
        draw: seed of the choice.

    Raises:
        UserError: ``n`` is less than 1, or more than the number of examples.
    """
    if not 1 <= n <= len(split):
        raise UserError(
            f"data.examples={n}: there are {len(split):,} training examples; give 1 to "
            f"{len(split)}, or null for all."
        )
    chosen = np.sort(draw_by_class(_classes_of(split), n, 1 + draw))
    return split.select(chosen)


def draw_by_class(labels: Int32[np.ndarray, " n"], n: int, draw: int) -> Int32[np.ndarray, " k"]:
    """Return the numbers of n examples, drawn so that every prefix is balanced over the classes.

    Args:
        labels: labels of all examples.
        n: number of examples to draw.
        draw: seed of the draw; 0 is the validation split's.

    Returns:
        Numbers of examples, in the order of the draw.
    """
    # Number each class's examples in a fixed random order, then take the lowest numbers.
    rng = np.random.Generator(np.random.Philox(key=[draw, len(labels)]))
    order = rng.permutation(len(labels))
    rank = np.empty(len(labels), np.float64)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        rank[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.argsort(rank, kind="stable")[:n].astype(np.int32)
