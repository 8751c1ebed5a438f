"""The numbers of the examples that a net is being traced on, in the step's global batch.

A training step sets them and dropout reads them. A device sees its share of the batch alone, in
micro-batches and with several views of an image, so that a layer cannot tell them from its input.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from jaxtyping import Array, Int

Rows = Int[Array, " batch"]

BY_ROW = "dropout_by_row"  # the random stream that is the same for all micro-batches of a step

_rows: ContextVar[Rows | None] = ContextVar("rows", default=None)


@contextmanager
def numbered_rows(rows: Rows) -> Iterator[None]:
    """Trace a net on examples that are these rows of the global batch."""
    token = _rows.set(rows)
    try:
        yield
    finally:
        _rows.reset(token)


def current_rows() -> Rows | None:
    """Return the rows that `numbered_rows` has set; None outside of a training step."""
    return _rows.get()
