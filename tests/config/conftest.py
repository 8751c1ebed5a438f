"""Commands in the tests' own process, as those of tests/cli give them."""

from tests.cli.conftest import mistake, said  # noqa: F401
