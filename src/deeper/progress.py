"""How long work tells how far it is; nothing here prints."""

from collections.abc import Callable

# (what is being done, how many are done, how many there are in all)
Progress = Callable[[str, int, int], None]


def quiet(what: str, done: int, total: int) -> None:
    """Tell nobody."""
