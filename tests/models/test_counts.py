"""Every net has the published number of parameters and multiply-accumulates."""

import jax
import jax.numpy as jnp
import pytest

from deeper.errors import UserError
from deeper.models.alexnet import alexnet
from deeper.models.convnext import convnext
from deeper.models.densenet import densenet
from deeper.models.googlenet import googlenet
from deeper.models.inception_v3 import inception_v3
from deeper.models.initializers import shapes_of
from deeper.models.layers import Dense
from deeper.models.lenet import lenet5
from deeper.models.mobilenet_v2 import mobilenet_v2
from deeper.models.regnet import RULES, regnet
from deeper.models.resnet import resnet
from deeper.models.vgg import vgg
from deeper.profile.macs import parameter_count, summarise

IMAGENET, CIFAR = (224, 224, 3), (32, 32, 3)

RESNET26 = {"blocks": (2, 2, 2, 2), "bottleneck": True}
# (net, input, parameters, GMAC). torchvision 0.29, timm 1.0.31 (ResNet-C, -D and of 26 layers), He
# et al. 2015 (plain and CIFAR nets: their tables' layers, computed), LeCun et al. 1998 with dense
# C3.
PUBLISHED = {
    "lenet5": (lenet5(10), (28, 28, 1), 61_706, 0.0004),
    "alexnet_owt": (alexnet(1000), IMAGENET, 61_100_840, 0.71),
    "vgg11": (vgg(11, 1000), IMAGENET, 132_863_336, 7.61),
    "vgg13": (vgg(13, 1000), IMAGENET, 133_047_848, 11.31),
    "vgg16": (vgg(16, 1000), IMAGENET, 138_357_544, 15.47),
    "vgg19": (vgg(19, 1000), IMAGENET, 143_667_240, 19.63),
    "vgg16_bn": (vgg(16, 1000, batch_norm=True), IMAGENET, 138_365_992, 15.47),
    "googlenet_bn": (googlenet(1000, auxiliary=False), IMAGENET, 6_624_904, 1.50),
    "resnet18": (resnet(18, 1000), IMAGENET, 11_689_512, 1.81),
    "resnet34": (resnet(34, 1000), IMAGENET, 21_797_672, 3.66),
    "plain18": (resnet(18, 1000, residual=False), IMAGENET, 11_515_688, None),
    "plain34": (resnet(34, 1000, residual=False), IMAGENET, 21_623_848, None),
    "resnet50": (resnet(50, 1000), IMAGENET, 25_557_032, 4.09),
    "resnet101": (resnet(101, 1000), IMAGENET, 44_549_160, 7.80),
    "resnet152": (resnet(152, 1000), IMAGENET, 60_192_808, 11.51),
    "resnet26": (resnet(None, 1000, **RESNET26), IMAGENET, 15_995_176, None),
    "resnet26d": (
        resnet(None, 1000, **RESNET26, stem="deep", shortcut="D"),
        IMAGENET,
        16_014_408,
        None,
    ),
    "resnet26t": (
        resnet(None, 1000, **RESNET26, stem="tiered", shortcut="D"),
        IMAGENET,
        16_011_872,
        None,
    ),
    "resnet18d": (resnet(18, 1000, stem="deep", shortcut="D"), IMAGENET, 11_708_744, None),
    "resnet50d": (resnet(50, 1000, stem="deep", shortcut="D"), IMAGENET, 25_576_264, None),
    "resnet50c": (resnet(50, 1000, stem="deep"), IMAGENET, 25_576_264, None),
    # timm 1.0.31; Hu et al. 2017, table 1, have 28 million for SE-ResNet-50.
    "seresnet18": (resnet(18, 1000, squeeze=16), IMAGENET, 11_779_624, None),
    "seresnet50": (resnet(50, 1000, squeeze=16), IMAGENET, 28_088_024, None),
    # torchvision 0.29.
    "densenet121": (densenet(121, 1000), IMAGENET, 7_978_856, 2.834),
    "densenet161": (densenet(161, 1000), IMAGENET, 28_681_000, 7.728),
    "densenet169": (densenet(169, 1000), IMAGENET, 14_149_480, 3.360),
    "densenet201": (densenet(201, 1000), IMAGENET, 20_013_928, 4.291),
    "mobilenet_v2": (mobilenet_v2(1000), IMAGENET, 3_504_872, 0.301),
    "convnext_tiny": (convnext("tiny", 1000), IMAGENET, 28_589_128, 4.456),
    "convnext_small": (convnext("small", 1000), IMAGENET, 50_223_688, 8.684),
    "convnext_base": (convnext("base", 1000), IMAGENET, 88_591_464, 15.355),
    "convnext_large": (convnext("large", 1000), IMAGENET, 197_767_336, 34.361),
    "regnet_x_400mf": (regnet("x_400mf", 1000), IMAGENET, 5_495_976, 0.414),
    "regnet_y_400mf": (regnet("y_400mf", 1000), IMAGENET, 4_344_144, 0.402),
    "inception_v3": (inception_v3(1000), (299, 299, 3), 27_161_264, 5.713),
    "resnet20_cifar": (resnet(20, 10), CIFAR, 269_722, 0.04055),
    "resnet32_cifar": (resnet(32, 10), CIFAR, 464_154, 0.06886),
    "resnet44_cifar": (resnet(44, 10), CIFAR, 658_586, 0.09717),
    "resnet56_cifar": (resnet(56, 10), CIFAR, 853_018, 0.12549),
    "resnet110_cifar": (resnet(110, 10, scan=True), CIFAR, 1_727_962, 0.25289),
}


