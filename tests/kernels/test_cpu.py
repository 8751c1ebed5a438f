"""The formulations give the values and gradients of the plain ones; those of convolution are used
only on CPUs.
"""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from deeper.kernels import cpu_dispatch as cpu

# Sums in another order: float32 rounding, 6e-8, times the root of the number of terms and a margin.
ROUNDING = 3e-6
# Winograd's transformations multiply the rounding by the size of their entries, up to 64.
WINOGRAD = 5e-5


@pytest.fixture(autouse=True)
def kernels_on():
    cpu.use(True)
    yield
    cpu.use(True)


def normal(*shape: int, seed: int = 0, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def gradient_of(function, arguments):
    """(gradients, value) of a function against a fixed random cotangent, compiled."""

    def scalar(*arguments):
        y = function(*arguments)
        return (y.astype(jnp.float32) * normal(*y.shape, seed=1)).sum(), y

    return jax.jit(jax.grad(scalar, argnums=tuple(range(len(arguments))), has_aux=True))(*arguments)


def assert_equal(function, *arguments, tolerance=ROUNDING):
    """Value and gradients agree with and without the CPU's formulations."""
    results = []
    for enabled in (True, False):
        cpu.use(enabled)
        results.append(gradient_of(lambda *a: function(*a), arguments))
    assert_close(*results, tolerance=tolerance)


def assert_close(ours, plain, tolerance=ROUNDING):
    def close(a, b):
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(np.abs(b).max(), 1e-30))

    jax.tree.map(close, ours, plain)


def conv(stride=1, padding=((0, 0), (0, 0)), groups=1, dilation=1):
    sides = ((padding, padding), (padding, padding)) if isinstance(padding, int) else padding
    strides = (stride, stride) if isinstance(stride, int) else stride

    def function(x, kernel):
        return cpu.conv(x, kernel, stride=strides, padding=sides, groups=groups, dilation=dilation)

    return function


