"""DNA on the device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deeper.augment.dna import ReverseComplement, one_hot, reverse_complement
from deeper.augment.pipeline import augment
from deeper.data import dna
from deeper.errors import UserError

BASES = np.random.default_rng(0).integers(0, 5, (64, 9)).astype(np.uint8)


def test_unknown_bases_are_rows_of_zeros():
    rows = one_hot(jnp.asarray([[0, 1, 2, 3, 4]], jnp.uint8))
    np.testing.assert_array_equal(rows[0], np.concatenate([np.zeros((1, 4)), np.eye(4)]))


def test_the_other_strand_on_the_device_is_the_hosts():
    expected = np.stack([dna.reverse_complement(row) for row in BASES])
    found = reverse_complement(jnp.asarray(BASES))
    assert found.dtype == jnp.uint8
    np.testing.assert_array_equal(found, expected)


def test_each_example_draws_its_strand_by_its_row_alone():
    key, labels = jax.random.key(0), jnp.zeros(64, jnp.int32)
    operations = (ReverseComplement(),)
    rows = jnp.arange(64)
    whole, _ = augment(operations, key, rows, jnp.asarray(BASES), labels)
    part, _ = augment(operations, key, rows[40:], jnp.asarray(BASES[40:]), labels[40:])
    np.testing.assert_array_equal(whole[40:], part)
    other = np.asarray(reverse_complement(jnp.asarray(BASES)))
    turned = (np.asarray(whole) == other).all(axis=1)
    assert (turned | (np.asarray(whole) == BASES).all(axis=1)).all()
    assert 16 < turned.sum() < 48


@pytest.mark.parametrize("probability", [-0.1, 1.5])
def test_a_probability_is_a_share(probability):
    with pytest.raises(UserError):
        ReverseComplement(probability)


def test_images_have_no_other_strand():
    keys = jax.random.split(jax.random.key(0), 2)
    with pytest.raises(UserError, match="augment"):
        ReverseComplement()(keys, jnp.zeros((2, 8, 8, 1), jnp.uint8))