# torchvision 0.29.
REGNETS = {
    "x_400mf": 5_495_976, "x_800mf": 7_259_656, "x_1_6gf": 9_190_136, "x_3_2gf": 15_296_552,
    "x_8gf": 39_572_648, "x_16gf": 54_278_536, "x_32gf": 107_811_560,
    "y_400mf": 4_344_144, "y_800mf": 6_432_512, "y_1_6gf": 11_202_430, "y_3_2gf": 19_436_338,
    "y_8gf": 39_381_472, "y_16gf": 83_590_140, "y_32gf": 145_046_770,
}  # fmt: skip
# Huang et al. 2017, table 2: (depth, growth rate, bottlenecks) -> million parameters.
DENSENETS = {
    (40, 12, False): 1.0, (100, 12, False): 7.0, (100, 24, False): 27.2,
    (100, 12, True): 0.8, (250, 24, True): 15.3, (190, 40, True): 25.6,
}  # fmt: skip


def test_every_regnet_has_torchvisions_parameters():
    assert REGNETS.keys() == RULES.keys()
    for variant, parameters in REGNETS.items():
        params = shapes_of(regnet(variant, 1000), IMAGENET)["params"]
        assert parameter_count(params) == parameters, variant


@pytest.mark.parametrize(("depth", "growth", "bottleneck"), DENSENETS)
def test_densenets_for_cifar_have_the_published_parameters(depth, growth, bottleneck):
    model = densenet(depth, 10, growth=growth, bottleneck=bottleneck)
    millions = parameter_count(shapes_of(model, CIFAR)["params"]) / 1e6
    assert round(millions, 1) == DENSENETS[depth, growth, bottleneck]


def test_mobilenet_v2_of_other_widths_has_the_authors_parameters():
    # README of the authors' code (tensorflow/models, slim/nets/mobilenet): 1.66 to 6.06 million.
    found = [
        parameter_count(shapes_of(mobilenet_v2(1001, width_multiplier=w), IMAGENET)["params"])
        for w in (0.35, 0.5, 0.75, 1.0, 1.4)
    ]
    assert [round(count / 1e6, 1) for count in found] == [1.7, 2.0, 2.6, 3.5, 6.1]


@pytest.mark.parametrize("name", PUBLISHED)
def test_net_has_the_published_parameters_and_macs(name):
    model, image_shape, parameters, gmacs = PUBLISHED[name]
    summary = summarise(model, image_shape)
    assert summary.parameters == parameters
    if gmacs is not None:
        # The published figure is rounded to its last digit.
        digits = len(str(gmacs).split(".")[1])
        assert round(summary.macs / 1e9, digits) == pytest.approx(gmacs, abs=10.0**-digits / 2)


