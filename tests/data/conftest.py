"""Fixtures of the data tests."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data import tiny


@pytest.fixture
def original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return a function that writes the original files of a small data set and returns their
    directory.
    """

    def write(name: str, **options) -> Path:
        directory = tmp_path / "original"
        tiny.install(name, directory, monkeypatch.setitem, monkeypatch.setattr, **options)
        return directory

    return write
