"""Which examples are in a batch: pure functions of the seed and the batch's number."""

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Int32


def batch_indices(n: int, batch_size: int, seed: int, step: int) -> Int32[np.ndarray, " batch"]:
    """Return the examples of a training batch.

    The examples stream by epoch after epoch, each in an order of its own; a batch may end one
    epoch and begin the next. So every example comes once an epoch and none is dropped.

    Args:
        n: examples in the split.
        batch_size: examples in a batch.
        seed: the run's seed.
        step: number of the batch, from 0.
    """
    positions = np.arange(step * batch_size, (step + 1) * batch_size, dtype=np.int64)
    epochs, within = np.divmod(positions, n)
    out = np.empty(batch_size, np.int32)
    for epoch in np.unique(epochs):
        chosen = epochs == epoch
        out[chosen] = epoch_order(n, seed, int(epoch))[within[chosen]]
    return out


@lru_cache(maxsize=4)
def epoch_order(n: int, seed: int, epoch: int) -> Int32[np.ndarray, " n"]:
    """Return the order of an epoch: a permutation from the counter-based key (seed, epoch)."""
    rng = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    order = rng.permutation(n).astype(np.int32)
    order.flags.writeable = False  # it is shared by all who ask for it
    return order


def padded_batches(
    n: int, batch_size: int
) -> tuple[Int32[np.ndarray, "batches batch"], Bool[np.ndarray, "batches batch"]]:
    """Return the examples of an evaluation, each exactly once, and which rows are not padding."""
    batches = -(-n // batch_size)
    numbers = np.arange(batches * batch_size, dtype=np.int32).reshape(batches, batch_size)
    mask = numbers < n
    return np.where(mask, numbers, 0).astype(np.int32), mask
