"""Attribution and stages by one call, as a notebook makes it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter

from deeper.augment.pipeline import Normalise
from deeper.errors import UserError
from deeper.interpret.attribution import METHODS, attribute, class_numbers
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
    assert found.method == method and (found.layer == "stage1") == ("cam" in method)
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
    difference = found.scores - np.asarray(grey)[[0, 1]]
    off = np.abs(found.maps.sum((1, 2)) - difference) / np.abs(difference)
    np.testing.assert_allclose(found.gaps, off, atol=2e-4)
    assert ((found.gaps <= 0.01) | (found.steps == 576)).all()
    assert ("above 1%" in found.notes[0]) == (found.gaps > 0.01).any()


def test_the_figure_shows_each_image_with_its_class(net, images):
    options = {"classes": [0, 2], "normalise": NORMALISE}
    found = attribute(*net, images, "gradient", class_names=["cat", "dog", "owl"], **options)
    axes = found.figure().axes
    assert ["cat" in axes[0].get_title(), "owl" in axes[1].get_title()] == [True, True]
    named = attribute(*net, images, "gradient", names=["a.jpg", "b.jpg"], **options)
    answers = [f"{share:.2f}" for share in named.probabilities.max(1)]
    for panel, name, answer, number in zip(
        named.figure().axes, ["a.jpg", "b.jpg"], answers, "02", strict=True
    ):
        title = panel.get_title().split()
        assert title[0] == name and answer in title and number in title


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


@pytest.mark.parametrize("inputs", [np.zeros((2, 5), np.float32), np.zeros((2, 5, 1), np.int32)])
def test_vectors_and_ids_have_no_places_to_attribute_to(net, inputs):
    with pytest.raises(UserError, match=r"height, width, channels"):
        attribute(*net, inputs)


def test_grad_cam_weighs_the_last_maps_of_seven_places_a_side_and_says_so(net, images):
    """Of maps of 12x16, 6x8 and 3x4; of smaller images no stage has as many."""
    found = attribute(*net, images, normalise=NORMALISE)
    assert found.layer == "stage1"
    assert "12x16" in found.notes[0] and "3x4" in found.notes[0]
    small = attribute(*net, images[:, :6, :6], normalise=NORMALISE)
    assert small.layer == "stage1"
    large = np.zeros((1, 28, 28, 1), np.uint8)
    assert attribute(*net, large, normalise=NORMALISE).layer == "stage3"
    chosen = attribute(*net, images, layer="stage3", normalise=NORMALISE)
    assert chosen.layer == "stage3" and "12x16" not in chosen.notes[0]


class Sequences(nn.Module):
    """A net of sequences: a convolution along the positions, and a mean over them."""

    @nn.compact
    def __call__(self, inputs, *, train):
        x = nn.relu(nn.Conv(6, (5,), padding=2, name="conv")(inputs))
        self.sow("intermediates", "stage1_out", x)
        return nn.Dense(3, name="fc")(x.mean(1))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_each_position_of_each_sequence_a_value(method):
    letters = np.eye(4, dtype=np.float32)[np.random.default_rng(0).integers(0, 4, (2, 20))]
    model = Sequences()
    variables = {"params": model.init(jax.random.key(0), letters, train=False)["params"]}
    found = attribute(model, variables, letters, method, classes=1)
    assert found.maps.shape == (2, 20) and np.abs(found.maps).max() > 0
    assert len(found.figure().axes) == 2
    if method == "integrated_gradients":
        ends = [model.apply(variables, x, train=False)[:, 1] for x in (letters, 0 * letters)]
        np.testing.assert_allclose(found.maps.sum(1), ends[0] - ends[1], rtol=0.011)


def test_a_notebook_shows_the_figure(net, images):
    """IPython asks a value for its picture."""
    found = attribute(*net, images, "gradient", normalise=NORMALISE)
    picture, _ = DisplayFormatter().format(found.figure())
    assert picture["image/png"].startswith(b"\x89PNG")


def test_the_maps_are_saved_with_what_they_are_of(net, images, tmp_path):
    found = attribute(
        *net, images, classes=[1], normalise=NORMALISE, class_names=["cat", "dog", "owl"]
    )
    found.save(tmp_path / "maps.npz")
    with np.load(tmp_path / "maps.npz") as saved:
        np.testing.assert_array_equal(saved["grad_cam/maps"], found.maps)
        np.testing.assert_array_equal(saved["inputs"], images)
        assert saved["classes"].tolist() == [1, 1] and saved["class_names"][1] == "dog"
        assert str(saved["grad_cam/layer"]) == "stage1"


def test_classes_are_given_by_number_and_name():
    names = ["cat", "Dog", "crane", "crane"]
    assert class_numbers([2, "dog", "cat"], names) == [2, 1, 0]
    for wrong, says in {"crane": "2, 3", "cta": "cat", 4: "0 to 3", -1: "0 to 3"}.items():
        with pytest.raises(UserError, match=says):
            class_numbers([wrong], names)


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
