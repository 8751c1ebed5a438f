"""Shapes, forms and equalities of the nets."""

from functools import cache

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deeper.errors import UserError
from deeper.models import layers
from deeper.models.alexnet import alexnet
from deeper.models.convnext import convnext
from deeper.models.densenet import densenet
from deeper.models.googlenet import googlenet
from deeper.models.inception_v3 import inception_v3
from deeper.models.initializers import initialise, shapes_of
from deeper.models.lenet import lenet5
from deeper.models.mobilenet_v2 import mobilenet_v2
from deeper.models.regnet import RULES, regnet, stages_of
from deeper.models.resnet import resnet
from deeper.models.vgg import vgg
from deeper.models.zfnet import zfnet

SMALL = {
    "lenet5": lenet5(10),
    "lenet5_1998": lenet5(10, form="1998"),
    "alexnet": alexnet(10, stem="small", hidden=32),
    "alexnet_2012": alexnet(10, form="2012", stem="small", hidden=32),
    "zfnet": zfnet(10, stem="small", hidden=32),
    "vgg11": vgg(11, 10, hidden=32),
    "googlenet": googlenet(10, stem="small"),
    "googlenet_2014": googlenet(10, form="2014", stem="small"),
    "resnet8": resnet(8, 10),
    "resnet18": resnet(18, 10),
    "resnet_C": resnet(8, 10, shortcut="C"),
    "resnet_pre": resnet(8, 10, pre_activation=True, shortcut="B"),
    "resnext": resnet(None, 10, blocks=(1, 1, 1, 1), bottleneck=True, groups=32, width_per_group=4),
    "se_pre": resnet(8, 10, pre_activation=True, squeeze=16, stochastic_depth=0.2),
    "densenet": densenet(22, 10),
    "densenet without bottlenecks": densenet(13, 10, bottleneck=False, dropout=0.2),
    "densenet121": densenet(121, 10, stem="small"),
    "mobilenet_v2": mobilenet_v2(10, stem="small"),
    "convnext": convnext("tiny", 10, stem="small"),
    "regnet_x": regnet("x_400mf", 10, stem="small"),
    "regnet_y": regnet("y_400mf", 10, stem="small", stochastic_depth=0.1),
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


@pytest.mark.parametrize("image_shape", [(28, 28, 1), (32, 32, 3), (65, 48, 3)])
@pytest.mark.parametrize("name", SMALL)
def test_every_net_gives_float32_logits_at_small_sizes(name, image_shape):
    logits, updated = train_shapes(SMALL[name], image_shape)
    assert logits.shape == (4, 10)
    assert logits.dtype == jnp.float32
    maps = jax.tree.leaves(updated["intermediates"])
    assert maps
    assert all(min(m.shape) > 0 for m in maps)


@pytest.mark.parametrize(
    "make",
    [
        lambda d: resnet(8, 10, squeeze=16, stochastic_depth=0.2, dtype=d),
        lambda d: vgg(11, 10, hidden=16, dtype=d),
        lambda d: densenet(22, 10, dropout=0.2, dtype=d),
        lambda d: mobilenet_v2(10, stem="small", dtype=d),
        lambda d: convnext("tiny", 10, stem="small", dtype=d),
        lambda d: regnet("y_400mf", 10, stem="small", dtype=d),
    ],
)
def test_bfloat16_keeps_parameters_and_logits_in_float32(make):
    model = make("bfloat16")
    variables = shapes_of(model, (28, 28, 1))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    logits, updated = train_shapes(model, (28, 28, 1))
    assert logits.dtype == jnp.float32
    assert updated["intermediates"]["stage2_out"][0].dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(updated.get("batch_stats", {}))} <= {
        jnp.dtype("float32")
    }


# Smallest side at which no layer runs out of map: found by trying, and here tried again.
SMALLEST = {
    "alexnet": (alexnet(10, hidden=8), 63),
    "alexnet_2012": (alexnet(10, form="2012", hidden=8), 63),
    "alexnet_small": (alexnet(10, stem="small", hidden=8), 8),
    "zfnet": (zfnet(10, hidden=8), 47),
    "zfnet_small": (zfnet(10, stem="small", hidden=8), 8),
    "alexnet_2012_small": (alexnet(10, form="2012", stem="small", hidden=8), 8),
    "googlenet": (googlenet(10), 15),
    "googlenet_2014": (googlenet(10, form="2014"), 31),
    "googlenet_small": (googlenet(10, stem="small"), 2),
    "googlenet_2014_small": (googlenet(10, form="2014", stem="small"), 4),
    "densenet": (densenet(22, 10), 4),
    "densenet_imagenet": (densenet(None, 10, blocks=(1, 1, 1, 1)), 29),
    "densenet_small": (densenet(None, 10, blocks=(1, 1, 1, 1), stem="small"), 8),
    "convnext": (convnext("tiny", 10), 32),
    "convnext_small": (convnext("tiny", 10, stem="small"), 16),
    "inception_v3": (inception_v3(10), 75),
}


