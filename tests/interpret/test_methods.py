"""Sheets of what a net sees: what is cut out, what climbs, what depends on the weights."""

from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from deeper.augment.pipeline import Normalise
from deeper.errors import UserError
from deeper.interpret import (
    activation_maximisation,
    attribution_methods,
    comparisons,
    drawing,
    figures,
)
from deeper.interpret.activation_maximisation import maximise
from deeper.interpret.gradient_scales import Measure
from deeper.interpret.subject import Subject
from deeper.interpret.traced_net import LOGITS, TracedNet
from deeper.models.initializers import initialise
from deeper.models.resnet import resnet
from deeper.models.vgg import vgg
from deeper.profile.layer_table import layers_of

SHAPE = (16, 16, 1)


@pytest.fixture(scope="module")
def subject():
    model = resnet(8, 3, width=4)
    rng = np.random.default_rng(0)
    told = []
    return Subject(
        title="a small net",
        model=model,
        variables=initialise(model, 0, SHAPE),
        images=rng.integers(0, 256, (30, *SHAPE)).astype(np.uint8),
        labels=(np.arange(30) % 3).astype(np.int32),
        names=[f"{number}.png" for number in range(30)],
        class_names=("a", "b", "c"),
        mean=(0.5,),
        normalise=Normalise((0.5,), (0.25,)),
        progress=lambda what, done, total: told.append((what, done, total)),
    )


@pytest.mark.parametrize("model", [resnet(14, 10, width=4), vgg(11, 10, hidden=16)])
def test_fields_of_maps_are_those_of_the_layers(model):
    net = TracedNet(model, initialise(model, 0, (32, 32, 1)), (32, 32, 1))
    fields, layers = net.fields, layers_of(model, (32, 32, 1))
    convolutions = [layer for layer in layers if layer.kind == "conv"]
    assert convolutions
    for layer in convolutions:
        assert fields[layer.name][0] == layer.field
    stage2 = [layer for layer in layers if layer.name.startswith("stage2")][-1]
    assert fields["stage2_out"][0].size >= stage2.field.size
    assert not {"fc", "fc3", LOGITS} & set(fields)


def test_a_patch_is_what_a_place_sees_and_padding_beyond_the_border():
    picture = np.arange(100, dtype=float).reshape(10, 10, 1)
    inside = figures._cut(picture, ((2, 4), (3, 6)), np.array([0.5]))
    np.testing.assert_array_equal(inside, picture[2:5, 3:7])
    corner = figures._cut(picture, ((-2, 1), (8, 11)), np.array([-1.0]))
    np.testing.assert_array_equal(corner[2:, :2], picture[:2, 8:])
    assert (corner[:2] == -1).all() and (corner[:, 2:] == -1).all()
    assert figures._cut(picture, ((-3, 12), (0, 3)), np.array([0.0])) is picture


def test_what_is_maximised_rises_and_regularisers_make_it_smoother(subject):
    net = subject.net

    def climbed(regularised):
        key, classes = jax.random.key(0), jnp.arange(3)
        options = {"steps": 16, "regularised": regularised}
        return maximise(net, LOGITS, classes, key, SHAPE, **options)

    def answers(images):
        return jnp.diagonal(net(images, [LOGITS])[LOGITS])

    def roughness(images):
        return (jnp.diff(images, axis=1) ** 2).mean() / images.var()

    plain, smooth = climbed(False), climbed(True)
    assert (answers(plain) > answers(jnp.zeros((3, *SHAPE))) + 0.02).all()
    assert roughness(smooth) < 0.7 * roughness(plain)


@pytest.mark.parametrize("name", ["gradient", "guided", "grad_cam", "integrated_gradients"])
def test_other_weights_give_another_map(subject, name):
    """The sanity check of Adebayo et al. 2018 (arXiv:1810.03292): weights drawn anew."""
    _, images, classes = subject.first(6)
    other = TracedNet(subject.model, initialise(subject.model, 1, SHAPE), SHAPE)

    def maps(net):
        if name == "grad_cam":
            return attribution_methods.grad_cam(net, images, classes, "stage2_out")
        if name == "integrated_gradients":
            return attribution_methods.integrated_gradients(net, images, classes, 8, 8).maps
        return attribution_methods.gradient(net, images, classes, name)

    one, two = (np.asarray(maps(net)).reshape(6, -1) for net in (subject.net, other))
    alike = [np.corrcoef(a, b)[0, 1] for a, b in zip(one, two, strict=True) if a.std() and b.std()]
    assert len(alike) >= 3
    assert np.mean(np.abs(alike)) < 0.7


def test_sheets_are_drawn_and_are_no_blank_pages(subject, tmp_path):
    draw = {
        "filters": lambda out: figures.filters(subject, out),
        "field": lambda out: figures.fields(subject, 3, out),
        "deconvnet": lambda out: figures.deconvnet_stages(subject, subject.net.stages, 2, out),
    }
    for name, one in draw.items():
        one(tmp_path / f"{name}.png")
        pixels = np.asarray(Image.open(tmp_path / f"{name}.png").convert("L"))
        assert 0.02 < (pixels < 250).mean() < 0.98, name


