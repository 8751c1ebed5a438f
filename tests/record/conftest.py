"""Fixtures of tests/track with run directories."""

from tests.track.conftest import directory, path  # noqa: F401
