"""Run directories, as those of tests/track."""

from tests.track.conftest import path  # noqa: F401