@pytest.mark.parametrize(
    ("classes", "units"), [([11, 3], [11, 3]), (None, [7, 0, 9]), ("few", [0, 1, 2])]
)
def test_classes_are_maximised_that_are_chosen_or_shown(
    subject, tmp_path, monkeypatch, classes, units
):
    """By default all, or of more than ten those that the images are of."""
    asked = []

    def drawn(net, layer, units, key, shape, **options):
        asked.append(units.tolist())
        return jnp.ones((len(units), *shape))

    monkeypatch.setattr(activation_maximisation, "maximise", drawn)
    if classes != "few":
        model = resnet(8, 12, width=4)
        subject = replace(
            subject,
            model=model,
            variables=initialise(model, 0, SHAPE),
            labels=np.array([7, 0, 7, 9], np.int32),
            class_names=[f"class {number}" for number in range(12)],
        )
    figures.maximised(subject, None, tmp_path / "sheet.png", None if classes == "few" else classes)
    assert asked == [units, units]


def test_a_row_is_an_image_and_a_class(subject, tmp_path):
    figures.attributions(
        subject, 2, tmp_path / "sheet.png", methods=["gradient", "grad_cam"], classes=[2, 0]
    )
    with np.load(tmp_path / "sheet.npz") as saved:
        assert saved["names"].tolist() == ["0.png", "0.png", "1.png", "1.png"]
        assert saved["classes"].tolist() == [2, 0, 2, 0]
        np.testing.assert_array_equal(saved["logits"][0], saved["logits"][1])
        assert (saved["gradient/maps"][0] != saved["gradient/maps"][1]).any()
        assert saved["grad_cam/values"].shape == (4, 8, 8)
        assert saved["grad_cam/maps"].shape == (4, 16, 16)


def test_heat_lies_over_the_photograph():
    picture = np.zeros((4, 4, 3), np.float32)
    picture[:, 2:] = 1.0
    heat = np.zeros((4, 4), np.float32)
    heat[2:] = 1.0
    shown = drawing.overlaid(picture, heat)
    for rows in (slice(0, 2), slice(2, 4)):  # the picture shows under little and under much heat
        np.testing.assert_allclose(shown[rows, 2:] - shown[rows, :2], 1 - drawing.OVERLAY)
    assert (shown[3, 0] - shown[0, 0]).max() > 0.4  # and the heat on dark and on bright places
    np.testing.assert_allclose(shown[3, 0] - shown[0, 0], shown[3, 3] - shown[0, 3], atol=1e-6)


def test_mistakes_are_told(subject):
    with pytest.raises(UserError, match="no layer stage9; there are conv1, bn1, stage1"):
        subject.net.layer_with_maps("stage9")
    with pytest.raises(UserError, match="fc has no maps, only 3 values"):
        subject.net.layer_with_maps("fc")
    with pytest.raises(UserError, match="give 1 to 30 images"):
        figures.require(subject, 31)
    with pytest.raises(UserError, match="batches of 200 images"):
        comparisons.similarity(subject, subject, None)


class Bright(nn.Module):
    """Its first layer hands on how bright an image is, its second layer nothing."""

    @nn.compact
    def __call__(self, images, *, train):
        bright = nn.Conv(3, (1, 1), name="sees")(images)
        blind = nn.Conv(3, (1, 1), name="blind")(bright * 0.0)
        return nn.Dense(4, name="fc")((bright + blind).mean((1, 2)))


def test_probes_find_what_a_layer_knows(subject, tmp_path):
    labels = np.arange(230, dtype=np.int32) % 4
    rng = np.random.default_rng(0)
    images = rng.integers(0, 20, (230, 8, 8, 1)).astype(np.uint8)
    images[..., 0] += (60 * labels[:, None, None]).astype(np.uint8)  # brightness is the class
    told = []
    bright = replace(
        subject,
        model=Bright(),
        variables=Bright().init(jax.random.key(0), images[:2] / 255, train=False),
        images=images,
        labels=labels,
        progress=lambda what, done, total: told.append((what, done, total)),
        training=(images, labels),
    )
    found = comparisons.probes([bright], 230, tmp_path / "probes.png")["a small net"]
    assert found["sees"] == 0.0
    assert found["blind"] == pytest.approx(75.0, abs=1.0)
    assert ("features of a small net", 230, 230) in told
    assert told[-1] == ("probes of a small net", 2, 2)


def test_dynamics_are_those_of_the_training_net():
    model = resnet(8, 10, width=4)
    variables = initialise(model, 0, SHAPE)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(6, *SHAPE)), jnp.float32)
    labels = jnp.arange(6)
    scales = Measure(model, variables, images, labels)(variables)
    logits, kept = model.apply(
        variables, images, train=True, capture_intermediates=True,
        mutable=["intermediates", "batch_stats"],
    )  # fmt: skip
    assert scales.layers[-1] == LOGITS
    assert scales.activation[-1] == pytest.approx(np.sqrt((logits**2).mean()), rel=1e-4)
    first = kept["intermediates"]["bn1"]["__call__"][0]
    assert scales.activation[0] == pytest.approx(np.sqrt((first**2).mean()), rel=1e-4)
    # Of softmax and cross entropy the gradient by the logits is known.
    slopes = np.asarray(jax.nn.softmax(logits) - jax.nn.one_hot(labels, 10))
    assert scales.gradient[-1] == pytest.approx(np.sqrt((slopes**2).sum() / 6), rel=1e-4)
    louder = jax.tree.map(np.copy, variables)
    louder["params"]["fc"]["kernel"] *= 10.0
    assert Measure(model, variables, images, labels)(louder).activation[-1] > scales.activation[-1]


def test_depths_count_layers_with_weights(subject):
    net = subject.net
    assert [net.depths[layer] for layer in net.trunk] == list(range(1, 9))
    assert net.stages == ["stage1_out", "stage2_out", "stage3_out"]
