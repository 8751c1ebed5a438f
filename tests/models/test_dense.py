"""Nets in fully convolutional form: dense layers as convolutions, global pooling unchanged."""

from functools import partial

import flax.linen as nn
import jax
import numpy as np
import pytest

from deeper.errors import UserError
from deeper.models.alexnet import alexnet
from deeper.models.fully_convolutional import answer, of_our_layers, over_whole_images
from deeper.models.googlenet import googlenet
from deeper.models.initializers import initialise, shapes_of
from deeper.models.layers import Dense, flatten
from deeper.models.lenet import lenet5
from deeper.models.resnet import resnet
from deeper.models.vgg import vgg
from deeper.models.zfnet import zfnet


@pytest.mark.parametrize(
    ("net", "pixels", "window"),
    [
        (vgg(16, 1000), 224, (7, 7)),
        (vgg(11, 10, hidden=64), 300, (9, 9)),  # averaged down to 7x7, in every window
        (alexnet(1000), 224, (6, 6)),
        (alexnet(1000, form="2012"), 224, (6, 6)),
        (zfnet(1000), 224, (6, 6)),
        (lenet5(10), 32, (5, 5)),
        (resnet(50, 1000), 224, None),
        (googlenet(1000), 224, None),
    ],
)
def test_the_same_variables_answer_for_images_of_any_size(net, pixels, window):
    whole = over_whole_images(net, (pixels, pixels, 3))
    assert getattr(whole, "window", None) == window
    variables = shapes_of(net, (pixels, pixels, 3))
    images = jax.ShapeDtypeStruct((2, pixels + 90, pixels + 200, 3), np.float32)
    answer = jax.eval_shape(lambda v, x: whole.apply(v, x, train=False), variables, images)
    assert answer.shape == (2, net.classes)


def test_vggs_dense_layers_slide_over_the_last_map():
    net = vgg(11, 5, hidden=8)
    variables = initialise(net, 0, (64, 64, 3))
    whole = over_whole_images(net, (64, 64, 3))
    assert whole.window == (2, 2)
    images = np.random.default_rng(0).normal(size=(2, 96, 128, 3)).astype(np.float32)

    @jax.jit
    def apply(variables, images):
        return whole.apply(variables, images, train=False, mutable=["intermediates"])

    answer, found = apply(variables, images)
    maps = np.asarray(found["intermediates"]["stage5_out"][0], np.float64)
    assert maps.shape == (2, 3, 4, 512)
    params, scores = variables["params"], []
    for top in range(2):
        for left in range(3):
            x = maps[:, top : top + 2, left : left + 2].reshape(2, -1)
            for layer in ("fc1", "fc2", "fc3"):
                x = x @ params[layer]["kernel"].astype(np.float64) + params[layer]["bias"]
                x = np.maximum(x, 0) if layer != "fc3" else x
            scores.append(x)
    expected = np.mean(scores, axis=0)
    np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("net", "pixels"),
    [
        (lenet5(5, form="1998"), 32),
        (resnet(None, 5, blocks=(2, 1), width=4, shortcut="A"), 32),
        (resnet(None, 5, blocks=(1, 3), width=4, pre_activation=True, scan=True, remat=True), 32),
    ],
)
def test_what_lies_beyond_an_image_has_no_part_in_its_answer(net, pixels):
    whole = over_whole_images(net, (pixels, pixels, 3))
    assert of_our_layers(whole)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: (leaf * rng.uniform(0.5, 1, leaf.shape) + 0.02).astype(np.float32),
        initialise(net, 0, (pixels, pixels, 3)),
    )
    sizes = np.array([[40, 56], [35, 49], [40, 51]], np.int32)
    images = rng.normal(size=(3, 40, 56, 3)).astype(np.float32)
    found = np.asarray(jax.jit(partial(answer, whole))(variables, images, sizes))
    apply = jax.jit(lambda variables, images: whole.apply(variables, images, train=False))
    for image, (height, width), logits in zip(images, sizes, found, strict=True):
        alone = np.asarray(apply(variables, image[None, :height, :width]))[0]
        np.testing.assert_allclose(logits, alone, rtol=0, atol=2e-6 * np.abs(alone).max())


def test_nets_without_such_a_form_say_so():
    class Flat(nn.Module):
        @nn.compact
        def __call__(self, images, *, train):
            return Dense(3, name="fc")(flatten(images))

    assert not of_our_layers(Flat())  # so its images fill their array
    with pytest.raises(UserError, match="Flat cannot see images whole"):
        over_whole_images(Flat(), (8, 8, 3))
    with pytest.raises(UserError, match="28x28 pixels leaves out its last pooling"):
        over_whole_images(vgg(11, 10, hidden=8), (28, 28, 1))
    small = over_whole_images(vgg(11, 10, hidden=8), (64, 64, 3))
    images = jax.ShapeDtypeStruct((1, 48, 96, 3), np.float32)
    with pytest.raises(UserError, match="look at maps of 2x2, and get 1x3"):
        jax.eval_shape(
            lambda v, x: small.apply(v, x, train=False),
            shapes_of(vgg(11, 10, hidden=8), (64, 64, 3)),
            images,
        )
