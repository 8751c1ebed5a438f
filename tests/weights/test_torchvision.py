"""Names and layouts of torchvision's and timm's weights."""

import jax
import numpy as np
import pytest

from deeper.errors import UserError
from deeper.models.alexnet import alexnet
from deeper.models.convnext import convnext
from deeper.models.densenet import densenet
from deeper.models.googlenet import googlenet
from deeper.models.inception_v3 import inception_v3
from deeper.models.initializers import initialise
from deeper.models.lenet import lenet5
from deeper.models.mobilenet_v2 import mobilenet_v2
from deeper.models.regnet import regnet
from deeper.models.resnet import resnet
from deeper.models.vgg import vgg
from deeper.weights.torchvision import convert, revert, state_dict_shapes

NETS = {
    "alexnet": alexnet(10, hidden=16),
    "vgg11": vgg(11, 10, hidden=16),
    "vgg13_bn": vgg(13, 10, hidden=16, batch_norm=True),
    "googlenet": googlenet(10),
    "googlenet without heads": googlenet(10, auxiliary=False),
    "resnet18": resnet(18, 10),
    "resnext50": resnet(50, 10, groups=32, width_per_group=4),
    "seresnet18": resnet(18, 10, squeeze=16),
    "densenet121": densenet(121, 10),
    "mobilenet_v2": mobilenet_v2(10),
    "convnext_tiny": convnext("tiny", 10),
    "regnet_y_400mf": regnet("y_400mf", 10),
    "inception_v3": inception_v3(10),
}


def random_variables(model):
    """Variables of which no two values are alike, statistics included."""
    rng = np.random.default_rng(0)
    fresh = initialise(model, 0, (224, 224, 3))
    return jax.tree.map(lambda leaf: rng.random(leaf.shape, np.float32), fresh)


@pytest.mark.parametrize("name", NETS)
def test_round_trip_to_the_bit(name):
    variables = random_variables(NETS[name])
    there = revert(variables, NETS[name])
    assert {n: a.shape for n, a in there.items()} == state_dict_shapes(NETS[name])
    back = convert(there, NETS[name])
    expected = {"batch_stats": {}} | variables
    jax.tree.map(np.testing.assert_array_equal, back, expected)


def test_names_are_torchvisions():
    shapes = state_dict_shapes(resnet(50, 1000))
    assert shapes["layer1.0.downsample.0.weight"] == (256, 64, 1, 1)
    assert shapes["layer4.2.bn3.running_var"] == (2048,)
    assert shapes["fc.weight"] == (1000, 2048)
    shapes = state_dict_shapes(vgg(16, 1000, batch_norm=True))
    assert shapes["features.41.running_mean"] == (512,)
    assert shapes["classifier.0.weight"] == (4096, 25088)
    shapes = state_dict_shapes(alexnet(1000))
    assert shapes["features.10.weight"] == (256, 256, 3, 3)
    assert shapes["classifier.1.weight"] == (4096, 9216)
    shapes = state_dict_shapes(googlenet(1000))
    assert shapes["inception4e.branch3.1.conv.weight"] == (128, 32, 3, 3)
    assert shapes["aux2.fc1.weight"] == (1024, 2048)
    shapes = state_dict_shapes(resnet(50, 1000, squeeze=16))  # timm's
    assert shapes["layer1.0.se.fc1.weight"] == (16, 256, 1, 1)
    shapes = state_dict_shapes(densenet(121, 1000))
    assert shapes["features.denseblock4.denselayer16.norm1.running_mean"] == (992,)
    assert shapes["features.transition3.conv.weight"] == (512, 1024, 1, 1)
    shapes = state_dict_shapes(mobilenet_v2(1000))
    assert shapes["features.1.conv.1.weight"] == (16, 32, 1, 1)
    assert shapes["features.2.conv.1.0.weight"] == (96, 1, 3, 3)
    assert shapes["features.18.1.weight"] == (1280,)
    assert shapes["classifier.1.weight"] == (1000, 1280)
    shapes = state_dict_shapes(convnext("tiny", 1000))
    assert shapes["features.5.8.block.0.weight"] == (384, 1, 7, 7)
    assert shapes["features.5.8.block.3.weight"] == (1536, 384)
    assert shapes["features.5.8.layer_scale"] == (384, 1, 1)
    assert shapes["features.6.1.weight"] == (768, 384, 2, 2)
    shapes = state_dict_shapes(regnet("y_400mf", 1000))
    assert shapes["trunk_output.block2.block2-0.proj.0.weight"] == (104, 48, 1, 1)
    assert shapes["trunk_output.block2.block2-0.f.se.fc1.weight"] == (12, 104, 1, 1)
    shapes = state_dict_shapes(inception_v3(1000))
    assert shapes["Mixed_6c.branch7x7dbl_2.conv.weight"] == (160, 160, 7, 1)
    assert shapes["AuxLogits.conv1.conv.weight"] == (768, 128, 5, 5)


