"""Fixtures of the data tests."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data import tiny


@pytest.fixture
def original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return a function that writes a small data set's original files and says where they are."""

    def write(name: str, **options) -> Path:
        directory = tmp_path / "original"
        tiny.install(name, directory, monkeypatch.setitem, monkeypatch.setattr, **options)
        return directory

    return write