def test_alexnet_of_2012_has_the_two_group_parameters():
    # Krizhevsky et al. 2012, figure 2, layer by layer, with biases.
    convolutions = (
        (11 * 11 * 3 + 1) * 96
        + (5 * 5 * 48 + 1) * 256
        + (3 * 3 * 256 + 1) * 384
        + (3 * 3 * 192 + 1) * 384
        + (3 * 3 * 192 + 1) * 256
    )
    dense = (6 * 6 * 256 + 1) * 4096 + (4096 + 1) * 4096 + (4096 + 1) * 1000
    params = shapes_of(alexnet(1000, form="2012"), IMAGENET)["params"]
    assert parameter_count(params) == convolutions + dense == 60_965_224


def test_lenet_of_1998_has_the_papers_trained_parameters():
    # LeCun et al. 1998, section II.B: C1 156, S2 12, C3 1516, S4 32, C5 48120, F6 10164; the
    # fixed radial-basis output is a dense layer of 850 here.
    total = 156 + 12 + 1516 + 32 + 48_120 + 10_164 + 850
    params = shapes_of(lenet5(10, form="1998"), (28, 28, 1))["params"]
    assert parameter_count(params) == total


def test_resnet_1202_has_the_published_parameter_count():
    # He et al. 2015, section 4.2: 19.4 million.
    assert parameter_count(shapes_of(resnet(1202, 10, scan=True), CIFAR)["params"]) == 19_421_274


def test_googlenets_two_auxiliary_heads_have_torchvisions_parameters():
    # A 1x1 convolution to 128 maps with BatchNorm, then 4x4x128 -> 1024 -> 1000, behind modules
    # of 512 and 528 channels.
    dense = (2048 + 1) * 1024 + (1024 + 1) * 1000
    heads = (512 + 528) * 128 + 2 * (2 * 128 + dense)
    params = shapes_of(googlenet(1000), IMAGENET)["params"]
    assert parameter_count(params) == 6_624_904 + heads == 13_004_888


def test_a_dense_layer_on_a_photograph_has_nearly_a_billion_parameters():
    # 640 * 480 * 3 * 1000 weights and 1000 biases.
    pixels = jax.ShapeDtypeStruct((1, 640 * 480 * 3), jnp.float32)
    params = jax.eval_shape(lambda x: Dense(1000).init(jax.random.key(0), x), pixels)
    assert parameter_count(params) == 921_601_000


def test_an_unknown_depth_lists_the_known_ones():
    with pytest.raises(UserError, match="18, 34, 50, 101, 152"):
        resnet(21, 10)
    with pytest.raises(UserError, match="18, 34, 50, 101, 152"):
        resnet(20, 10, form="imagenet")
    with pytest.raises(UserError, match="11, 13, 16, 19"):
        vgg(12, 10)
    with pytest.raises(UserError, match=r"121, 161, 169, 201.* 40 and 46"):
        densenet(41, 10)
    with pytest.raises(UserError, match="121, 161, 169, 201"):
        densenet(100, 10, form="imagenet")
    with pytest.raises(UserError, match="tiny, small, base, large"):
        convnext("huge", 10)
    with pytest.raises(UserError, match=r"x_400mf, .* y_32gf"):
        regnet("z_400mf", 10)
    with pytest.raises(UserError, match=r"rule=\[22, 24\]: give depth"):
        regnet(None, 10, rule=(22, 24))


def test_groups_are_for_bottlenecks():
    with pytest.raises(UserError, match=r"model\.bottleneck=true"):
        resnet(18, 10, groups=32)
    with pytest.raises(UserError, match=r"model\.bottleneck=true"):
        resnet(20, 10, width_per_group=128)


def test_a_net_whose_statistics_are_those_of_all_devices_counts_the_same():
    synchronised, own = resnet(8, 10, batch_norm_axis="data"), resnet(8, 10)
    counted, expected = summarise(synchronised, CIFAR), summarise(own, CIFAR)
    assert (counted.parameters, counted.macs) == (expected.parameters, expected.macs)
    assert counted.residual_bytes > 0
