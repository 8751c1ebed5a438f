"""The examples of each batch, as pure functions of the seed and the number of the batch."""

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Int32


def batch_indices(
    n: int, batch_size: int, seed: int, step: int, repeats: int = 1
) -> Int32[np.ndarray, " batch"]:
    """Return the numbers of the examples in a training batch.

    Batches are cut from an endless stream of epochs, each of which is a new permutation of all
    examples. A batch may therefore contain the end of one epoch and the start of the next, and
    every example occurs exactly once per epoch.

    With repeated augmentation (Hoffer et al. 2019, arXiv:1901.09335) each example occurs
    ``repeats`` times in a row, and an epoch of as many positions has only the first examples of
    its permutation, as in DeiT's and timm's sampler. In a batch the copies of an example lie
    about ``batch_size / repeats`` rows apart: mixing takes neighbours, and normalisation sees the
    rows of one device.

    Args:
        n: number of examples in the split.
        batch_size: number of examples in a batch.
        seed: seed of the run.
        step: number of the batch, from 0.
        repeats: copies of an example.
    """
    stream = np.arange(step * batch_size, (step + 1) * batch_size, dtype=np.int64)
    positions = np.concatenate([stream[first::repeats] for first in range(repeats)])
    epochs, within = np.divmod(positions, n)
    out = np.empty(batch_size, np.int32)
    for epoch in np.unique(epochs):
        chosen = epochs == epoch
        out[chosen] = epoch_order(n, seed, int(epoch))[within[chosen] // repeats]
    return out


@lru_cache(maxsize=4)
def epoch_order(n: int, seed: int, epoch: int) -> Int32[np.ndarray, " n"]:
    """Return the permutation of an epoch, drawn with the counter-based key (seed, epoch)."""
    rng = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    order = rng.permutation(n).astype(np.int32)
    order.flags.writeable = False  # the cached array is shared by all callers
    return order


def padded_batches(
    n: int, batch_size: int
) -> tuple[Int32[np.ndarray, "batches batch"], Bool[np.ndarray, "batches batch"]]:
    """Return the batches of an evaluation, in which every example occurs exactly once.

    Returns:
        Numbers of the examples, 0 for padding of the last batch, and a mask that is False there.
    """
    batches = -(-n // batch_size)
    numbers = np.arange(batches * batch_size, dtype=np.int32).reshape(batches, batch_size)
    mask = numbers < n
    return np.where(mask, numbers, 0).astype(np.int32), mask