# x, kernel, how the window moves
CONVOLUTIONS = {
    "3x3": ((3, 8, 8, 4), (3, 3, 4, 32), conv(1, 1)),
    "3x3/2 of an odd map": ((3, 9, 7, 4), (3, 3, 4, 32), conv(2, 1)),
    "3x3/2 of an even map": ((3, 8, 10, 4), (3, 3, 4, 5), conv(2, 1)),
    "3x3/2 that misses the last row": ((3, 10, 9, 4), (3, 3, 4, 32), conv(2, 0)),
    "1x1": ((3, 8, 8, 4), (1, 1, 4, 32), conv()),
    "1x1, more channels than pixels": ((3, 2, 2, 8), (1, 1, 8, 32), conv()),
    "1x1/2 of an odd map": ((3, 9, 8, 4), (1, 1, 4, 5), conv(2)),
    "1x1/2, padded": ((3, 8, 8, 4), (1, 1, 4, 5), conv(2, ((1, 1), (0, 1)))),
    "5x5 to few channels": ((3, 12, 11, 1), (5, 5, 1, 6), conv(1, 2)),
    "5x5 to one channel": ((3, 12, 11, 2), (5, 5, 2, 1), conv(1, 0)),
    "7x7/2": ((3, 15, 14, 3), (7, 7, 3, 32), conv(2, 3)),
    "11x11/4": ((2, 23, 24, 3), (11, 11, 3, 32), conv(4, 2)),
    "few channels of large maps, in parts": ((32, 32, 32, 16), (3, 3, 16, 8), conv(1, 1)),
    "asymmetric padding": ((3, 9, 8, 4), (3, 2, 4, 6), conv((2, 1), ((0, 2), (1, 0)))),
    "a stride beyond the kernel": ((3, 8, 8, 4), (2, 2, 4, 5), conv(3)),
    "a map smaller than the kernel": ((3, 2, 3, 4), (5, 5, 4, 5), conv(1, 2)),
    "one pixel, 3x3/2": ((3, 1, 1, 4), (3, 3, 4, 5), conv(2, 1)),
    "two groups": ((3, 6, 6, 8), (3, 3, 4, 6), conv(1, 1, groups=2)),
    "two groups, 3x3/2": ((3, 9, 8, 8), (3, 3, 4, 64), conv(2, ((0, 1), (1, 0)), groups=2)),
    "a group for each channel": ((2, 6, 6, 40), (3, 3, 1, 40), conv(1, 1, groups=40)),
    "7x7 of each channel": ((2, 9, 8, 24), (7, 7, 1, 24), conv(1, 3, groups=24)),
    "7x7 of each channel of a small map": ((2, 2, 1, 24), (7, 7, 1, 24), conv(1, 3, groups=24)),
    "3x3/2 of each channel": ((2, 9, 8, 12), (3, 3, 1, 12), conv(2, 1, groups=12)),
    "3x3/2 of each channel, misses": ((2, 8, 8, 2), (3, 3, 1, 2), conv(2, 0, groups=2)),
    "more padding than kernel": ((2, 4, 4, 9), (1, 3, 1, 9), conv(1, ((1, 2), (3, 0)), groups=9)),
    "thirty-two groups": ((2, 6, 5, 64), (3, 3, 2, 64), conv(1, 1, groups=32)),
    "dilation": ((3, 8, 9, 8), (3, 3, 8, 6), conv(1, 2, dilation=2)),
    "dilation, groups and a stride": ((3, 9, 9, 8), (3, 3, 4, 6), conv(2, 2, 2, 2)),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution_and_its_gradients(case):
    x, kernel, function = CONVOLUTIONS[case]
    assert_equal(function, normal(*x), normal(*kernel, seed=2))


# x, kernel, stride, padding, groups, dilation
SEQUENCES = {
    "3": ((3, 17, 4), (3, 4, 32), 1, 1, 1, 1),
    "3 of many channels": ((4, 32, 64), (3, 64, 128), 1, 1, 1, 1),
    "3/2": ((3, 17, 4), (3, 4, 5), 2, 1, 1, 1),
    "1/2": ((3, 18, 4), (1, 4, 32), 2, 0, 1, 1),
    "1": ((3, 18, 4), (1, 4, 32), 1, 0, 1, 1),
    "5/2 of each channel": ((2, 17, 12), (5, 1, 12), 2, 2, 12, 1),
    "80/4 of one channel": ((2, 400, 1), (80, 1, 8), 4, 38, 1, 1),
    "3, padded so that the result is longer": ((3, 17, 4), (3, 4, 32), 1, 2, 1, 1),
    "3/2, padded so that the result is longer": ((3, 6, 4), (3, 4, 32), 2, 8, 1, 1),
    "longer than the sequence": ((3, 4, 4), (7, 4, 5), 1, 3, 1, 1),
    "two groups, dilation": ((3, 20, 8), (3, 4, 6), 1, 2, 2, 2),
}


def conv_of_sequences(stride, padding, groups, dilation):
    sides = ((padding, padding),)

    def function(x, kernel):
        return cpu.conv(
            x, kernel, stride=(stride,), padding=sides, groups=groups, dilation=dilation
        )

    return function


@pytest.mark.parametrize("case", SEQUENCES)
def test_convolution_of_sequences_and_its_gradients(case):
    x, kernel, *window = SEQUENCES[case]
    assert_equal(conv_of_sequences(*window), normal(*x), normal(*kernel, seed=2))


@pytest.mark.parametrize("case", SEQUENCES)
def test_xla_turns_no_input_over_the_gradient_in_reverse(case):
    # It does where that is larger than the input, and has only a loop for it: 50 times slower.
    x, kernel, *window = SEQUENCES[case]
    function = conv_of_sequences(*window)
    gradient = jax.jit(jax.grad(lambda *a: (function(*a) ** 2).sum(), argnums=(0, 1)))
    assert "reversal" not in gradient.lower(normal(*x), normal(*kernel)).compile().as_text()


@pytest.mark.parametrize("shape", [(16, 8, 5, 64, 128), (8, 9, 12, 128, 64)], ids=str)
def test_convolution_of_many_channels_goes_by_winograd(shape):
    b, h, w, c, k = shape
    x, kernel = normal(b, h, w, c), normal(3, 3, c, k, seed=2)
    assert_equal(conv(1, 1), x, kernel, tolerance=WINOGRAD)
    cpu.use(True)
    assert "convolution(" not in jax.jit(conv(1, 1)).lower(x, kernel).compile().as_text()


def test_a_program_is_no_longer_for_more_groups():
    # As a convolution each, ResNeXt's 32 took 27 times longer to compile.
    def lines(groups):
        function = conv(1, 1, groups=groups)
        gradient = jax.jit(jax.grad(lambda *a: (function(*a) ** 2).sum(), argnums=(0, 1)))
        x, kernel = normal(2, 6, 6, 4 * groups), normal(3, 3, 4, 4 * groups)
        return len(gradient.lower(x, kernel).as_text().splitlines())

    assert lines(32) == lines(4)


def test_bfloat16_stays_bfloat16():
    x, kernel = normal(4, 8, 8, 64, dtype=jnp.bfloat16), normal(3, 3, 64, 128, dtype=jnp.bfloat16)
    # One rounding to bfloat16 at the end of each sum.
    assert_equal(conv(1, 1), x, kernel, tolerance=2**-7)
    assert conv(1, 1)(x, kernel).dtype == jnp.bfloat16


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_batch_norm_and_its_gradients(relu, dtype):
    x = (1.0 + 2.0 * normal(4, 5, 3, 6)).astype(dtype)
    scale, bias = 1.0 + 0.3 * normal(6, seed=2), normal(6, seed=3)
    tolerance = ROUNDING if dtype == "float32" else 2**-7
    assert_equal(
        lambda *a: cpu.batch_norm(*a, eps=1e-5, relu=relu)[0],
        x,
        scale,
        bias,
        tolerance=tolerance,
    )


@pytest.mark.parametrize("relu", [True, False])
def test_batch_norms_gradients_tell_the_rectifiers_mask_from_output_or_input_alike(relu):
    x, scale, bias = 1.0 + 2.0 * normal(4, 5, 3, 6), 1.0 + 0.3 * normal(6, seed=2), normal(6)
    dy = normal(4, 5, 3, 6, seed=4)
    y, mean, variance = cpu.batch_norm(x, scale, bias, eps=1e-5, relu=relu)
    saved = (x, scale, bias, mean, variance, y)
    by_output, by_input = (
        cpu.batch_norm_gradients(1e-5, relu, keeps, *saved, dy) for keeps in (True, False)
    )
    assert_close(by_input, by_output)
    assert relu == bool((y == 0).any())


@pytest.mark.parametrize("enabled", [True, False])
def test_batch_norms_variance_keeps_its_digits_beside_a_large_mean(enabled):
    x = 1000.0 + normal(8, 16, 16, 4)
    cpu.use(enabled)
    try:
        _, mean, variance = cpu.batch_norm(x, jnp.ones(4), jnp.ones(4), eps=1e-5, relu=False)
    finally:
        cpu.use(True)
    wide = np.asarray(x, np.float64)
    np.testing.assert_allclose(mean, wide.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(variance, wide.var((0, 1, 2)), rtol=1e-5)


def test_batch_norm_keeps_statistics_in_float32_and_sends_no_gradient_through_them():
    x = (1.0 + 2.0 * normal(4, 5, 3, 6)).astype(jnp.bfloat16)
    ones = jnp.ones(6)
    y, mean, variance = cpu.batch_norm(x, ones, ones, eps=1e-5, relu=False)
    assert (y.dtype, mean.dtype, variance.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)
    wide = np.asarray(x, np.float64)
    np.testing.assert_allclose(mean, wide.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(variance, wide.var((0, 1, 2)), rtol=1e-5)

    def statistics(x):
        return sum(v.sum() for v in cpu.batch_norm(x, ones, ones, eps=1e-5, relu=False)[1:])

    assert not np.asarray(jax.grad(statistics)(x), np.float32).any()


POOLS = {
    "2x2": ((6, 8), 2, 2, ((0, 0), (0, 0))),
    "2x2 of an odd map": ((7, 5), 2, 2, ((0, 0), (0, 0))),
    "3x3/2, padded": ((9, 8), 3, 2, ((1, 1), (1, 1))),
    "3x3/2 with a partial window": ((8, 8), 3, 2, ((0, 1), (0, 1))),
    "3x3/1": ((7, 6), 3, 1, ((1, 1), (1, 1))),
    "2x2/3": ((9, 10), 2, 3, ((0, 0), (0, 0))),
}


@pytest.mark.parametrize("case", POOLS)
def test_max_pooling_and_its_gradient_also_with_ties(case):
    size, window, stride, padding = POOLS[case]
    x = jnp.asarray(np.random.default_rng(0).integers(0, 3, (2, *size, 3)), jnp.float32)
    assert_equal(lambda x: cpu.max_pool(x, (window, window), (stride, stride), padding), x)


@pytest.mark.parametrize(
    ("window", "stride", "padding"), [(2, 2, (0, 0)), (3, 2, (1, 1)), (4, 4, (0, 0))]
)
def test_max_pooling_of_sequences_and_its_gradient_also_with_ties(window, stride, padding):
    x = jnp.asarray(np.random.default_rng(0).integers(0, 3, (2, 17, 3)), jnp.float32)
    assert_equal(lambda x: cpu.max_pool(x, (window,), (stride,), (padding,)), x)


def block(x, kernel, scale, bias):
    """A bit of a net with everything in it."""
    y = cpu.conv(x, kernel, stride=(2, 2), padding=((1, 1), (1, 1)))
    y, _, _ = cpu.batch_norm(y, scale, bias, eps=1e-5, relu=True)
    return cpu.max_pool(y, (2, 2), (2, 2), ((0, 0), (0, 0)))


BLOCK = (normal(4, 8, 8, 4), normal(3, 3, 4, 4, seed=2), jnp.ones(4), jnp.zeros(4))


def squared(*arguments):
    return (block(*arguments) ** 2).sum()


block_gradient = jax.grad(squared, argnums=(0, 1, 2, 3))


def in_scan(*arguments):
    def step(carry, _):
        return carry, block_gradient(*carry)

    return jax.tree.map(lambda g: g[1], lax.scan(step, arguments, length=2)[1])


def in_a_loop_of_unknown_length(*arguments):
    def step(_, carry):
        return carry[0], block_gradient(*carry[0])

    once = jnp.int32(arguments[0].size > 0)
    return lax.fori_loop(0, once, step, (arguments, jax.tree.map(jnp.zeros_like, arguments)))[1]


def under_vmap(*arguments):
    return jax.tree.map(
        lambda g: g[1], jax.vmap(block_gradient)(*(jnp.stack([a, a]) for a in arguments))
    )


def under_remat(*arguments):
    return jax.grad(jax.checkpoint(squared), argnums=(0, 1, 2, 3))(*arguments)


def under_shard_map(*arguments):
    whole = PartitionSpec()
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    return jax.shard_map(
        block_gradient, mesh=mesh, in_specs=(whole,) * 4, out_specs=(whole,) * 4, check_vma=False
    )(*arguments)


@pytest.mark.parametrize(
    "form", [in_scan, in_a_loop_of_unknown_length, under_vmap, under_remat, under_shard_map]
)
def test_gradients_are_the_same(form):
    ours = jax.jit(lambda *a: form(*a))(*BLOCK)
    cpu.use(False)
    assert_close(ours, jax.jit(lambda *a: block_gradient(*a))(*BLOCK), tolerance=1e-5)


def test_nothing_is_chosen_at_run_time():
    for function in (block_gradient, in_scan, in_a_loop_of_unknown_length, under_vmap):
        compiled = jax.jit(lambda *a, function=function: function(*a)).lower(*BLOCK).compile()
        assert " conditional(" not in compiled.as_text()


def lowered(function, platform, *arguments):
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arguments]
    program = jax.jit(lambda *a: function(*a))
    return jax.export.export(program, platforms=[platform])(*shapes).mlir_module()


PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def test_other_platforms_get_the_plain_convolution():
    arguments = normal(4, 8, 8, 4), normal(3, 3, 4, 4, seed=2)
    gradients = jax.grad(lambda *a: (conv(2, 1)(*a) ** 2).sum(), argnums=(0, 1))
    ours = {p: lowered(gradients, p, *arguments) for p in ("cpu", "cuda", "tpu")}
    cpu.use(False)
    assert "optimization_barrier" in ours["cpu"]
    for platform in ("cuda", "tpu"):
        assert "optimization_barrier" not in ours[platform]
        plain = lowered(gradients, platform, *arguments)
        operation = "stablehlo.convolution"
        assert ours[platform].count(operation) == plain.count(operation) > 0


def test_max_poolings_gradient_scatters_on_a_tpu_alone():
    # Where operations are deterministic, XLA sorts a GPU's scatter: 50 million values in ResNet-50.
    scattered = {p: "select_and_scatter" in lowered(block_gradient, p, *BLOCK) for p in PLATFORMS}
    assert scattered == {"cpu": False, "cuda": False, "rocm": False, "tpu": True}


def test_a_compiled_function_is_traced_again_where_the_formulations_are_turned_off():
    pooled = jax.jit(lambda x: cpu.max_pool(x, (2, 2), (2, 2), ((0, 0), (0, 0))))
    x = normal(1, 4, 4, 1)

    def windows() -> int:
        return str(jax.make_jaxpr(pooled)(x)).count("custom_vjp_call")

    assert windows() == 1
    with cpu.turned_off():
        assert windows() == 0
    assert windows() == 1
