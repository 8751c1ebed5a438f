"""The global row numbers of the examples that a net is traced on.

A training step sets them and dropout reads them. A layer cannot derive them from its input, since a
device has only its share of the batch, in micro-batches and with several views of an image.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from jaxtyping import Array, Int

Rows = Int[Array, " batch"]

BY_ROW = "dropout_by_row"  # random stream that is shared by all micro-batches of a step

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
    """Return the rows set by `numbered_rows`; None outside of a training step."""
    return _rows.get()
