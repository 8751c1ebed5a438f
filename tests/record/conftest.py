"""Run directories, as those of tests/track."""

from tests.track.conftest import directory, path  # noqa: F401
