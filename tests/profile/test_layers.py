"""Layer tables: totals, depth as the papers count, and receptive fields."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deeper.kernels import cpu_dispatch
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
from deeper.profile.layer_table import depth_of, layers_of
from deeper.profile.macs import summarise

IMAGENET, CIFAR, MNIST = (224, 224, 3), (32, 32, 3), (28, 28, 1)

# net, images, depth, receptive field of the last map. The fields of AlexNet (2014), VGG-16 and of
# ResNet-50 and -101 with the stride in the 1x1 are those of Araujo et al. 2019. The others were
# computed here: they guard against change; that fields are right, the gradient below tells.
NETS = {
    "lenet5": (lenet5(10), MNIST, 5, 16),
    "alexnet": (alexnet(1000), IMAGENET, 8, 195),
    "vgg16": (vgg(16, 1000), IMAGENET, 16, 212),
    "vgg19_bn": (vgg(19, 1000, batch_norm=True), IMAGENET, 19, 268),
    "googlenet": (googlenet(1000, auxiliary=False), IMAGENET, 22, None),
    "resnet18": (resnet(18, 1000), IMAGENET, 18, 435),
    "resnet50": (resnet(50, 1000), IMAGENET, 50, 427),
    "resnet101": (resnet(101, 1000), IMAGENET, 101, 971),
    "resnet50, stride in the 1x1": (resnet(50, 1000, stride_in="1x1"), IMAGENET, 50, 483),
    "resnet101, stride in the 1x1": (resnet(101, 1000, stride_in="1x1"), IMAGENET, 101, 1027),
    "plain34": (resnet(34, 1000, residual=False), IMAGENET, 34, None),
    "resnet20": (resnet(20, 10), CIFAR, 20, None),
    "densenet121": (densenet(121, 1000), IMAGENET, 121, None),
    "densenet40": (densenet(40, 10), CIFAR, 40, None),
    "mobilenet_v2": (mobilenet_v2(1000), IMAGENET, 53, 491),
    "convnext_tiny": (convnext("tiny", 1000), IMAGENET, 59, None),
    "regnet_x_400mf": (regnet("x_400mf", 1000), IMAGENET, 68, None),
    "inception_v3": (inception_v3(1000, auxiliary=False), (299, 299, 3), 48, None),
    "pre-activation": (resnet(20, 10, pre_activation=True, shortcut="C"), CIFAR, 20, None),
}


@pytest.mark.parametrize("name", NETS)
def test_totals_depth_and_published_fields(name):
    model, shape, depth, field = NETS[name]
    layers, summary = layers_of(model, shape), summarise(model, shape)
    assert sum(layer.parameters for layer in layers) == summary.parameters
    assert sum(layer.macs for layer in layers) == summary.macs
    assert depth_of(layers) == depth
    if field is not None:
        assert max(one.field.size for one in layers if one.field.jump) == field


def test_a_row_tells_the_geometry():
    first = layers_of(resnet(18, 1000), IMAGENET)[0]
    assert (first.name, first.kind, first.kernel, first.stride, first.padding) == (
        "conv1", "conv", "7x7", "2x2", "3",
    )  # fmt: skip
    assert (first.output, first.parameters, first.macs) == ((112, 112, 64), 9408, 118_013_952)
    assert (first.field.size, first.field.jump, first.field.centre) == (7, 2, 0)


def up_to_the_last_map(model, shape):
    """The net's last map as a function of one image, with weights that let nothing cancel."""
    variables = initialise(model, 0, shape)
    positive = jax.tree.map(lambda leaf: jnp.abs(leaf) + 0.01, variables)
    params, stats = positive["params"], positive.get("batch_stats", {})
    stats = jax.tree.map_with_path(
        lambda path, leaf: jnp.zeros_like(leaf) if path[-1].key == "mean" else leaf, stats
    )

    def maps(image):
        _, kept = model.apply(
            {"params": params, "batch_stats": stats},
            image[None],
            train=False,
            mutable=["intermediates"],
        )
        sown = kept["intermediates"]
        last = max(name for name in sown if name.startswith("stage"))
        return sown[last][0][0]

    return maps


@pytest.mark.parametrize(
    "model",
    [
        resnet(8, 10, width=4, stem="stride2"),
        resnet(8, 10, width=4, shortcut="C", pre_activation=True),
        resnet(None, 10, blocks=(1, 1), bottleneck=True, width=4, stem="small"),
        vgg(11, 10, hidden=4),
        densenet(10, 10, growth=4),
        regnet(None, 10, rule=(4, 8, 4.0, 2.0, 4), stem="small"),
    ],
    ids=["options A", "pre-activation", "bottlenecks", "vgg", "densenet", "regnet"],
)
def test_the_field_is_where_the_gradient_is(model):
    shape = (64, 64, 1)
    maps = up_to_the_last_map(model, shape)
    image = jnp.ones(shape)
    rows, columns, _ = jax.eval_shape(maps, image).shape
    place = (rows // 2, columns // 2)
    gradient = jax.jit(jax.grad(lambda x: maps(x)[place].sum()))(image)
    seen = np.flatnonzero(np.abs(gradient).sum((1, 2)))
    field = [layer for layer in layers_of(model, shape) if layer.field.jump][-1].field
    first = max(0, round(field.first + place[0] * field.jump))
    last = min(shape[0] - 1, round(field.last + place[0] * field.jump))
    assert (seen.min(), seen.max()) == (first, last)


def test_a_net_of_a_users_own_is_read_too():
    import flax.linen as nn

    class Own(nn.Module):
        @nn.compact
        def __call__(self, images, *, train):
            x = nn.Conv(8, (5, 5), strides=2, padding="VALID", name="a")(images)
            x = nn.relu(x) + nn.Conv(8, (1, 1), strides=2, padding=((0, -3),) * 2)(images)
            x = nn.Conv(4, (3, 3), kernel_dilation=2, padding="VALID", name="b")(x)
            return nn.Dense(10, name="c")(x.mean((1, 2)))

    layers = layers_of(Own(), (29, 29, 3))
    by_name = {layer.name: layer for layer in layers}
    assert by_name["a"].field.size == 5
    assert by_name["b"].field.size == 5 + 2 * 4 and by_name["b"].field.centre == 6
    assert by_name["c"].depth == 3 and by_name["c"].parameters == 50


def test_macs_agree_with_xlas_own_count():
    model, shape = vgg(11, 10, hidden=64), (224, 224, 3)
    variables = jax.tree.map(jnp.asarray, initialise(model, 0, shape))
    forward = jax.jit(lambda v, x: model.apply(v, x, train=False))
    with cpu_dispatch.turned_off():
        cost = forward.lower(variables, jnp.ones((1, *shape))).cost_analysis()
    # XLA counts two operations a multiply-accumulate, leaves out what falls on the padding, and
    # adds biases, rectifiers and pooling: within 4 per cent.
    assert cost["flops"] / 2 == pytest.approx(summarise(model, shape).macs, rel=0.04)
