"""A list of operations applied to a batch, and normalisation."""

import jax.numpy as jnp
import numpy as np
import pytest

from deeper.augment.crops_and_colour import Cutout, Flip, RandomCrop
from deeper.augment.pipeline import Normalise
from deeper.errors import UserError
from tests.augment.test_crops_and_colour import IMAGES, ROWS, run


def test_an_example_looks_the_same_in_any_shard():
    operations = (RandomCrop(2), Flip(), Cutout(3, (0.5,)))
    whole = run(*operations)
    parts = [
        run(*operations, images=IMAGES[i : i + 16], rows=ROWS[i : i + 16]) for i in range(0, 64, 16)
    ]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    assert not np.array_equal(whole, run(*operations, seed=1))


def test_normalise_subtracts_and_divides_on_the_unit_scale():
    out = Normalise((0.5,), (0.25,))(IMAGES)
    np.testing.assert_allclose(out, (np.asarray(IMAGES) / 255 - 0.5) / 0.25, rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="1 values but the images have 3"):
        Normalise((0.5,), (0.25,))(jnp.zeros((1, 2, 2, 3)))
