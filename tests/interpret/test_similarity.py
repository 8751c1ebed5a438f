"""CKA: alike where layers span the same, whatever their rotation and scale."""

import jax.numpy as jnp
import numpy as np
import pytest

from deeper.interpret.cka import cka, hsic

RNG = np.random.default_rng(0)


class Layers:
    """Stands for an opened net: fixed functions of the images by name."""

    def __init__(self, functions):
        self.functions = functions

    def __call__(self, images, layers):
        return {name: self.functions[name](images) for name in layers}


ROTATION = jnp.asarray(np.linalg.qr(RNG.normal(size=(48, 48)))[0], jnp.float32)
MIXED = jnp.asarray(RNG.normal(size=(48, 20)), jnp.float32)
NET = Layers(
    {
        "itself": lambda x: x.reshape(len(x), -1),
        "rotated": lambda x: 7.0 * x.reshape(len(x), -1) @ ROTATION,
        "other": lambda x: jnp.tanh(x.reshape(len(x), -1) @ MIXED),
        "independent": lambda x: jnp.asarray(RNG.normal(size=(len(x), 30)), jnp.float32),
    }
)
IMAGES = jnp.asarray(RNG.normal(size=(256, 4, 4, 3)), jnp.float32)


def written_out(one, other):
    """Return CKA by the definition of the unbiased estimator, entry by entry."""

    def estimate(k, m):
        n = len(k)
        ones = np.ones(n)
        value = np.trace(k @ m)
        value += (ones @ k @ ones) * (ones @ m @ ones) / ((n - 1) * (n - 2))
        value -= 2 / (n - 2) * (ones @ k @ m @ ones)
        return value / (n * (n - 3))

    grams = [x @ x.T * (1 - np.eye(len(x))) for x in (one, other)]
    return estimate(*grams) / np.sqrt(estimate(grams[0], grams[0]) * estimate(grams[1], grams[1]))


def test_it_is_the_definition_on_a_single_batch():
    names = ["itself", "other"]
    found = cka(NET, NET, (names, names), [IMAGES])
    values = {n: np.asarray(NET.functions[n](IMAGES), np.float64) for n in names}
    for i, one in enumerate(names):
        for j, other in enumerate(names):
            assert found[i, j] == pytest.approx(written_out(values[one], values[other]), abs=1e-4)


def test_rotation_and_scale_change_nothing_and_independence_is_zero():
    names = ["itself", "rotated", "independent"]
    seen = []
    batches = [IMAGES[i : i + 64] for i in range(0, 256, 64)]
    found = cka(NET, NET, (names, names[:2]), batches, seen.append)
    np.testing.assert_allclose(found[:2], 1.0, atol=1e-4)
    assert np.abs(found[2]).max() < 0.1
    assert seen == [64, 128, 192, 256]


def test_the_estimate_is_unbiased_over_batches():
    """Small batches give, on average, what a large one gives."""
    names = ["itself", "other"]
    whole = cka(NET, NET, (names, names), [IMAGES])[0, 1]
    small = cka(NET, NET, (names, names), [IMAGES[i : i + 16] for i in range(0, 256, 16)])[0, 1]
    assert small == pytest.approx(whole, abs=0.05)
    with np.errstate(all="raise"):
        assert np.isfinite(float(hsic(jnp.eye(5), jnp.eye(5))))
