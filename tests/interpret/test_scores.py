"""Scores of attribution: curves, the pointing game, the sanity check."""

from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr

from deeper.augment.pipeline import Normalise
from deeper.errors import UserError
from deeper.interpret import attribution_scores as by
from deeper.interpret import score_sheet
from deeper.interpret.attribution import METHODS
from deeper.interpret.score_sheet import SCORES, score
from deeper.interpret.subject import Subject
from deeper.interpret.traced_net import TracedNet
from deeper.models.initializers import initialise
from deeper.models.resnet import resnet

SHAPE = (8, 8, 1)


class Corner(nn.Module):
    """Answers 1 where the upper left corner is bright; nothing else counts."""

    @nn.compact
    def __call__(self, images, *, train):
        bright = nn.Conv(1, (1, 1), name="conv", use_bias=False)(images)[:, :2, :2, 0].mean((1, 2))
        logit = nn.Dense(1, name="fc", use_bias=False)(bright[:, None])
        return jnp.concatenate([-logit, logit], axis=1)


@pytest.fixture(scope="module")
def corner():
    weights = {"conv": {"kernel": jnp.ones((1, 1, 1, 1))}, "fc": {"kernel": jnp.full((1, 1), 3.0)}}
    return TracedNet(Corner(), {"params": weights}, SHAPE)


def maps(good):
    """Return maps that point at the corner, or away from it."""
    values = np.zeros((3, 8, 8), np.float32)
    values[:, :2, :2] = 1.0
    return values if good else -values


CLASSES = jnp.array([1, 1, 1])


def test_deletion_hides_places_in_the_order_of_the_map(corner):
    images = jnp.ones((3, *SHAPE))
    good, bad = (by.deletion(corner, images, CLASSES, maps(g), steps=16) for g in (True, False))
    # Four of 64 places are one step of sixteen: after it the probability is one half.
    sure = 1 / (1 + np.exp(-6.0))
    np.testing.assert_allclose(good.shares, np.arange(17) / 16)
    np.testing.assert_allclose(good.probabilities, [[sure] + [0.5] * 16] * 3, rtol=1e-5)
    np.testing.assert_allclose(bad.probabilities, [[sure] * 16 + [0.5]] * 3, rtol=1e-5)
    np.testing.assert_allclose(good.areas, 0.5 + (sure - 0.5) / 32, rtol=1e-5)


def test_insertion_shows_places_of_the_blurred_image_in_the_order_of_the_map(corner):
    images = jnp.zeros((3, *SHAPE)).at[:, :2, :2].set(1.0)
    good, bad = (by.insertion(corner, images, CLASSES, maps(g), steps=16) for g in (True, False))
    sure = 1 / (1 + np.exp(-6.0))
    blurred = np.asarray(by.blurred(images))[0, :2, :2].mean()
    dim = 1 / (1 + np.exp(-6.0 * blurred))
    assert dim < 0.6
    np.testing.assert_allclose(good.probabilities, [[dim] + [sure] * 16] * 3, rtol=1e-4)
    np.testing.assert_allclose(bad.probabilities, [[dim] * 16 + [sure]] * 3, rtol=1e-4)
    assert (good.areas > bad.areas).all()