@pytest.mark.parametrize(
    "model, layer, shape",
    [
        (alexnet(10, hidden=16), "classifier.1", (256, 6, 6)),
        (vgg(11, 10, hidden=16, width=16), "classifier.0", (128, 7, 7)),
    ],
    ids=["alexnet", "a thin vgg"],
)
def test_a_dense_layer_after_maps_sees_the_same_values(model, layer, shape):
    weights = revert(random_variables(model), model)
    maps = np.random.default_rng(1).normal(size=shape).astype(np.float32)  # C, H, W
    theirs = weights[f"{layer}.weight"] @ maps.ravel()
    kernel = convert(weights, model)["params"]["fc1"]["kernel"]
    ours = maps.transpose(1, 2, 0).ravel() @ kernel
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_timms_vgg_has_convolutions_for_dense_layers():
    model = vgg(11, 10, hidden=16)
    weights = revert(random_variables(model), model)
    timm = {}
    names = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2"}
    names["classifier.6"] = "head.fc"
    for name, array in weights.items():
        prefix, leaf = name.rsplit(".", 1)
        timm[f"{names.get(prefix, prefix)}.{leaf}"] = array
    timm["pre_logits.fc1.weight"] = timm["pre_logits.fc1.weight"].reshape(16, 512, 7, 7)
    timm["pre_logits.fc2.weight"] = timm["pre_logits.fc2.weight"].reshape(16, 16, 1, 1)
    jax.tree.map(np.testing.assert_array_equal, convert(timm, model), convert(weights, model))


def test_counters_are_not_read_and_heads_may_be_left_out():
    weights = revert(random_variables(NETS["googlenet"]), NETS["googlenet"])
    weights["conv1.bn.num_batches_tracked"] = np.array(7)
    variables = convert(weights, NETS["googlenet without heads"])
    assert "aux1" not in variables["params"]


def test_everything_that_does_not_fit_is_named_at_once():
    weights = revert(random_variables(NETS["resnet18"]), NETS["resnet18"])
    del weights["layer1.0.bn1.weight"], weights["bn1.running_var"]
    weights["layer5.0.conv1.weight"] = np.zeros(3, np.float32)
    weights["conv1.weight"] = np.zeros((64, 1, 7, 7), np.float32)
    weights["fc.weight"] = np.zeros((10, 7), np.float32)
    with pytest.raises(UserError) as error:
        convert(weights, NETS["resnet18"])
    for name in (
        "layer1.0.bn1.weight",
        "bn1.running_var",
        "layer5.0.conv1.weight",
        "conv1.weight is 64x1x7x7, the net's is 64x3x7x7",
        "fc.weight is 10x7, the net's is 10x512",
    ):
        assert name in str(error.value)


@pytest.mark.parametrize(
    "model",
    [
        lenet5(10),
        alexnet(10, form="2012"),
        googlenet(10, form="2014"),
        resnet(20, 10),
        resnet(18, 10, pre_activation=True),
        resnet(18, 10, residual=False),
        densenet(40, 10),
        mobilenet_v2(10, stem="small"),
        convnext("tiny", 10, stem="small"),
        regnet("y_400mf", 10, stem="small"),
    ],
    ids=lambda model: type(model).__name__,
)
def test_nets_that_torchvision_lacks_are_refused(model):
    with pytest.raises(UserError, match="torchvision has"):
        convert({}, model)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("conv1.weight", np.nan, "conv1.weight: NaN or infinity"),
        ("fc.bias", np.inf, "fc.bias: NaN or infinity"),
        ("bn1.running_var", -0.5, "bn1.running_var: variances below 0"),
        ("bn1.running_mean", np.nan, "bn1.running_mean: NaN or infinity"),
    ],
)
def test_values_that_no_net_can_have_are_refused(name, value, message):
    shapes = state_dict_shapes(NETS["resnet18"])
    weights = {key: np.ones(shape, np.float32) for key, shape in shapes.items()}
    weights[name].flat[0] = value
    with pytest.raises(UserError, match=message):
        convert(weights, NETS["resnet18"])
