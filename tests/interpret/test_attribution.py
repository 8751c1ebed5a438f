"""Attribution and stages by one call, as a notebook makes it."""

import jax.numpy as jnp
import numpy as np
import pytest

from deeper.augment.pipeline import Normalise
from deeper.errors import UserError
from deeper.interpret.attribution import METHODS, attribute
from deeper.interpret.attribution_methods import grad_cam
from deeper.interpret.features import stages
from deeper.interpret.traced_net import TracedNet
from deeper.models.initializers import initialise
from deeper.models.resnet import resnet

SHAPE = (12, 16, 1)
NORMALISE = Normalise((0.5,), (0.25,))


@pytest.fixture(scope="module")
def net():
    model = resnet(8, 3, width=4)
    return model, initialise(model, 0, SHAPE)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (2, *SHAPE)).astype(np.uint8)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_each_pixel_of_each_image_a_value(net, images, method):
    found = attribute(*net, images, method, normalise=NORMALISE)
    assert found.maps.shape == (2, 12, 16) and found.maps.dtype == np.float32
    assert np.isfinite(found.maps).all() and np.abs(found.maps).max() > 0
    assert found.method == method and (found.layer == "stage3") == ("cam" in method)
    logits = net[0].apply(net[1], NORMALISE(jnp.asarray(images)), train=False)
    np.testing.assert_array_equal(found.classes, logits.argmax(-1))
    np.testing.assert_allclose(found.scores, logits.max(-1), rtol=1e-4, atol=1e-5)
    if method != "integrated_gradients":
        assert found.maps.min() >= 0


def test_the_layer_and_the_class_are_those_that_are_asked_for(net, images):
    found = attribute(*net, images, layer="stage2", classes=[2], normalise=NORMALISE)
    assert found.layer == "stage2" and found.classes.tolist() == [2, 2]
    traced = TracedNet(*net, SHAPE)
    normalised = NORMALISE(jnp.asarray(images))
    coarse = np.asarray(grad_cam(traced, normalised, jnp.array([2, 2]), "stage2_out"))
    assert coarse.shape == (2, 6, 8)
    middle = found.maps.reshape(2, 6, 2, 8, 2).mean((2, 4))[:, 1:-1, 1:-1]
    assert np.corrcoef(middle.ravel(), coarse[:, 1:-1, 1:-1].ravel())[0, 1] > 0.9


def test_integrated_gradients_add_up_to_the_difference_of_scores(net, images):
    found = attribute(*net, images, "integrated_gradients", classes=[0, 1], normalise=NORMALISE)
    grey = net[0].apply(net[1], jnp.zeros((1, *SHAPE)), train=False)[0]
    np.testing.assert_allclose(
        found.maps.sum((1, 2)), found.scores - np.asarray(grey)[[0, 1]], rtol=0.05, atol=0.02
    )


def test_the_figure_shows_each_image_with_its_class(net, images):
    options = {"classes": [0, 2], "normalise": NORMALISE}
    found = attribute(*net, images, "gradient", class_names=["cat", "dog", "owl"], **options)
    axes = found.figure().axes
    assert [panel.get_title().split()[0] for panel in axes] == ["cat", "owl"]
    assert all(len(panel.images) == 2 for panel in axes)
    numbered = attribute(*net, images, "gradient", **options)
    assert numbered.figure().axes[1].get_title().split()[0] == "2"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"method": "cam"}, "grad_cam"),
        ({"layer": "stage9"}, "stage9"),
        ({"layer": "fc"}, "no maps"),
        ({"method": "gradient", "layer": "stage2"}, "layer=stage2"),
        ({"classes": [3]}, "0 to 2"),
        ({"classes": [0, 1, 2]}, "3 entries"),
    ],
)
def test_a_wrong_argument_is_named(net, images, wrong, says):
    with pytest.raises(UserError, match=says):
        attribute(*net, images, normalise=NORMALISE, **wrong)


def test_vectors_have_no_pixels_to_attribute_to(net):
    with pytest.raises(UserError, match=r"height, width, channels"):
        attribute(*net, np.zeros((2, 5), np.float32))


def test_stages_are_those_that_the_net_names(net, images):
    inputs = NORMALISE(jnp.asarray(images))
    found = stages(*net, inputs)
    assert {name: maps.shape[1:] for name, maps in found.items()} == {
        "stage1": (12, 16, 4), "stage2": (6, 8, 8), "stage3": (3, 4, 16),
    }  # fmt: skip
    assert list(found) == ["stage1", "stage2", "stage3"]
    _, kept = net[0].apply(net[1], inputs, train=False, mutable=["intermediates"])
    np.testing.assert_allclose(
        found["stage3"], kept["intermediates"]["stage3_out"][0], rtol=1e-4, atol=1e-5
    )