def test_what_is_blurred_is_the_mean_of_its_neighbourhood():
    """Written out: the weights of 11 places in each direction, and zeros beyond the border."""
    image = np.random.default_rng(0).normal(size=(14, 12)).astype(np.float32)
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 5) ** 2)
    window = np.outer(taps, taps) / np.outer(taps, taps).sum()
    wide = np.pad(image, 5)
    expected = [
        [(wide[i : i + 11, j : j + 11] * window).sum() for j in range(12)] for i in range(14)
    ]
    found = by.blurred(jnp.asarray(image)[None, :, :, None])[0, :, :, 0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_curves_of_sequences_are_along_their_positions():
    class First(nn.Module):
        @nn.compact
        def __call__(self, inputs, *, train):
            return nn.Dense(2, use_bias=False, name="fc")(inputs[:, 0])

    weights = {"fc": {"kernel": jnp.array([[0.0, 4.0]])}}
    net = TracedNet(First(), {"params": weights}, (10, 1))
    heat = np.zeros((1, 10), np.float32)
    heat[0, 0] = 1
    found = by.deletion(net, jnp.ones((1, 10, 1)), jnp.array([1]), heat, steps=10)
    sure = 1 / (1 + np.exp(-4.0))
    np.testing.assert_allclose(found.probabilities, [[sure] + [0.5] * 10], rtol=1e-5)


def test_a_map_hits_where_its_maximum_lies_on_the_object():
    inside = np.zeros((4, 4, 6), bool)
    inside[:, :2, :3] = True
    heat = np.zeros((4, 4, 6))
    heat[0, 1, 1] = 2.0
    heat[0, 3, 3] = 1.0
    heat[1, 1, 1] = 1.0
    heat[1, 3, 3] = 3.0
    heat[2] = -1.0
    hits, shares = by.pointing(heat, inside)  # the last is empty
    assert hits.tolist() == [True, False, False, False]
    np.testing.assert_allclose(shares, [2 / 3, 1 / 4, 0, 0])


@pytest.mark.parametrize("same_size", [False, True])
def test_a_mosaic_holds_its_images_and_says_where(same_size):
    images = jnp.arange(1.0, 6)[:, None, None, None] * jnp.ones((5, 7, 6, 2))
    groups = np.array([[4, 0, 1, 2], [3, 2, 1, 0]])
    drawn, inside = by.mosaics(images, groups, same_size=same_size)
    assert drawn.shape == ((2, 7, 6, 2) if same_size else (2, 14, 12, 2))
    assert inside.shape == (2, 4, *drawn.shape[1:3])
    assert (inside.sum(1) <= 1).all()
    for mosaic, places, group in zip(drawn, inside, groups, strict=True):
        for place, number in zip(places, group, strict=True):
            assert place.sum() == (9 if same_size else 42)
            np.testing.assert_allclose(mosaic[place], number + 1, rtol=1e-6)


def test_a_mosaic_is_of_different_classes():
    labels = np.array([3] * 10 + [1, 4, 4, 0, 2])
    groups = by.groups_of_classes(labels, 50, 4)
    assert groups.shape == (50, 4)
    assert all(len(set(labels[group])) == 4 for group in groups)
    np.testing.assert_array_equal(groups, by.groups_of_classes(labels, 50, 4))


def test_layers_are_initialised_anew_from_the_answer_down():
    model = resnet(8, 3, width=4)
    trained, fresh = (initialise(model, seed, SHAPE) for seed in (0, 1))
    net = TracedNet(model, trained, SHAPE)
    names = by.layers_from_the_top(net)
    assert names == ["fc", "stage3", "stage2", "stage1", "bn1", "conv1"]
    now = dict(by.cascade(net, fresh, names))
    assert list(now) == names
    half = now["stage2"].variables
    for layer, place in (("fc", 1), ("stage2", 1), ("stage1", 0), ("conv1", 0)):
        jax.tree.map(
            np.testing.assert_array_equal,
            half["params"][layer],
            (trained, fresh)[place]["params"][layer],
        )
    jax.tree.map(np.testing.assert_array_equal, now["conv1"].variables, fresh)
    jax.tree.map(np.testing.assert_array_equal, net.variables, trained)


def test_likeness_is_spearmans_of_the_magnitudes():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 3, 4, 5))
    other[2] = 1.0
    found = by.likeness(one, other)
    for number in range(2):
        expected = spearmanr(np.abs(one[number]).ravel(), np.abs(other[number]).ravel()).statistic
        assert found[number] == pytest.approx(expected)
    assert np.isnan(found[2])
    np.testing.assert_allclose(by.likeness(one, -one), 1.0)


