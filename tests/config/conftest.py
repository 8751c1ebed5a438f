"""Fixtures of tests/cli that run commands in this process."""

from tests.cli.conftest import mistake, said  # noqa: F401
