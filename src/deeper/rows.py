"""Which rows of a step's global batch a net is being traced on: the step says it, dropout asks.

A device sees its share of the batch alone, in micro-batches and with several views of an image, so
that a layer cannot tell the rows from the shape of its input.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from jaxtyping import Array, Int

Rows = Int[Array, " batch"]

BY_ROW = "dropout_by_row"  # random keys that are the same for all micro-batches of a step

_numbered: Rows | None = None


@contextmanager
def numbered_rows(rows: Rows) -> Iterator[None]:
    """Trace a net whose examples have these rows in the global batch."""
    global _numbered
    before, _numbered = _numbered, rows
    try:
        yield
    finally:
        _numbered = before


def numbered() -> Rows | None:
    """Return the rows that `numbered_rows` has set; None outside of a training step."""
    return _numbered
