"""Subsets of a split: a validation split held out, fewer examples, some of the classes.

Every subset is a function of the data set and of the arguments alone, and each draw takes the same
share of every class as far as possible.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Int32

from deeper.data.dataset import Dataset, Split
from deeper.errors import UserError


def hold_out(split: Split, n: int) -> tuple[Split, Split]:
    """Divide a training split into what is trained on and a validation split.

    The division is a function of the data set alone, the same for every seed, and takes the same
    share of each class as far as possible.

    Args:
        split: the training split.
        n: examples to hold out.

    Returns:
        (training, validation), each in the order of the data set.
    """
    if not 0 <= n < len(split):
        raise UserError(
            f"data.validation={n}: hold out 0 to {len(split) - 1} of the {len(split)} examples."
        )
    if n == 0:
        return split, split.select(slice(0))
    held = np.zeros(len(split), bool)
    labels = split.columns.get("label")
    if labels is None or np.ndim(labels) != 1:
        labels = np.zeros(len(split), np.int32)  # no classes to take equal shares of
    held[draw_by_class(labels, n, 0)] = True
    return split.select(~held), split.select(held)


def only_classes(dataset: Dataset, classes: tuple[int, ...]) -> Dataset:
    """Return the examples of some classes, which are numbered anew in the order given.

    Args:
        dataset: all classes.
        classes: numbers of those to keep.
    """
    known = range(len(dataset.class_names))
    if len(set(classes)) != len(classes) or not classes or any(c not in known for c in classes):
        raise UserError(
            f"data.keep_classes={list(classes)}: give numbers from 0 to {len(known) - 1}, each "
            "once."
        )
    number = np.full(len(known), -1, np.int32)
    number[list(classes)] = np.arange(len(classes))

    def kept(split: Split) -> Split:
        labels = number[split.labels]
        return split.with_columns(label=labels).select(labels >= 0)

    return replace(
        dataset,
        splits={name: kept(split) for name, split in dataset.splits.items()},
        class_names=tuple(dataset.class_names[c] for c in classes),
    )


def first_of_draw(split: Split, n: int, draw: int) -> Split:
    """Return so many examples of a training split, the same share of each class.

    The first n of a draw are among its first n + 1, so that sets of different sizes are nested.

    Args:
        split: the training split.
        n: examples to keep.
        draw: which of the many ways to choose them.
    """
    if not 1 <= n <= len(split):
        raise UserError(
            f"data.examples={n}: there are {len(split):,} training examples; give 1 to "
            f"{len(split)}, or null for all."
        )
    chosen = np.sort(draw_by_class(split.labels, n, 1 + draw))
    return split.select(chosen)


def draw_by_class(labels: Int32[np.ndarray, " n"], n: int, draw: int) -> Int32[np.ndarray, " k"]:
    """Return n examples' numbers, of every beginning the same share of each class if possible.

    Args:
        labels: of all examples.
        n: how many to draw.
        draw: number of the draw; 0 is the validation split's.
    """
    # Number each class's examples in a fixed random order, then take the lowest numbers.
    rng = np.random.Generator(np.random.Philox(key=[draw, len(labels)]))
    order = rng.permutation(len(labels))
    rank = np.empty(len(labels), np.float64)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        rank[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.argsort(rank, kind="stable")[:n].astype(np.int32)
