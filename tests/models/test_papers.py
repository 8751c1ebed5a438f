"""Forms of nets that torchvision lacks have the layers of their papers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from deeper.models.alexnet import alexnet
from deeper.models.googlenet import googlenet
from deeper.models.initializers import initialise, shapes_of
from deeper.models.lenet import C3_INPUTS, SparseConv, lenet5
from deeper.models.resnet import resnet
from deeper.models.zfnet import zfnet
from deeper.profile.layer_table import depth_of, layers_of
from deeper.profile.macs import parameter_count

IMAGENET, CIFAR = (224, 224, 3), (32, 32, 3)


def rows(model, shape, kinds=("conv", "dense", "pool")):
    """(kernel and stride, output, parameters) of each layer."""
    return [
        (f"{layer.kernel}/{layer.stride}", layer.output, layer.parameters)
        for layer in layers_of(model, shape)
        if layer.kind in kinds
    ]


def test_alexnet_of_2012():
    # Krizhevsky et al. 2012, section 3.5 and figure 2: kernels as printed (a kernel of 48 or 192
    # channels sees the maps of its own GPU), overlapping pooling of 3 at stride 2 (section 3.4).
    # The paper says 224 pixels and draws 55x55, which takes two rows of padding more than it says.
    assert rows(alexnet(1000, form="2012"), IMAGENET) == [
        ("11x11/4x4", (55, 55, 96), 96 * (11 * 11 * 3 + 1)),
        ("3x3/2x2", (27, 27, 96), 0),
        ("5x5/1x1", (27, 27, 256), 256 * (5 * 5 * 48 + 1)),
        ("3x3/2x2", (13, 13, 256), 0),
        ("3x3/1x1", (13, 13, 384), 384 * (3 * 3 * 256 + 1)),
        ("3x3/1x1", (13, 13, 384), 384 * (3 * 3 * 192 + 1)),
        ("3x3/1x1", (13, 13, 256), 256 * (3 * 3 * 192 + 1)),
        ("3x3/2x2", (6, 6, 256), 0),
        ("/", (4096,), 4096 * (6 * 6 * 256 + 1)),
        ("/", (4096,), 4096 * (4096 + 1)),
        ("/", (1000,), 1000 * (4096 + 1)),
    ]


def test_zfnet():
    # Zeiler and Fergus 2013, figure 3: kernels, strides, maps and their sizes as printed, with
    # biases; every map sees all maps below, unlike AlexNet's.
    table = [
        ("7x7/2x2", (110, 110, 96), 96 * (7 * 7 * 3 + 1)),
        ("3x3/2x2", (55, 55, 96), 0),
        ("5x5/2x2", (26, 26, 256), 256 * (5 * 5 * 96 + 1)),
        ("3x3/2x2", (13, 13, 256), 0),
        ("3x3/1x1", (13, 13, 384), 384 * (3 * 3 * 256 + 1)),
        ("3x3/1x1", (13, 13, 384), 384 * (3 * 3 * 384 + 1)),
        ("3x3/1x1", (13, 13, 256), 256 * (3 * 3 * 384 + 1)),
        ("3x3/2x2", (6, 6, 256), 0),
        ("/", (4096,), 4096 * (6 * 6 * 256 + 1)),
        ("/", (4096,), 4096 * (4096 + 1)),
        ("/", (1000,), 1000 * (4096 + 1)),
    ]
    assert rows(zfnet(1000), IMAGENET) == table
    total = sum(parameters for _, _, parameters in table)
    assert parameter_count(shapes_of(zfnet(1000), IMAGENET)["params"]) == total == 62_357_608


def test_lenet_of_1998():
    # LeCun et al. 1998, section II.B: maps, trained parameters and connections of C1 to F6; a
    # connection is a trained parameter's use, so a convolution's biases count too.
    printed = [
        ("5x5/1x1", (28, 28, 6), 156, 122_304),
        ("2x2/2x2", (14, 14, 6), 12, 5_880),
        ("5x5/1x1", (10, 10, 16), 1_516, 151_600),
        ("2x2/2x2", (5, 5, 16), 32, 2_000),
        ("/", (120,), 48_120, 48_120),
        ("/", (84,), 10_164, 10_164),
    ]
    ours = rows(lenet5(10, form="1998"), (32, 32, 1))
    assert ours[:-1] == [row[:3] for row in printed]
    for (kernel, output, parameters), row in zip(ours, printed):
        places = output[0] * output[1] if len(output) == 3 else 1
        # A subsampling unit has four inputs and a bias.
        uses = 5 * output[-1] if kernel.startswith("2x2") else parameters
        assert places * uses == row[3]


def test_c3_of_lenet_sees_the_maps_of_table_one():
    # LeCun et al. 1998, table I: columns are the sixteen maps of C3, an X is a map of S2 it sees.
    table = [
        "X   XXX  XXXX XX",
        "XX   XXX  XXXX X",
        "XXX   XXX  X XXX",
        " XXX  XXXX  X XX",
        "  XXX  XXXX XX X",
        "   XXX  XXXX XXX",
    ]
    layer = SparseConv(C3_INPUTS, 5, dtype=jnp.float32)
    x = jnp.ones((1, 5, 5, 6))
    variables = jax.tree.map(jnp.ones_like, layer.init(jax.random.key(0), x))
    moved = jax.jacobian(lambda x: layer.apply(variables, x)[0, 0, 0])(x)
    sees = np.abs(moved).sum((1, 2, 3)).T > 0
    assert ["".join("X" if seen else " " for seen in row) for row in sees] == table


# Szegedy et al. 2014, table 1: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool proj; thousands of
# parameters (kernels, in units of 1024); output. What the printed widths amount to differs from the
# printed parameters by 7.5 % in 4c, 5 % in 5a and less than 2 % elsewhere: the widths are the net.
INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32, 159, 28),
    "3b": (128, 128, 192, 32, 96, 64, 380, 28),
    "4a": (192, 96, 208, 16, 48, 64, 364, 14),
    "4b": (160, 112, 224, 24, 64, 64, 437, 14),
    "4c": (128, 128, 256, 24, 64, 64, 463, 14),
    "4d": (112, 144, 288, 32, 64, 64, 580, 14),
    "4e": (256, 160, 320, 32, 128, 128, 840, 14),
    "5a": (256, 160, 320, 32, 128, 128, 1072, 7),
    "5b": (384, 192, 384, 48, 128, 128, 1388, 7),
}
BRANCHES = ("branch1", "branch2_reduce", "branch2", "branch3_reduce", "branch3", "branch4")


def test_googlenet_of_2014():
    model = googlenet(1000, form="2014")
    found = {layer.name: layer for layer in layers_of(model, IMAGENET)}
    stem = [(r[0], r[1]) for r in rows(model, IMAGENET)[:5]]
    assert stem == [
        ("7x7/2x2", (112, 112, 64)),
        ("3x3/2x2", (56, 56, 64)),
        ("1x1/1x1", (56, 56, 64)),
        ("3x3/1x1", (56, 56, 192)),
        ("3x3/2x2", (28, 28, 192)),
    ]
    inputs = 192
    for name, (*widths, thousands, side) in INCEPTION.items():
        total = 0
        seen = (inputs, inputs, widths[1], inputs, widths[3], inputs)
        for branch, kernel, channels, width in zip(BRANCHES, (1, 1, 3, 1, 5, 1), seen, widths):
            layer = found[f"inception{name}/{branch}/conv"]
            assert (layer.kernel, layer.output) == (f"{kernel}x{kernel}", (side, side, width))
            assert layer.parameters == width * (kernel * kernel * channels + 1)
            total += layer.parameters - width
        assert found[f"inception{name}"].output == (side, side, inputs)  # the branch's pooling
        assert total / 1024 == pytest.approx(thousands, rel=0.08)
        inputs = widths[0] + widths[2] + widths[4] + widths[5]
    assert found["fc"].output == (1000,) and inputs == 1024
    assert depth_of(list(found.values())) == 22


def test_the_auxiliary_heads_of_googlenet_of_2014():
    # Section 5: 5x5 average pooling at stride 3 to 4x4x512 and 4x4x528, a 1x1 to 128 maps, 1024
    # hidden units, 70 % of them dropped; 40 % dropped before the net's own last layer.
    model = googlenet(1000, form="2014")
    assert (model.auxiliary_dropout, model.dropout) == (0.7, 0.4)
    params = shapes_of(model, IMAGENET)["params"]
    for head, channels in (("aux1", 512), ("aux2", 528)):
        kernels = sorted(
            leaf.shape for leaf in jax.tree.leaves(params[head]) if len(leaf.shape) > 1
        )
        assert kernels == [(1, 1, channels, 128), (1024, 1000), (4 * 4 * 128, 1024)]


@pytest.mark.parametrize("n", [3, 5, 7, 9, 18])
def test_the_cifar_form(n):
    # He et al. 2015, section 4.2: a 3x3 to 16 maps, then 2n layers on 32x32, 16x16 and 8x8 maps
    # of 16, 32, 64 filters, the halving by a stride of 2, the mean and a dense layer of ten.
    convolutions = [("3x3/1x1", (32, 32, 16), 9 * 3 * 16)]
    for side, width in ((32, 16), (16, 32), (8, 64)):
        first = width if side == 32 else width // 2
        stride = "3x3/1x1" if side == 32 else "3x3/2x2"
        convolutions.append((stride, (side, side, width), 9 * first * width))
        convolutions += [("3x3/1x1", (side, side, width), 9 * width * width)] * (2 * n - 1)
    net = resnet(6 * n + 2, 10)
    assert rows(net, CIFAR) == [*convolutions, ("/", (10,), 650)]
    assert depth_of(layers_of(net, CIFAR)) == 6 * n + 2


@pytest.mark.parametrize(("option", "projections"), [("A", 0), ("B", 3), ("C", 16)])
def test_shortcut_options(option, projections):
    # He et al. 2015, section 4.1, for the 34-layer net of table 1: (A) zero-padding, no parameter;
    # (B) projections where the width grows; (C) projections everywhere.
    found = layers_of(resnet(34, 1000, shortcut=option), IMAGENET)
    theirs = [layer for layer in found if layer.name.endswith("shortcut_conv")]
    assert len(theirs) == projections and {layer.kernel for layer in theirs} <= {"1x1"}
    # Without the shortcuts' layers it is the plain net of the same table.
    assert [layer for layer in rows(resnet(34, 1000, shortcut=option), IMAGENET, ("conv",))
            if not layer[0].startswith("1x1")] == rows(
        resnet(34, 1000, residual=False), IMAGENET, ("conv",)
    )  # fmt: skip


def test_option_a_takes_every_second_pixel_and_pads_with_zero_maps():
    model = resnet(8, 10)
    variables = initialise(model, 0, CIFAR)
    block = variables["params"]["stage2"]["block1"]
    block["bn2"]["scale"][:] = 0  # what is left is the shortcut
    images = np.random.default_rng(0).normal(size=(2, *CIFAR)).astype(np.float32)
    _, state = model.apply(variables, images, train=False, mutable=["intermediates"])
    before, after = (np.asarray(state["intermediates"][f"stage{i}_out"][0]) for i in (1, 2))
    np.testing.assert_array_equal(after[..., :16], before[:, ::2, ::2])
    assert not after[..., 16:].any()


def test_the_pre_activation_net_is_the_papers_formula():
    # He et al. 2016, figure 4(e) and appendix: x + conv(relu(bn(conv(relu(bn(x)))))), the first
    # block activates before the paths part, and a last bn and relu come before the mean.
    model = resnet(14, 10, pre_activation=True, shortcut="B", width=4)
    variables = initialise(model, 0, CIFAR)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda a: np.float32(np.abs(rng.normal(size=a.shape)) + 0.5) if a.ndim == 1 else a,
        variables,
    )
    params, statistics = variables["params"], variables["batch_stats"]
    images = rng.normal(size=(2, *CIFAR)).astype(np.float32)

    def conv(x, kernel, stride):
        side = kernel.shape[0] // 2
        layout = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            x, kernel, (stride, stride), [(side, side)] * 2, dimension_numbers=layout
        )

    def activated(x, p, s):
        scaled = (x - s["mean"][None, None, None]) / np.sqrt(s["var"] + 1e-5)[None, None, None]
        return jax.nn.relu(scaled * p["scale"][None, None, None] + p["bias"][None, None, None])

    x = conv(images, params["conv1"]["kernel"], 1)
    for stage in (1, 2, 3):
        for number in (1, 2):
            p, s = (tree[f"stage{stage}"][f"block{number}"] for tree in (params, statistics))
            stride = 2 if stage > 1 and number == 1 else 1
            a = activated(x, p["bn1"], s["bn1"])
            shortcut = a if (stage, number) == (1, 1) else x
            if stride == 2:
                shortcut = conv(a, p["shortcut_conv"]["kernel"], stride)
            y = conv(a, p["conv1"]["kernel"], stride)
            y = conv(activated(y, p["bn2"], s["bn2"]), p["conv2"]["kernel"], 1)
            x = shortcut + y
    x = activated(x, params["bn_last"], statistics["bn_last"]).mean((1, 2))
    expected = x @ params["fc"]["kernel"] + params["fc"]["bias"][None]
    found = model.apply(variables, images, train=False)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(("n", "depth", "millions"), [(18, 164, 1.7), (111, 1001, 10.2)])
def test_pre_activation_bottlenecks_have_the_printed_parameters(n, depth, millions):
    # He et al. 2016 have 9n+2 layers; Zagoruyko and Komodakis 2016, table 5, print 1.7 and 10.2
    # million parameters. That fits the kernels; BatchNorm's own are 1.5 % beside them.
    model = resnet(
        None, 10, form="cifar", blocks=(n, n, n), bottleneck=True, pre_activation=True,
        shortcut="B", scan=True,
    )  # fmt: skip
    assert 9 * n + 2 == depth
    leaves = jax.tree.leaves(shapes_of(model, CIFAR)["params"])
    kernels = parameter_count([leaf for leaf in leaves if len(leaf.shape) > 1])
    assert round(kernels / 1e6, 1) == millions
