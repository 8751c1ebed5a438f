"""Shapes, forms and equalities of the nets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deeper.errors import UserError
from deeper.models.alexnet import alexnet
from deeper.models.googlenet import googlenet
from deeper.models.init import initialise, shapes_of
from deeper.models.lenet import lenet5
from deeper.models.resnet import resnet
from deeper.models.vgg import vgg

SMALL = {
    "lenet5": lenet5(10),
    "lenet5_1998": lenet5(10, form="1998"),
    "alexnet": alexnet(10, stem="small", hidden=32),
    "alexnet_2012": alexnet(10, form="2012", stem="small", hidden=32),
    "vgg11": vgg(11, 10, hidden=32),
    "googlenet": googlenet(10, stem="small"),
    "googlenet_2014": googlenet(10, form="2014", stem="small"),
    "resnet8": resnet(8, 10),
    "resnet18": resnet(18, 10),
    "resnet_C": resnet(8, 10, shortcut="C"),
    "resnet_pre": resnet(8, 10, pre_activation=True, shortcut="B"),
    "resnext": resnet(50, 10, groups=32, width_per_group=4),
}


def train_shapes(model, image_shape, batch=4):
    variables = shapes_of(model, image_shape)
    images = jax.ShapeDtypeStruct((batch, *image_shape), jnp.float32)
    return jax.eval_shape(
        lambda v, x: model.apply(
            v,
            x,
            train=True,
            rngs={"dropout": jax.random.key(0)},
            mutable=["batch_stats", "auxiliary", "intermediates"],
        ),
        variables,
        images,
    )


@pytest.mark.parametrize("size", [28, 32, 65])
@pytest.mark.parametrize("name", SMALL)
def test_every_net_gives_float32_logits_at_small_sizes(name, size):
    for channels in (1, 3):
        logits, updated = train_shapes(SMALL[name], (size, size, channels))
        assert logits.shape == (4, 10)
        assert logits.dtype == jnp.float32
        assert updated["intermediates"]


@pytest.mark.parametrize(
    "make", [lambda d: resnet(8, 10, dtype=d), lambda d: vgg(11, 10, hidden=16, dtype=d)]
)
def test_bfloat16_keeps_parameters_and_logits_in_float32(make):
    model = make("bfloat16")
    variables = shapes_of(model, (28, 28, 1))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    logits, updated = train_shapes(model, (28, 28, 1))
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(updated.get("batch_stats", {}))} <= {
        jnp.dtype("float32")
    }


def test_an_input_that_is_too_small_is_said_to_be():
    with pytest.raises(UserError, match="too small"):
        shapes_of(alexnet(10), (28, 28, 1))


def test_stage_maps_halve_as_the_paper_says():
    # He et al. 2015, table 1: 56, 28, 14, 7 for 224 pixels.
    _, updated = train_shapes(resnet(18, 10), (224, 224, 3))
    sizes = [updated["intermediates"][f"stage{i}_out"][0].shape[1:] for i in (1, 2, 3, 4)]
    assert sizes == [(56, 56, 64), (28, 28, 128), (14, 14, 256), (7, 7, 512)]


def test_stride_two_pads_both_sides_as_torch_does():
    from deeper.models.layers import Conv

    # On [1, 2, 3, 4] a 3-wide box of stride 2 with one zero on each side sees 0+1+2 and 2+3+4;
    # SAME padding would have it see 1+2+3 and 3+4+0.
    x = jnp.arange(1.0, 5.0).reshape(1, 1, 4, 1).repeat(3, axis=1)
    conv = Conv(1, 3, stride=2)
    kernel = jnp.zeros((3, 3, 1, 1)).at[1].set(1.0)
    y = conv.apply({"params": {"kernel": kernel}}, x)
    np.testing.assert_array_equal(y[0, 0, :, 0], [3.0, 9.0])


def apply_train(model, variables, images):
    def loss(params):
        logits, updated = model.apply(
            {**variables, "params": params},
            images,
            train=True,
            rngs={"dropout": jax.random.key(1)},
            mutable=["batch_stats"],
        )
        return (logits**2).mean(), (logits, updated)

    gradients, (logits, updated) = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    return logits, gradients, updated


@pytest.mark.parametrize("option", [{"scan": True}, {"remat": True}, {"scan": True, "remat": True}])
@pytest.mark.parametrize("residual", [True, False])
def test_scan_and_remat_change_no_number(option, residual):
    kwargs = {"residual": residual, "width": 4}
    plain, other = resnet(26, 10, **kwargs), resnet(26, 10, **kwargs, **option)
    variables = initialise(plain, 0, (16, 16, 3))
    again = initialise(other, 0, (16, 16, 3))
    jax.tree.map(np.testing.assert_array_equal, variables, again)
    images = np.random.default_rng(0).normal(size=(8, 16, 16, 3)).astype(np.float32)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5),
        apply_train(plain, variables, images),
        apply_train(other, variables, images),
    )


def test_auxiliary_heads_answer_in_training_alone():
    model = googlenet(10, stem="small")
    _, updated = train_shapes(model, (28, 28, 1))
    assert len(jax.tree.leaves(updated["auxiliary"])) == 2
    variables = shapes_of(model, (28, 28, 1))
    _, updated = jax.eval_shape(
        lambda v, x: model.apply(v, x, train=False, mutable=["auxiliary"]),
        variables,
        jax.ShapeDtypeStruct((2, 28, 28, 1), jnp.float32),
    )
    assert not updated.get("auxiliary")


def test_a_zero_last_scale_makes_residual_blocks_the_identity():
    model = resnet(8, 10, zero_init_last=True, width=4)
    variables = initialise(model, 0, (8, 8, 3))
    assert not variables["params"]["stage1"]["block1"]["bn2"]["scale"].any()
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    _, state = model.apply(variables, images, train=False, mutable=["intermediates"])
    stem, _ = (
        model.apply(
            variables,
            images,
            train=False,
            mutable=["intermediates"],
            capture_intermediates=lambda m, _: m.name == "bn1" and len(m.path) == 1,
        ),
        None,
    )
    bn1 = stem[1]["intermediates"]["bn1"]["__call__"][0]
    np.testing.assert_allclose(state["intermediates"]["stage1_out"][0], bn1, atol=1e-6)


def test_initialisation_is_a_function_of_the_seed_and_the_leaf():
    model = resnet(110, 10)
    first, same = (initialise(model, 3, (32, 32, 3)) for _ in range(2))
    other = initialise(model, 4, (32, 32, 3))
    jax.tree.map(np.testing.assert_array_equal, first, same)
    kernel = first["params"]["stage2"]["block5"]["conv1"]["kernel"]
    assert not np.array_equal(kernel, other["params"]["stage2"]["block5"]["conv1"]["kernel"])
    assert not np.array_equal(kernel, first["params"]["stage2"]["block6"]["conv1"]["kernel"])
    # He et al. 2015 b: variance 2 / (9 x 32).
    assert kernel.std() == pytest.approx((2 / (9 * 32)) ** 0.5, rel=0.05)


def test_a_net_with_flax_initialisers_is_initialised_by_flax():
    import flax.linen as nn

    class Users(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            return nn.Dense(10, name="fc")(x.mean((1, 2)))

    variables = initialise(Users(), 0, (8, 8, 3))
    assert variables["params"]["fc"]["kernel"].shape == (3, 10)
    assert variables["params"]["fc"]["kernel"].std() > 0
