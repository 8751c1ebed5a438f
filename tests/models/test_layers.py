"""Layers against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from deeper.errors import UserError
from deeper.models import layers
from deeper.models.layers import BatchNorm, Dropout
from deeper.train.data_parallel import data_mesh


def batch_norm(x, **kwargs):
    c = x.shape[-1]
    variables = {
        "params": {"scale": jnp.ones(c), "bias": jnp.zeros(c)},
        "batch_stats": {"mean": jnp.zeros(c), "var": jnp.ones(c)},
    }
    return BatchNorm(**kwargs).apply(variables, x, True, mutable=["batch_stats"])


def test_running_variance_takes_in_the_unbiased_one():
    x = np.random.default_rng(0).normal(2.0, 3.0, (2, 3, 3, 4)).astype(np.float32)
    y, updated = batch_norm(x)
    flat = x.reshape(-1, 4)
    np.testing.assert_allclose(
        updated["batch_stats"]["var"], 0.9 + 0.1 * flat.var(0, ddof=1), rtol=1e-5
    )
    np.testing.assert_allclose(updated["batch_stats"]["mean"], 0.1 * flat.mean(0), rtol=1e-5)
    expected = (x - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_synchronised_statistics_over_four_devices_are_those_of_the_whole_batch():
    x = np.random.default_rng(0).normal(1.0, 2.0, (8, 3, 3, 4)).astype(np.float32)
    weights = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)

    def outputs_and_gradient(x, weights, **kwargs):
        def loss(x):
            y, updated = batch_norm(x, **kwargs)
            return (y * weights).sum(), (y, updated)

        gradient, (y, updated) = jax.grad(loss, has_aux=True)(x)
        return (y, gradient), updated

    mesh = data_mesh(jax.devices()[:4])
    sharded = jax.jit(
        jax.shard_map(
            lambda x, weights: outputs_and_gradient(x, weights, axis="data"),
            mesh=mesh,
            in_specs=P("data"),
            out_specs=((P("data"), P("data")), P()),
            check_vma=False,
        )
    )
    whole, split = outputs_and_gradient(x, weights), sharded(x, weights)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), whole, split)


def test_dropout_masks_do_not_depend_on_the_number_of_devices():
    x = jnp.ones((8, 50))

    def drop(x):
        return Dropout(0.5).apply({}, x, True, rngs={"dropout": jax.random.key(0)})

    whole = drop(x)
    for devices in (2, 4):
        split = jax.jit(
            jax.shard_map(
                drop,
                mesh=data_mesh(jax.devices()[:devices]),
                in_specs=P("data"),
                out_specs=P("data"),
                check_vma=False,
            )
        )(x)
        np.testing.assert_array_equal(whole, split)
    assert 0.3 < float((whole == 0).mean()) < 0.7
    assert not np.array_equal(whole[0], whole[1])


def test_local_response_norm_follows_the_papers_formula():
    a = np.random.default_rng(0).normal(size=(1, 2, 2, 7)).astype(np.float32)
    b = layers.local_response_norm(jnp.asarray(a), size=5, k=2.0, alpha=0.1, beta=0.75)
    for i in range(7):
        energy = (a[..., max(0, i - 2) : i + 3] ** 2).sum(-1)
        np.testing.assert_allclose(b[..., i], a[..., i] / (2 + 0.1 * energy) ** 0.75, rtol=1e-5)


@pytest.mark.parametrize(("length", "size"), [(13, 6), (7, 7), (9, 4), (2, 6)])
def test_adaptive_pooling_averages_torchs_cells(length, size):
    x = np.random.default_rng(0).normal(size=(1, length, length, 1)).astype(np.float32)
    y = layers.adaptive_avg_pool(jnp.asarray(x), size)
    for i in range(size):
        low, high = i * length // size, -(-(i + 1) * length // size)
        np.testing.assert_allclose(
            y[0, i, 0, 0], x[0, low:high, : -(-length // size)].mean(), rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize(("size", "outputs"), [(112, 56), (56, 28), (28, 14), (13, 6), (5, 2)])
def test_ceil_pooling_keeps_the_last_partial_window(size, outputs):
    x = jnp.arange(float(size)).reshape(1, size, 1, 1).repeat(size, axis=2)
    y = layers.max_pool(x, 3, 2, ceil=True)
    assert y.shape[1] == outputs
    assert float(y[0, -1, 0, 0]) == min(size - 1, 2 * (outputs - 1) + 2)


def test_ceil_pooling_needs_one_value_more_than_the_window_may_lack():
    # A window of 3 and stride 2 may reach out by one; PyTorch refuses a map of 1 too.
    assert layers.max_pool(jnp.ones((1, 2, 2, 1)), 3, 2, ceil=True).shape == (1, 1, 1, 1)
    with pytest.raises(UserError, match="3x3 max pooling gets maps of 1x1 and needs 2x2"):
        layers.max_pool(jnp.ones((1, 1, 1, 1)), 3, 2, ceil=True)


@pytest.mark.parametrize("size", [4, 5, 7])
def test_a_partial_window_of_average_pooling_is_averaged_over_what_it_holds(size):
    x = np.random.default_rng(0).normal(size=(2, size, size + 1, 3)).astype(np.float32)
    rows, columns = ([slice(i, i + 2) for i in range(0, n, 2)] for n in x.shape[1:3])
    expected = [[x[:, row, column].mean((1, 2)) for column in columns] for row in rows]
    found = layers.avg_pool(jnp.asarray(x), 2, 2, ceil=True)
    np.testing.assert_allclose(found, np.array(expected).transpose(2, 0, 1, 3), rtol=1e-5)
