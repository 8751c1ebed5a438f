"""The key ``inputs=`` of verbs that ask a net of sequences: a text, a file or a directory."""

from pathlib import Path

from deeper.data.reader import Given


def given_inputs(inputs: str) -> list[Given]:
    """Return what a reader is given: a path where there is such a file, else the text itself."""
    path = Path(inputs)
    return [path if _exists(path) else inputs]


def _exists(path: Path) -> bool:
    """Return whether there is such a file; a long text is the name of none."""
    try:
        return path.exists()
    except OSError:
        return False
