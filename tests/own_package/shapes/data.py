"""Signals with several bumps of different widths."""

import numpy as np

from deeper.data.dataset import Dataset, Split

WIDTHS = (2, 4, 8)


def signals(n: int, length: int) -> Dataset:
    """Return signals float32 (n, length, 1) with the widths of their bumps, (n, 3) of 0 and 1."""
    rng = np.random.default_rng(0)

    def split(count: int) -> Split:
        present = rng.integers(0, 2, (count, len(WIDTHS))).astype(np.int32)
        signal = rng.normal(0, 0.1, (count, length, 1)).astype(np.float32)
        for row, has in zip(signal, present, strict=True):
            for width, one in zip(WIDTHS, has, strict=True):
                start = rng.integers(0, length - width)
                row[start : start + width] += one / np.sqrt(width)
        return Split.of(signal=signal, present=present)

    return Dataset("signals", {"train": split(n), "test": split(n // 4)}, ("thin", "mid", "wide"))
