"""The functions here close over weights: as in `deeper see`, what is compiled is not kept."""

import pytest

from deeper.run import device


@pytest.fixture(autouse=True, scope="module")
def no_cache():
    device.close_cache()
    yield
    device.open_cache()