@pytest.mark.parametrize("name", SMALLEST)
def test_an_input_that_is_too_small_is_told_the_smallest_size(name, monkeypatch):
    model, least = SMALLEST[name]
    with pytest.raises(UserError, match=f"at least {least}x{least}"):
        shapes_of(model, (least - 1, 224, 3))
    # The stated size is not too strict: without it the layers themselves accept just this much.
    monkeypatch.setattr(layers, "require_images", lambda *_: None)
    shapes_of(model, (least, least, 3))
    with pytest.raises(UserError, match="too small"):
        shapes_of(model, (least - 1, least - 1, 3))


@pytest.mark.parametrize(
    "model",
    [
        lenet5(10), vgg(11, 10, hidden=8), resnet(18, 10), resnet(8, 10), mobilenet_v2(10),
        regnet("y_400mf", 10),
    ],
)  # fmt: skip
def test_nets_that_never_run_out_of_map_take_any_image(model):
    logits, _ = train_shapes(model, (5, 4, 1))
    assert logits.shape == (4, 10)


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


# A stage without alike blocks, and one that begins with a stride and has three.
FEW_BLOCKS = {"form": "cifar", "blocks": (1, 4), "width": 4}


@cache
def scanned_case(residual):
    """Variables, images, and what the unrolled net makes of them in training."""
    plain = resnet(None, 10, residual=residual, **FEW_BLOCKS)
    variables = initialise(plain, 0, (16, 16, 3))
    images = np.random.default_rng(0).normal(size=(8, 16, 16, 3)).astype(np.float32)
    return plain, variables, images, apply_train(plain, variables, images)


def assert_close(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), one, other)


@pytest.mark.parametrize(
    ("residual", "option"),
    [
        (True, {"scan": True}),
        (True, {"remat": True}),
        (True, {"scan": True, "remat": True}),
        (False, {"scan": True}),
    ],
    ids=str,
)
def test_scan_and_remat_change_no_number(residual, option):
    _, variables, images, expected = scanned_case(residual)
    other = resnet(None, 10, residual=residual, **FEW_BLOCKS, **option)
    jax.tree.map(np.testing.assert_array_equal, variables, initialise(other, 0, (16, 16, 3)))
    assert_close(expected, apply_train(other, variables, images))


def test_scan_changes_no_number_in_evaluation():
    plain, variables, images, _ = scanned_case(True)
    scanned = resnet(None, 10, **FEW_BLOCKS, scan=True)
    one, other = (m.apply(variables, images, train=False) for m in (plain, scanned))
    assert_close(one, other)


def test_scan_leaves_one_copy_of_a_stages_blocks_in_the_program():
    def convolutions(depth, scan):
        model = resnet(depth, 10, scan=scan)
        variables = shapes_of(model, (8, 8, 3))
        images = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
        traced = jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False))(variables, images)
        return str(traced).count("custom_vjp_call[")

    assert convolutions(38, scan=True) == convolutions(20, scan=True)
    assert convolutions(38, scan=False) > convolutions(20, scan=False)


def test_a_pre_activation_nets_first_block_activates_before_the_paths_part():
    # He et al. 2016, appendix. With the block's last kernel at zero only its shortcut is left.
    model = resnet(8, 10, pre_activation=True, width=4)
    variables = initialise(model, 0, (8, 8, 3))
    variables["params"]["stage1"]["block1"]["conv2"]["kernel"][:] = 0
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    _, state = model.apply(variables, images, train=False, mutable=["intermediates"])
    assert float(state["intermediates"]["stage1_out"][0].min()) == 0.0


