"""Turns off the compilation cache, as `deeper see` does, since the compiled functions contain
weights.
"""

import pytest

from deeper.run import device


@pytest.fixture(autouse=True, scope="module")
def no_cache():
    device.close_cache()
    yield
    device.open_cache()
