"""Residual branches that are left out in training, and those that squeeze and excite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deeper import rows
from deeper.errors import UserError
from deeper.models.initializers import initialise
from deeper.models.resnet import resnet
from deeper.models.squeeze_excitation import SqueezeExcitation, squeezed_channels
from deeper.models.stochastic_depth import StochasticDepth, rising

FEW_BLOCKS = {"form": "cifar", "blocks": (1, 3), "width": 4}


def factors_of(rate, count, numbers=None, seed=0):
    drop = StochasticDepth(rate)
    with rows.numbered_rows(jnp.arange(count) if numbers is None else jnp.array(numbers)):
        return drop.apply({}, count, True, rngs={"dropout": jax.random.key(seed)})


def test_rates_rise_linearly_to_the_last_blocks():
    # Huang et al. 2016, section 3: p_l = 1 - l / L (1 - p_L).
    np.testing.assert_allclose(rising(0.5, 4), [0.125, 0.25, 0.375, 0.5])


def test_a_share_of_the_branches_is_left_out_and_the_mean_stays():
    factors = np.asarray(factors_of(0.2, 4000))
    assert set(np.round(np.unique(factors), 5)) == {0.0, 1.25}
    assert (factors == 0).mean() == pytest.approx(0.2, abs=0.02)
    assert factors.mean() == pytest.approx(1.0, abs=0.03)


def test_an_examples_branch_goes_by_its_row_in_the_global_batch():
    whole = factors_of(0.5, 16)
    np.testing.assert_array_equal(whole[8:], factors_of(0.5, 8, range(8, 16)))
    assert (whole != factors_of(0.5, 16, seed=1)).any()


def test_no_branch_is_left_out_in_evaluation_or_at_a_rate_of_zero():
    assert StochasticDepth(0.5).apply({}, 3, False) is None
    assert StochasticDepth(0.0).apply({}, 3, True) is None


def trained(model, variables, images):
    def loss(params):
        logits, updated = model.apply(
            {**variables, "params": params},
            images,
            train=True,
            rngs={"dropout": jax.random.key(1)},
            mutable=["batch_stats"],
        )
        return (logits**2).mean(), (logits, updated)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])


@pytest.mark.long
@pytest.mark.parametrize("option", [{"scan": True}, {"remat": True}], ids=str)
def test_scan_and_remat_leave_out_the_same_branches(option):
    options = {**FEW_BLOCKS, "stochastic_depth": 0.5, "squeeze": 16}
    plain, other = resnet(None, 10, **options), resnet(None, 10, **options, **option)
    variables = initialise(plain, 0, (8, 8, 3))
    images = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype(np.float32)
    one, two = (trained(model, variables, images) for model in (plain, other))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), one, two)
    without = resnet(None, 10, **{**options, "stochastic_depth": 0.0})
    assert abs(one[0][0] - trained(without, variables, images)[0][0]) > 1e-3


@pytest.mark.parametrize("pre_activation", [False, True])
@pytest.mark.parametrize("bottleneck", [False, True])
def test_a_block_without_its_branch_is_its_shortcut(pre_activation, bottleneck):
    model = resnet(
        None, 10, form="cifar", blocks=(1,), width=4, bottleneck=bottleneck, shortcut="B",
        pre_activation=pre_activation, stochastic_depth=0.999999,
    )  # fmt: skip
    variables = initialise(model, 0, (8, 8, 3))
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)

    def maps(params):
        _, kept = model.apply(
            {**variables, "params": params}, images, train=True,
            rngs={"dropout": jax.random.key(0)}, mutable=["batch_stats", "intermediates"],
        )  # fmt: skip
        return kept["intermediates"]["stage1_out"][0]

    last = variables["params"]["stage1"]["block1"]["conv3" if bottleneck else "conv2"]
    before = maps(variables["params"])
    last["kernel"] = last["kernel"] * 3 + 1
    np.testing.assert_array_equal(before, maps(variables["params"]))
    assert np.abs(before).max() > 0


def test_channels_are_scaled_by_what_their_means_tell():
    # Hu et al. 2017, equations 2 to 4, by hand.
    rng = np.random.default_rng(0)
    x, w1, b1, w2, b2 = (
        rng.normal(size=shape).astype(np.float32)
        for shape in ((2, 3, 5, 8), (8, 4), (4,), (4, 8), (8,))
    )
    params = {"fc1": {"kernel": w1, "bias": b1}, "fc2": {"kernel": w2, "bias": b2}}
    s = 1 / (1 + np.exp(-(np.maximum(x.mean((1, 2)) @ w1 + b1, 0) @ w2 + b2)))
    y = SqueezeExcitation(4).apply({"params": params}, x)
    np.testing.assert_allclose(y, x * s[:, None, None], rtol=1e-5, atol=1e-6)


def test_squeezed_channels_are_the_papers_in_bottlenecks():
    assert [squeezed_channels(c, 16) for c in (256, 512, 1024, 2048)] == [16, 32, 64, 128]
    assert squeezed_channels(64, 16) == 8  # timm's least


def test_a_plain_net_has_no_branches():
    for option in ({"squeeze": 16}, {"stochastic_depth": 0.1}):
        with pytest.raises(UserError, match="plain net"):
            resnet(18, 10, residual=False, **option)
    with pytest.raises(UserError, match="stochastic_depth=1"):
        resnet(18, 10, stochastic_depth=1.0)
