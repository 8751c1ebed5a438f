"""The type of progress callbacks; nothing here prints."""

from collections.abc import Callable

# (description, number done, total)
Progress = Callable[[str, int, int], None]


def quiet(what: str, done: int, total: int) -> None:
    """Ignore the progress."""
