"""Occlusion of long sequences covers parts of them, not every position."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from deeper.interpret import attribution


class Listens(nn.Module):
    """Answers by the sum of some positions alone."""

    at: tuple[int, int]

    @nn.compact
    def __call__(self, sounds, *, train: bool = False):
        heard = sounds[:, self.at[0] : self.at[1], 0].sum(axis=1)
        return jnp.stack([jnp.zeros_like(heard), heard], axis=1)


@pytest.mark.parametrize("length, calls", [(100, 100), (8000, 250)])
def test_occlusion_finds_what_the_net_hears_in_few_calls(length, calls):
    first, last = length // 2, length // 2 + length // 10
    done = []
    found = attribution.attribute(
        Listens((first, last)), {}, np.full((1, length, 1), 20.0 / length, np.float32),
        method="occlusion", classes=1, progress=lambda n, total: done.append((n, total)),
    )  # fmt: skip
    assert done[-1] == (calls, calls)
    assert found.maps.shape == (1, length)
    strong = np.flatnonzero(found.maps[0] > found.maps[0].max() / 2)
    reach = max(3, length // 100)
    assert first - reach <= strong[0] <= first + reach
    assert last - reach <= strong[-1] <= last + reach
