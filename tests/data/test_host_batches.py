"""Batches gathered on the host."""

import threading
import time

import numpy as np
import pytest

from deeper.data.dataset import Split
from deeper.data.epoch_order import batch_indices, padded_batches
from deeper.data.host_batches import MOST_AHEAD, stream

N = 37


@pytest.fixture
def split() -> Split:
    images = np.random.default_rng(0).integers(0, 256, (N, 4, 5, 3), np.uint8)
    return Split.of(image=images, label=np.arange(N, dtype=np.int32))


def workers() -> int:
    return sum(thread.name.startswith("batches") for thread in threading.enumerate())


def test_batches_come_in_order_and_hold_the_examples_asked_for(split):
    def slow_when_even(step: int) -> np.ndarray:
        time.sleep(0.01 * (step % 2 == 0))
        return batch_indices(N, 8, 0, step)

    batches = list(stream(split, slow_when_even, 3, stop=20))
    assert len(batches) == 17
    for step, batch in enumerate(batches, 3):
        chosen = batch_indices(N, 8, 0, step)
        np.testing.assert_array_equal(batch["label"], chosen)
        np.testing.assert_array_equal(batch["image"], split.images[chosen])
        assert batch["mask"].all()
        assert (batch["image"].dtype, batch["label"].dtype) == (np.uint8, np.int32)
    assert workers() == 0


def test_padding_is_masked(split):
    numbers, mask = padded_batches(N, 8)
    numbers = np.where(mask, numbers, -1)
    batches = list(stream(split, numbers.__getitem__, 0, stop=len(numbers)))
    seen = np.concatenate([batch["label"][batch["mask"]] for batch in batches])
    np.testing.assert_array_equal(seen, np.arange(N))
    assert all(len(batch["label"]) == 8 for batch in batches)


def test_an_endless_stream_computes_only_so_far_ahead_and_closes(split):
    asked = []

    def numbers(step: int) -> np.ndarray:
        asked.append(step)
        return batch_indices(N, 8, 0, step)

    batches = stream(split, numbers, 0, stop=None)
    for _ in range(5):
        next(batches)
    batches.close()
    assert max(asked) < 5 + MOST_AHEAD
    assert workers() == 0


def test_an_error_in_a_worker_reaches_who_asks_for_the_batch(split):
    def numbers(step: int) -> np.ndarray:
        return np.full(8, 10 * N if step == 2 else step)

    batches = stream(split, numbers, 0, stop=10)
    next(batches), next(batches)
    with pytest.raises(IndexError, match="out of bounds"):
        next(batches)
    assert workers() == 0
