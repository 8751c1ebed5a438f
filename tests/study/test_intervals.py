"""Intervals over seeds, folds and test examples agree with their formulas."""

import numpy as np
import pytest
from scipy import stats

from deeper.study.intervals import over_examples, over_folds, over_seeds

VALUES = [12.0, 13.0, 12.5, 11.5, 13.5]


def test_the_interval_over_seeds_is_students():
    found = over_seeds(VALUES)
    low, high = stats.t.interval(0.95, 4, np.mean(VALUES), stats.sem(VALUES))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert "5 seeds" in found.way


def test_fewer_than_five_have_their_range():
    for over in (over_seeds, over_folds):
        found = over([1.0, 3.0, 2.0])
        assert (found.mean, found.low, found.high) == (2.0, 1.0, 3.0)
        assert "least and greatest of 3" in found.way


def test_the_interval_over_folds_is_wider_as_training_sets_overlap():
    seeds, folds = over_seeds(VALUES), over_folds(VALUES)
    # Nadeau and Bengio 2003: 1 / k + 1 / (k - 1) in the place of 1 / k, here 9/20 and 1/5.
    assert folds.high - folds.mean == pytest.approx(1.5 * (seeds.high - seeds.mean))


def test_the_bootstrap_of_an_error_is_that_of_a_binomial():
    wrong = np.zeros((1, 2000))
    wrong[0, :400] = 100.0
    found = over_examples(wrong)
    low, high = stats.binom.ppf([0.025, 0.975], 2000, 0.2) / 20
    assert found.mean == pytest.approx(20.0)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.1)


def test_the_bootstrap_of_a_difference_is_paired():
    rng = np.random.default_rng(0)
    one = 100.0 * (rng.random((3, 1000)) < 0.3)
    other = one.copy()
    other[:, :20] = 0.0  # better on twenty examples, and the same on the others
    difference = over_examples(other - one)
    assert difference.high - difference.low < 1.0 < over_examples(one).high - over_examples(one).low
