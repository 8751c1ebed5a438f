"""The order of examples."""

import numpy as np
import pytest

from deeper.data.epoch_order import batch_indices, epoch_order, padded_batches

ORDER_OF_SEED_0 = [49806, 25494, 16864, 40736, 6833, 8976, 10507, 45381]


def stream(n: int, batch_size: int, seed: int, steps: range) -> np.ndarray:
    return np.concatenate([batch_indices(n, batch_size, seed, step) for step in steps])


@pytest.mark.parametrize(("n", "batch_size"), [(100, 10), (103, 10), (7, 16), (64, 64)])
def test_every_example_comes_once_an_epoch(n, batch_size):
    epochs = 3
    numbers = stream(n, batch_size, 0, range(-(-epochs * n // batch_size)))[: epochs * n]
    for epoch in numbers.reshape(epochs, n):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(n))


def test_a_batch_straddles_the_border_of_epochs():
    numbers = batch_indices(10, 4, 0, 2)
    np.testing.assert_array_equal(
        numbers, np.concatenate([epoch_order(10, 0, 0)[8:], epoch_order(10, 0, 1)[:2]])
    )


def test_a_batch_does_not_depend_on_the_ones_before():
    forward = [batch_indices(50, 8, 3, step) for step in range(40)]
    epoch_order.cache_clear()
    for step in (39, 0, 17, 17, 5):
        np.testing.assert_array_equal(batch_indices(50, 8, 3, step), forward[step])


def test_seeds_and_epochs_have_orders_of_their_own():
    orders = {tuple(epoch_order(50, seed, epoch)) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16


def test_the_batch_size_does_not_change_the_order_of_examples():
    np.testing.assert_array_equal(stream(30, 6, 1, range(20)), stream(30, 15, 1, range(8)))


def test_orders_are_those_that_recorded_results_were_made_with():
    assert batch_indices(60_000, 8, 0, 0).tolist() == ORDER_OF_SEED_0
    assert batch_indices(60_000, 8, 0, 0).dtype == np.int32


@pytest.mark.parametrize(("n", "batch_size"), [(90, 12), (91, 16), (1000, 64)])
def test_repeated_examples_are_the_first_third_of_each_epoch_three_times(n, batch_size):
    steps = range(3 * n // batch_size + 1)
    numbers = np.concatenate(
        [np.sort(batch_indices(n, batch_size, 0, step, repeats=3)) for step in steps]
    )
    shown = np.bincount(numbers[: n // batch_size * batch_size], minlength=n)
    assert np.count_nonzero(shown) == -(-(n // batch_size * batch_size) // 3)
    first = set(epoch_order(n, 0, 0)[: -(-n // 3)].tolist())
    assert set(np.flatnonzero(shown).tolist()) <= first
    assert shown.max() == 3


def test_repeated_examples_are_not_neighbours_and_lie_a_third_of_a_batch_apart():
    numbers = batch_indices(10_000, 48, 0, 5, repeats=3)
    for number, count in zip(*np.unique(numbers, return_counts=True)):
        places = np.flatnonzero(numbers == number)
        assert count == 3
        np.testing.assert_array_equal(np.diff(places), 16)


def test_an_example_that_is_not_repeated_comes_as_before():
    np.testing.assert_array_equal(batch_indices(50, 8, 3, 4, repeats=1), batch_indices(50, 8, 3, 4))


def test_a_shared_order_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        epoch_order(10, 0, 0)[0] = 1


@pytest.mark.parametrize(("n", "batch_size", "batches"), [(10, 5, 2), (11, 5, 3), (3, 8, 1)])
def test_an_evaluation_sees_every_example_exactly_once(n, batch_size, batches):
    numbers, mask = padded_batches(n, batch_size)
    assert numbers.shape == mask.shape == (batches, batch_size)
    assert numbers.dtype == np.int32
    assert mask.dtype == bool
    np.testing.assert_array_equal(numbers[mask], np.arange(n))
    assert mask.sum() == n
    assert ((numbers >= 0) & (numbers < n)).all()


def test_an_evaluation_of_nothing_has_no_batch():
    assert padded_batches(0, 5)[0].shape == (0, 5)