@pytest.mark.parametrize(("stride_in", "strides"), [("3x3", [1, 2, 1]), ("1x1", [2, 1, 1])])
def test_a_bottleneck_has_its_stride_where_it_is_told(stride_in, strides):
    model = resnet(None, 10, form="imagenet", blocks=(1, 1), bottleneck=True, stride_in=stride_in)
    variables = shapes_of(model, (32, 32, 3))
    _, state = jax.eval_shape(
        lambda v, x: model.apply(v, x, train=False, capture_intermediates=True),
        variables,
        jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32),
    )
    block = state["intermediates"]["stage2"]["block1"]
    sizes = [block[f"conv{i}"]["__call__"][0].shape[1] for i in (1, 2, 3)]
    assert sizes == list(8 // np.cumprod(strides))


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


@pytest.mark.parametrize("size", [96, 299])
def test_inception_v3s_head_answers_in_training_alone_at_any_size(size):
    model = inception_v3(10)
    logits, updated = train_shapes(model, (size, size, 3))
    assert [head.shape for head in jax.tree.leaves(updated["auxiliary"])] == [logits.shape]
    same = jax.tree.map(lambda one, other: one.shape == other.shape, *(
        shapes_of(model, (side, side, 3)) for side in (75, size)
    ))  # fmt: skip
    assert all(jax.tree.leaves(same))


def test_inception_v3s_maps_are_those_of_the_papers_table():
    # Szegedy et al. 2015, table 1: 35x35x192 into the modules, then 35x35x288, 17x17x768, 8x8x2048.
    _, updated = train_shapes(inception_v3(10), (299, 299, 3))
    sizes = {name: maps[0].shape[1:] for name, maps in updated["intermediates"].items()}
    assert sizes == {
        "stage1_out": (35, 35, 192),
        "stage5_out": (35, 35, 288),
        "stage6_out": (17, 17, 768),
        "stage7_out": (8, 8, 2048),
    }


@pytest.mark.long
@pytest.mark.parametrize(
    "make",
    [
        lambda remat: densenet(10, 10, growth=4, remat=remat),
        lambda remat: regnet(None, 10, rule=(4, 8, 4.0, 2.0, 4), squeeze_excitation=True,
                             remat=remat, stochastic_depth=0.5),
    ],
    ids=["densenet", "regnet"],
)  # fmt: skip
def test_remat_changes_no_number(make):
    variables = initialise(make(False), 0, (16, 16, 3))
    images = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype(np.float32)
    one, other = (apply_train(make(remat), variables, images) for remat in (False, True))
    assert_close(one, other)


def test_a_layer_of_a_densenet_sees_all_maps_before_it():
    params = shapes_of(densenet(40, 10, growth=12), (32, 32, 3))["params"]
    inputs = [params["stage1"][f"layer{i}"]["conv1"]["kernel"].shape[2] for i in range(1, 7)]
    assert inputs == [24 + 12 * i for i in range(6)]
    # Compression: 24 + 6 * 12 = 96 channels, of which half go on.
    assert params["transition1"]["conv"]["kernel"].shape[2:] == (96, 48)


def test_a_convnexts_blocks_begin_nearly_as_the_identity():
    model = convnext("tiny", 10, stem="small")
    scale = initialise(model, 0, (16, 16, 3))["params"]["stage2"]["block1"]["layer_scale"]
    np.testing.assert_array_equal(scale, np.full(192, 1e-6, np.float32))


def test_a_regnets_widths_follow_from_its_rule():
    # Radosavovic et al. 2020, figure 19 (RegNetX-400MF): d = 1, 2, 7, 12; w = 32, 64, 160, 384, of
    # which torchvision rounds the last to 400.
    stages = stages_of(RULES["x_400mf"])
    assert [s.blocks for s in stages] == [1, 2, 7, 12]
    assert [s.width for s in stages] == [32, 64, 160, 400]


def test_a_zero_last_scale_makes_residual_blocks_the_identity():
    model = resnet(8, 10, zero_init_last=True, width=4)
    variables = initialise(model, 0, (8, 8, 3))
    assert not variables["params"]["stage1"]["block1"]["bn2"]["scale"].any()
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    _, state = model.apply(
        variables,
        images,
        train=False,
        mutable=["intermediates"],
        capture_intermediates=lambda module, _: module.path == ("bn1",),
    )
    seen = state["intermediates"]
    np.testing.assert_allclose(seen["stage1_out"][0], seen["bn1"]["__call__"][0], atol=1e-6)


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


def test_initialisation_compiles_nothing(caplog):
    with jax.log_compiles(), caplog.at_level("DEBUG"):
        initialise(resnet(14, 10, width=5), 0, (12, 12, 3))
        assert not [record.message for record in caplog.records if "XLA" in record.message]
        jax.jit(lambda x: x * 17)(jnp.ones(13))  # which is how a compilation would show
        assert [record.message for record in caplog.records if "XLA" in record.message]


def first_kernel(model, image_shape, *path):
    leaf = initialise(model, 0, image_shape)["params"]
    for name in path:
        leaf = leaf[name]
    return leaf


def test_initial_values_follow_the_papers_rules():
    # PyTorch's default for LeNet: uniform within 1 / sqrt(fan in), here 25 * 6.
    conv2 = first_kernel(lenet5(10), (28, 28, 1), "conv2", "kernel")
    assert np.abs(conv2).max() == pytest.approx(150**-0.5, rel=0.02)
    # LeCun et al. 1998, appendix A: 2.4 / fan in.
    fc1 = first_kernel(lenet5(10, form="1998"), (28, 28, 1), "fc1", "kernel")
    assert np.abs(fc1).max() == pytest.approx(2.4 / 400, rel=0.02)
    # Krizhevsky et al. 2012, section 5: standard deviation 0.01; biases of one in conv 2, 4, 5.
    params = initialise(alexnet(10, form="2012", stem="small", hidden=16), 0, (28, 28, 1))["params"]
    assert params["conv2"]["kernel"].std() == pytest.approx(0.01, rel=0.02)
    ones = [i for i in range(1, 6) if params[f"conv{i}"]["bias"].all()]
    assert ones == [2, 4, 5]
    assert params["fc1"]["bias"].all()
    assert not params["fc3"]["bias"].any()
    # torchvision's GoogLeNet: 0.01, truncated at two of them.
    kernel = first_kernel(googlenet(10), (32, 32, 3), "inception3a", "branch2", "conv", "kernel")
    assert np.abs(kernel).max() <= 0.02
    assert kernel.std() == pytest.approx(0.0088, rel=0.02)


def test_a_net_with_flax_initialisers_is_initialised_by_flax():
    import flax.linen as nn

    class Users(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            return nn.Dense(10, name="fc")(x.mean((1, 2)))

    variables = initialise(Users(), 0, (8, 8, 3))
    assert variables["params"]["fc"]["kernel"].shape == (3, 10)
    assert variables["params"]["fc"]["kernel"].std() > 0


class Mixed(nn.Module):
    """The layers of this package beside flax's own."""

    boxed: bool = False

    @nn.compact
    def __call__(self, x, *, train):
        x = layers.Conv(4, 3)(x)
        x = layers.BatchNorm(relu=True)(x, train)
        x = nn.BatchNorm(use_running_average=not train)(x)
        drawn = nn.initializers.lecun_normal()
        drawn = nn.with_partitioning(drawn, (None, None)) if self.boxed else drawn
        x = layers.Dense(6)(x.mean((1, 2)))
        return nn.Dense(10, kernel_init=drawn)(x)


class OursAlone(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        x = layers.Conv(4, 3)(x)
        return layers.Dense(6)(layers.BatchNorm()(x, train).mean((1, 2)))


@pytest.mark.parametrize("boxed", [False, True])
def test_our_layers_begin_by_their_rules_beside_layers_of_flax(boxed):
    found = initialise(Mixed(boxed), 3, (8, 8, 3))
    alone = initialise(OursAlone(), 3, (8, 8, 3))
    for name in ("Conv_0", "BatchNorm_0", "Dense_0"):
        jax.tree.map(np.testing.assert_array_equal, found["params"][name], alone["params"][name])
    np.testing.assert_array_equal(found["batch_stats"]["BatchNorm_0"]["var"], np.ones(4))
    assert found["params"]["Conv_0"]["kernel"].std() > 0.1
    # Flax's are drawn by flax, and depend on the seed.
    np.testing.assert_array_equal(found["batch_stats"]["BatchNorm_1"]["var"], np.ones(4))
    np.testing.assert_array_equal(found["params"]["BatchNorm_1"]["scale"], np.ones(4))
    other = initialise(Mixed(boxed), 4, (8, 8, 3))
    assert found["params"]["Dense_1"]["kernel"].std() > 0.1
    assert (found["params"]["Dense_1"]["kernel"] != other["params"]["Dense_1"]["kernel"]).all()
