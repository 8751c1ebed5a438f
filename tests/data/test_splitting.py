"""Subsets of a split: held out, smaller, and of some classes."""

import numpy as np
import pytest

from deeper.data.dataset import Split, open_dataset
from deeper.data.prepare.prepare import prepare
from deeper.data.splitting import draw_by_class, first_of_draw, fold_of, hold_out, only_classes
from deeper.errors import UserError


def numbered(labels: np.ndarray) -> Split:
    """Return a split whose images hold their own numbers."""
    images = np.zeros((len(labels), 2, 2, 1), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 1, 0] = np.divmod(np.arange(len(labels)), 256)
    return Split.of(image=images, label=labels.astype(np.int32))


def numbers(split: Split) -> np.ndarray:
    return split.images[:, 0, 0, 0].astype(int) * 256 + split.images[:, 0, 1, 0]


def test_training_and_validation_are_disjoint_and_complete():
    whole = numbered(np.random.default_rng(0).integers(0, 10, 1003))
    train, validation = hold_out(whole, 97)
    assert (len(train), len(validation)) == (906, 97)
    assert sorted([*numbers(train), *numbers(validation)]) == list(range(1003))
    for part in (train, validation):
        np.testing.assert_array_equal(part.labels, whole.labels[numbers(part)])
        assert (np.diff(numbers(part)) > 0).all(), "in the order of the data set"


def test_validation_takes_the_same_share_of_each_class():
    whole = numbered(np.random.default_rng(1).permutation(np.arange(2000) % 10))
    assert np.bincount(hold_out(whole, 250)[1].labels).tolist() == [25] * 10
    assert set(np.bincount(hold_out(whole, 253)[1].labels).tolist()) <= {25, 26}
    uneven = numbered(np.repeat([0, 1, 2], [1000, 100, 10]))
    assert np.bincount(hold_out(uneven, 111)[1].labels).tolist() == [100, 10, 1]


def test_validation_is_the_same_whatever_was_drawn_before():
    whole = numbered(np.arange(500) % 7)
    np.random.default_rng().permutation(100)
    held = numbers(hold_out(whole, 50)[1])
    np.testing.assert_array_equal(held, numbers(hold_out(whole, 50)[1]))
    assert held[:5].tolist() == [8, 10, 16, 20, 23]
    assert np.ptp(held) > 400, "not one piece of the data set"


def test_nothing_held_out_leaves_the_data_set_as_it_is():
    whole = numbered(np.arange(20) % 2)
    train, validation = hold_out(whole, 0)
    assert train is whole
    assert len(validation) == 0


def test_every_example_is_tested_on_in_one_fold():
    whole = numbered(np.arange(103) % 2)
    parts = [fold_of(whole, 10, fold) for fold in range(10)]
    tested = [number for _, test in parts for number in numbers(test)]
    assert sorted(tested) == list(range(103))
    for train, test in parts:
        assert sorted([*numbers(train), *numbers(test)]) == list(range(103))
        assert abs(int((test.labels == 0).sum()) - int((test.labels == 1).sum())) <= 2


@pytest.mark.parametrize("n", [-1, 20, 21])
def test_holding_out_all_or_less_than_none_is_refused(n):
    with pytest.raises(UserError, match="hold out 0 to 19 of the 20 examples"):
        hold_out(numbered(np.arange(20) % 2), n)


def test_a_smaller_training_set_is_balanced_nested_and_a_function_of_its_draw():
    labels = (np.arange(2000) % 10).astype(np.int32)
    few, more = draw_by_class(labels, 40, 1), draw_by_class(labels, 100, 1)
    assert np.bincount(labels[few]).tolist() == [4] * 10
    assert set(few) < set(more)
    np.testing.assert_array_equal(few, draw_by_class(labels, 40, 1))
    assert not np.array_equal(few, draw_by_class(labels, 40, 2))
    split = Split.of(image=np.zeros((2000, 2, 2, 1), np.uint8), label=labels)
    np.testing.assert_array_equal(first_of_draw(split, 40, 0).labels, labels[np.sort(few)])
    with pytest.raises(UserError, match="there are 2,000 training examples; give 1 to 2000"):
        first_of_draw(split, 2001, 0)


def test_classes_that_are_kept_are_numbered_anew(tmp_path):
    prepare("digits", tmp_path)
    whole = open_dataset("digits", tmp_path)
    kept = only_classes(whole, (7, 2))
    assert kept.class_names == ("7", "2")
    for name, split in kept.splits.items():
        before = whole.splits[name]
        np.testing.assert_array_equal(
            split.images[split.labels == 0], before.images[before.labels == 7]
        )
        assert len(split) == np.isin(before.labels, (7, 2)).sum()
    for wrong in ((), (3, 3), (3, 10)):
        with pytest.raises(UserError, match="keep_classes"):
            only_classes(whole, wrong)