@pytest.fixture(scope="module")
def subject():
    """A net that answers by brightness, and images of four brightnesses."""

    class Bright(nn.Module):
        @nn.compact
        def __call__(self, images, *, train):
            x = nn.relu(nn.Conv(2, (3, 3), padding=1, name="conv")(images))
            self.sow("intermediates", "stage1_out", x)
            return nn.Dense(4, name="fc")(x.mean((1, 2)))

    kernel = jnp.zeros((3, 3, 1, 2)).at[1, 1, 0].set(jnp.array([1.0, -1.0]))
    levels = jnp.array([-1.5, -0.5, 0.5, 1.5])
    weights = {
        "conv": {"kernel": kernel, "bias": jnp.zeros(2)},
        "fc": {"kernel": jnp.stack([8 * levels, -8 * levels]), "bias": -4 * levels**2},
    }
    labels = (np.arange(20) % 4).astype(np.int32)
    pixels = np.broadcast_to((32 + 64 * labels)[:, None, None, None], (20, *SHAPE))
    return Subject(
        title="a net of brightness",
        model=Bright(),
        variables={"params": weights},
        images=pixels.astype(np.uint8),
        labels=labels,
        names=[*map(str, labels)],
        class_names=("black", "dark", "light", "white"),
        mean=(0.5,),
        normalise=Normalise((0.5,), (0.25,)),
        progress=lambda what, done, total: None,
    )


def test_every_method_is_scored_by_every_score(subject, tmp_path, monkeypatch):
    monkeypatch.setattr(score_sheet, "initialise", lambda *given: subject.variables)
    found = score(subject, n=6)
    assert list(found.by_method) == [*METHODS, "random"]
    assert found.mosaics == "twice" and found.images == 6
    for method, numbers in found.by_method.items():
        assert set(numbers) == {*SCORES} - ({"sanity"} if method == "random" else set())
        for name in ("insertion", "deletion"):
            curve, mean = numbers[name]["curve"], numbers[name]["mean"]
            assert len(curve) == 65 and mean == pytest.approx(
                np.trapezoid(curve, found.shares), abs=1e-3
            )
        # With the same weights in the place of new ones, maps are the same.
        for value in numbers.get("sanity", {}).values():
            assert value is None or value == pytest.approx(1.0, abs=1e-3)
    lines = found.table().splitlines()
    assert len(lines) == 2 + 9 and len({line.count("|") for line in lines}) == 1
    found.draw(tmp_path / "scores.png")
    pixels = np.asarray(Image.open(tmp_path / "scores.png").convert("L"))
    assert 0.02 < (pixels < 250).mean() < 0.98


class Flat(nn.Module):
    """A net whose weights are for images of one size."""

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.relu(nn.Conv(2, (3, 3), padding=1, name="conv")(images))
        self.sow("intermediates", "stage1_out", x)
        return nn.Dense(4, name="fc")(x.reshape(len(x), -1))


def test_a_net_for_one_size_plays_in_mosaics_of_that_size(subject):
    kernel = np.zeros((8, 8, 2, 4), np.float32)
    kernel[:] = np.asarray(subject.variables["params"]["fc"]["kernel"]) / 64
    weights = {**subject.variables["params"]}
    weights["fc"] = {"kernel": kernel.reshape(-1, 4), "bias": weights["fc"]["bias"]}
    able = replace(subject, model=Flat(), variables={"params": weights})
    found = score(able, methods=["grad_cam"], scores=["pointing"], n=20)
    assert found.mosaics == "same"
    assert found.by_method["grad_cam"]["pointing"]["mean"] == 0.5  # as below


def test_mosaics_need_as_many_classes_as_they_have_images(subject):
    few = replace(
        subject, labels=np.minimum(subject.labels, 2)
    )  # what is white is answered wrongly
    with pytest.raises(UserError, match="4 images of different classes"):
        score(few, methods=["grad_cam"], scores=["pointing"], n=4)


def test_the_pointing_game_counts_the_maps_whose_maximum_is_on_the_object(subject):
    """What is white speaks most for white and for light, what is black for black and for dark."""
    found = score(subject, methods=["grad_cam"], scores=["pointing"], n=20).by_method
    assert found["grad_cam"]["pointing"]["mean"] == 0.5
    assert found["random"]["pointing"]["mean"] < 0.5
    assert found["random"]["pointing"]["share"] == pytest.approx(0.25, abs=0.03)
