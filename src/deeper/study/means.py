"""A mean over seeds, with its t interval or its range.

Below five seeds a t interval says little (with two its factor is 12.7): means come with the range.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

LEVEL = 0.95
FEWEST = 5  # seeds that an interval is shown of


@dataclass(frozen=True)
class Mean:
    """A mean over seeds.

    Attributes:
        values: one a seed.
        mean: of them.
        std: their standard deviation (n - 1); None for a single value.
        half_width: of the t interval of the mean; None for fewer than `FEWEST` values.
    """

    values: tuple[float, ...]
    mean: float
    std: float | None
    half_width: float | None

    @property
    def n(self) -> int:
        """Return the number of values."""
        return len(self.values)

    def __str__(self) -> str:
        """Write as ``13.21 ± 0.40``, or of few seeds ``13.21 (13.00 to 13.41)``, their range."""
        return self.write("{:.2f}")

    def write(self, form: str) -> str:
        """Write the mean and its spread, means and ends of ranges in a format."""
        mean = form.format(self.mean)
        if self.half_width is not None:
            words = f"{mean} ± {self.half_width:.2f}"
        elif self.n > 1:
            words = f"{mean} ({form.format(min(self.values))} to {form.format(max(self.values))})"
        else:
            words = mean
        return words.replace("-", "−")


def mean_of(values: Sequence[float], comparisons: int = 1) -> Mean:
    """Return mean, standard deviation and the half width of the mean's t interval.

    Args:
        values: one a seed.
        comparisons: intervals that are to hold at once with 95 %; of a single one each is of 95 %,
            of more of 100 % - 5 % / comparisons (Bonferroni).
    """
    n = len(values)
    mean = float(np.mean(values))
    if n < 2:
        return Mean((*values,), mean, None, None)
    std = float(np.std(values, ddof=1))
    if n < FEWEST:
        return Mean((*values,), mean, std, None)
    level = 1 - (1 - LEVEL) / comparisons
    half_width = float(special.stdtrit(n - 1, 0.5 + level / 2)) * std / math.sqrt(n)
    return Mean((*values,), mean, std, half_width)
