"""From what a user gives, texts or files, to the columns that a data set has.

A data set may carry a reader, as a call (``_target_`` and plain arguments) that its run records.
From the record alone it is built again, without the data, so that what is asked about later is read
by the very rules that the data set was made by.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

Given = str | Path  # a text, or a file


@dataclass(frozen=True)
class Read:
    """What a reader made of what it was given.

    Attributes:
        columns: name -> values (n, ...), as the data set's.
        names: what each example is called: its file, or the beginning of its text.
        left_out: a sentence for each example that could not be read.
        changed: what was done to examples, in words -> how many it was done to.
    """

    columns: Mapping[str, np.ndarray]
    names: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    changed: Mapping[str, int] = field(default_factory=dict)


class Reader(Protocol):
    """Reads examples that a user gives.

    A reader may have more:

    - ``symbols(row)``: what stands at each position of an example, for figures of attribution.
    - ``text(row)``: an example as a text, for tables of examples.
    - ``rate``: of sounds, samples a second, for tables of examples.
    - ``vocabulary``: what each number of a token stands for. A net is only given tokens of the
      vocabulary that it was trained with.
    """

    def __call__(self, given: Sequence[Given]) -> Read:
        """Read examples.

        Args:
            given: texts (str), or files and directories of them (Path).

        Raises:
            UserError: none of them can be read.
        """
