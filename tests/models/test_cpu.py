"""The CPU's formulations give the plain ones' values and gradients, and are used there alone."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from deeper.models import cpu


@pytest.fixture(autouse=True)
def kernels_on():
    cpu.use(True)
    yield
    cpu.use(True)


def both(function, *arguments):
    """Value and gradients with the CPU's formulations and with the plain ones."""
    results = []
    for enabled in (True, False):
        cpu.use(enabled)
        seed = jnp.asarray(np.random.default_rng(1).normal(size=100_000), jnp.float32)

        def scalar(*arguments, seed=seed):
            y = function(*arguments)
            return (y.astype(jnp.float32).ravel() * seed[: y.size]).sum(), y

        results.append(
            jax.jit(jax.grad(scalar, argnums=tuple(range(len(arguments))), has_aux=True))(
                *arguments
            )
        )
    return results


def assert_equal(results, rtol=1e-4):
    def close(a, b):
        scale = float(jnp.abs(b).max()) or 1.0
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * scale)

    jax.tree.map(close, *results)


# (height, width, kernel, stride, padding)
SHAPES = [
    (8, 8, 3, 1, 1),
    (9, 7, 3, 2, 1),
    (8, 8, 1, 1, 0),
    (9, 8, 1, 2, 0),
    (12, 11, 5, 1, 2),
    (15, 14, 7, 2, 3),
    (23, 24, 11, 4, 2),
    (2, 2, 3, 1, 1),
    (2, 3, 5, 1, 2),
    (1, 1, 3, 2, 1),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_convolution_and_its_gradients(shape):
    height, width, k, stride, padding = shape
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(3, height, width, 4)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(k, k, 4, 5)), jnp.float32)
    sides = ((padding, padding), (padding, padding))
    assert_equal(
        both(lambda x, w: cpu.conv(x, w, stride=(stride, stride), padding=sides), x, kernel)
    )


def test_convolution_in_groups():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 6, 6, 8)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 4, 6)), jnp.float32)
    y = cpu.conv(x, kernel, stride=(1, 1), padding=((1, 1), (1, 1)), groups=2)
    halves = [
        cpu.conv(
            x[..., 4 * g : 4 * g + 4],
            kernel[..., 3 * g : 3 * g + 3],
            stride=(1, 1),
            padding=((1, 1), (1, 1)),
        )
        for g in (0, 1)
    ]
    np.testing.assert_allclose(y, jnp.concatenate(halves, -1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("relu", [True, False])
def test_batch_norm_and_its_gradients(relu):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(1.0, 2.0, size=(4, 5, 3, 6)), jnp.float32)
    scale = jnp.asarray(rng.normal(1.0, 0.3, size=6), jnp.float32)
    bias = jnp.asarray(rng.normal(size=6), jnp.float32)
    assert_equal(both(lambda *a: cpu.batch_norm(*a, eps=1e-5, relu=relu)[0], x, scale, bias))


@pytest.mark.parametrize("size", [(6, 8), (7, 5)])
def test_max_pooling_and_its_gradient_also_with_ties(size):
    x = jnp.asarray(np.random.default_rng(0).integers(0, 3, (2, *size, 3)), jnp.float32)
    results = both(lambda x: cpu.max_pool(x, (2, 2), (2, 2), ((0, 0), (0, 0))), x)
    jax.tree.map(np.testing.assert_array_equal, *results)


def test_other_platforms_get_the_plain_formulation():
    def loss(x, kernel):
        return (cpu.conv(x, kernel, stride=(2, 2), padding=((1, 1), (1, 1))) ** 2).sum()

    arguments = (
        jax.ShapeDtypeStruct((2, 8, 8, 4), jnp.float32),
        jax.ShapeDtypeStruct((3, 3, 4, 4), jnp.float32),
    )
    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))
    texts = {
        platform: jax.export.export(gradient, platforms=[platform])(*arguments).mlir_module()
        for platform in ("cpu", "cuda", "tpu")
    }
    assert "optimization_barrier" in texts["cpu"]
    for platform in ("cuda", "tpu"):
        assert "optimization_barrier" not in texts[platform]
