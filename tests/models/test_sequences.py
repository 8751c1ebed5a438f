"""The layers on sequences (batch, length, channels), also on padded ones."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from deeper.errors import UserError
from deeper.models import layers, valid_region
from deeper.models.initializers import initialise
from deeper.models.layers import BatchNorm, Conv, Dense
from deeper.profile.layer_table import layers_of
from deeper.profile.macs import summarise
from deeper.train.data_parallel import data_mesh

LENGTHS = np.array([23, 5, 1], np.int32)


class Net(nn.Module):
    """A convolution, BatchNorm, pooling, and a mean over the length."""

    @nn.compact
    def __call__(self, x: Any, *, train: bool) -> Any:
        with valid_region.padded_sequences(x.shape[1], valid_region.lengths_of(x)):
            y = Conv(6, 3, use_bias=True, name="conv1")(x)
            y = BatchNorm(relu=True, name="bn1")(y, train)
            self.sow("intermediates", "stage1_out", y)
            y = layers.max_pool(y, 3, 2, padding=1)
            y = Conv(4, 5, stride=2, name="conv2")(y)
            self.sow("intermediates", "stage2_out", y)
            return Dense(3, name="fc")(layers.global_avg_pool(y))


def variables_of(net, example):
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: (leaf * rng.uniform(0.5, 1, leaf.shape) + 0.02).astype(np.float32),
        initialise(net, 0, example),
    )


def padded(lengths, length, seed=0):
    """Return sequences (n, length, 2), zero behind their lengths."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(len(lengths), length, 2)).astype(np.float32)
    return np.where(np.arange(length)[None, :, None] < lengths[:, None, None], x, 0)


def test_a_convolution_of_sequences_is_the_sum_over_the_kernel():
    x = np.random.default_rng(0).normal(size=(2, 11, 3)).astype(np.float32)
    conv = Conv(4, 5, stride=2, use_bias=True)
    variables = initialise(_AsNet(conv), 0, (11, 3))
    found = _AsNet(conv).apply(variables, x, train=False)
    kernel, bias = (variables["params"]["layer"][name] for name in ("kernel", "bias"))
    assert kernel.shape == (5, 3, 4)
    around = np.pad(x, ((0, 0), (2, 2), (0, 0)))
    expected = np.stack(
        [np.einsum("blc,lck->bk", around[:, i : i + 5], kernel) for i in range(0, 11, 2)], 1
    )
    np.testing.assert_allclose(found, expected + bias, rtol=1e-4, atol=1e-5)


class _AsNet(nn.Module):
    layer: nn.Module

    def __call__(self, x: Any, *, train: bool) -> Any:
        del train
        return self.layer(x)


def test_what_lies_behind_a_sequence_has_no_part_in_its_answer():
    net = Net()
    variables = variables_of(net, (23, 2))
    x = padded(LENGTHS, 23)
    together = np.asarray(net.apply(variables, x, train=False))
    for row, length, logits in zip(x, LENGTHS, together, strict=True):
        for room in (length, length + 4, 40):
            alone = np.zeros((1, room, 2), np.float32)
            alone[0, :length] = row[:length]
            found = np.asarray(net.apply(variables, alone, train=False))[0]
            np.testing.assert_allclose(found, logits, rtol=0, atol=2e-6 * np.abs(logits).max())


def test_batch_norm_learns_from_valid_positions_alone():
    x = padded(LENGTHS, 23)
    variables = {
        "params": {"scale": jnp.ones(2), "bias": jnp.zeros(2)},
        "batch_stats": {"mean": jnp.zeros(2), "var": jnp.ones(2)},
    }
    with valid_region.padded_sequences(23, jnp.asarray(LENGTHS)):
        y, updated = BatchNorm().apply(variables, x, True, mutable=["batch_stats"])
    flat = np.concatenate([row[:n] for row, n in zip(x, LENGTHS, strict=True)])
    np.testing.assert_allclose(updated["batch_stats"]["mean"], 0.1 * flat.mean(0), rtol=1e-4)
    unbiased = flat.var(0, ddof=1)
    np.testing.assert_allclose(updated["batch_stats"]["var"], 0.9 + 0.1 * unbiased, rtol=1e-4)
    expected = (x[0] - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5)
    np.testing.assert_allclose(y[0], expected, rtol=1e-4, atol=1e-4)


def test_shared_statistics_of_padded_sequences_are_those_of_the_whole_batch():
    lengths = np.array([9, 2, 5, 1], np.int32)
    x, weights = padded(lengths, 9), padded(np.full(4, 9), 9, seed=1)
    variables = {
        "params": {"scale": jnp.ones(2), "bias": jnp.zeros(2)},
        "batch_stats": {"mean": jnp.zeros(2), "var": jnp.ones(2)},
    }

    def gradient_and_statistics(x, weights, axis=None):
        def loss(x):
            with valid_region.padded_sequences(9, valid_region.lengths_of(x)):
                norm = BatchNorm(axis=axis)
                y, updated = norm.apply(variables, x, True, mutable=["batch_stats"])
                return (valid_region.fill_padding(y) * weights).sum(), updated

        return jax.grad(loss, has_aux=True)(x)

    sharded = jax.jit(
        jax.shard_map(
            lambda x, weights: gradient_and_statistics(x, weights, "data"),
            mesh=data_mesh(jax.devices()[:2]),
            in_specs=P("data"),
            out_specs=(P("data"), P()),
            check_vma=False,
        )
    )
    whole, split = gradient_and_statistics(x, weights), sharded(x, weights)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), whole, split)


def test_lengths_end_at_the_last_position_that_is_not_zero():
    tokens = jnp.asarray([[3, 0, 2, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
    np.testing.assert_array_equal(valid_region.lengths_of(tokens), [3, 1, 5])
    rows = jax.nn.one_hot(tokens, 4)[..., 1:]
    np.testing.assert_array_equal(valid_region.lengths_of(rows), [3, 1, 5])


def test_a_net_of_sequences_is_counted_and_laid_out():
    net = Net()
    summary = summarise(net, (23, 2))
    assert summary.parameters == (3 * 2 * 6 + 6) + 12 + 5 * 6 * 4 + (4 * 3 + 3)
    assert summary.macs == 23 * 3 * 2 * 6 + 6 * 5 * 6 * 4 + 12
    rows = {layer.name: layer for layer in layers_of(net, (23, 2)) if layer.kind != "norm"}
    sizes = {name: row.field.size for name, row in rows.items() if row.field is not None}
    assert sizes == {"conv1": 3, "pool": 5, "conv2": 5 + 4 * 2, "fc": sizes["fc"]}
    assert (rows["conv2"].kernel, rows["conv2"].stride) == ("5", "2")


def test_a_sequence_too_short_for_a_layer_is_told_in_positions():
    with pytest.raises(UserError, match="2 positions"):
        layers.avg_pool(jnp.zeros((1, 2, 3)), 3, 3)
