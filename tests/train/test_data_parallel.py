"""Values are averaged over devices in buckets, to the same bits as each by itself."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from deeper.train import data_parallel


@pytest.mark.parametrize(
    "sizes, limit, groups",
    [
        ([], 10, []),
        ([4], 10, [[0]]),
        ([4, 5, 6], 10, [[2], [1, 0]]),
        ([4, 5, 5], 10, [[2, 1], [0]]),
        ([1, 99, 1, 1], 10, [[3, 2], [1], [0]]),
        ([0, 0, 10, 0], 10, [[3, 2, 1, 0]]),
    ],
)
def test_buckets_are_filled_from_the_last_on(sizes, limit, groups):
    assert data_parallel.buckets(sizes, limit) == groups


def means_of(tree, mesh):
    """Return the means over devices, and how many exchanges the compiled program has."""
    mapped = jax.shard_map(
        lambda values: data_parallel.mean_over_devices(jax.tree.map(lambda v: v[0], values)),
        mesh=mesh,
        in_specs=P(data_parallel.DATA_AXIS),
        out_specs=P(),
        check_vma=False,
    )
    compiled = jax.jit(mapped).lower(tree).compile()
    return compiled(tree), compiled.as_text().count(" all-reduce(")


def test_a_mean_in_buckets_is_that_of_each_value(monkeypatch):
    mesh = data_parallel.data_mesh(jax.devices()[:4])
    draw = np.random.default_rng(0)
    shapes = {"a": (3, 5), "b": (), "c": (40,), "d": {"e": (7, 2), "f": (1,)}}
    tree = jax.tree.map(
        lambda shape: draw.normal(size=(4, *shape)).astype(np.float32),
        shapes,
        is_leaf=lambda value: isinstance(value, tuple),
    )
    whole, exchanges = means_of(tree, mesh)
    assert exchanges == 1
    monkeypatch.setattr(data_parallel, "BUCKET", 64)
    parts, exchanges = means_of(tree, mesh)
    assert exchanges >= 1  # the compiler may put small ones together again
    for one, other, values in zip(*map(jax.tree.leaves, (whole, parts, tree)), strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_allclose(other, values.mean(0), rtol=1e-6, atol=1e-7)
