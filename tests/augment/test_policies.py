"""Policies draw the operations of the papers and of torchvision, from each example's key only."""

import sys
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deeper.augment import timm_randaugment
from deeper.augment.autoaugment_tables import POLICIES
from deeper.augment.crops_and_colour import Blur, RandomCrop, RandomErasing, RandomResizedCrop
from deeper.augment.op_table import KINDS
from deeper.augment.pipeline import augment, left_out_on_grey
from deeper.augment.policies import AugMix, AutoAugment, RandAugment, TrivialAugment
from deeper.augment.policy_base import ColourJitter, Random
from deeper.errors import UserError

HERE = Path(__file__).parents[2] / "experiments" / "augmentation"
sys.path.insert(0, str(HERE))

import cases  # noqa: E402

NAN = float("nan")
RNG = np.random.default_rng(0)
COLOUR = jnp.asarray(RNG.integers(0, 256, (64, 12, 16, 3)), jnp.uint8)
GREY = COLOUR[..., :1]
ALL = (
    RandAugment(),
    TrivialAugment(),
    AutoAugment(),
    AutoAugment(policy="cifar10"),
    AutoAugment(policy="svhn"),
    AugMix(),
    ColourJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
    Random(operation="rotate", low=-15, high=15),
)


@pytest.fixture(scope="module")
def golden():
    with np.load(HERE / "golden.npz") as file:
        return {k: v for k, v in file.items() if k.startswith(("space/", "pairs/"))}


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("randaugment", RandAugment()),
        ("trivialaugment", TrivialAugment()),
        ("autoaugment", AutoAugment()),
        ("augmix", AugMix()),
    ],
)
def test_the_space_is_torchvisions(golden, name, policy):
    kinds, strengths = policy.space_of(cases.HEIGHT, cases.WIDTH)
    theirs = {key.split("/")[2]: v for key, v in golden.items() if key.startswith(f"space/{name}/")}
    found = {KINDS[kind]: row for kind, row in zip(kinds, strengths, strict=True)}
    # AutoAugment's policies never pick "identity"; it is there for what is left out.
    assert set(found) - set(theirs) <= ({"identity"} if name == "autoaugment" else set())
    for operation, expected in theirs.items():
        np.testing.assert_allclose(
            found[operation], np.broadcast_to(expected, found[operation].shape), atol=1e-4
        )


@pytest.mark.parametrize("name", list(POLICIES))
def test_autoaugments_pairs_are_torchvisions(golden, name):
    found = [
        ", ".join(f"{s.kind} {s.probability:g} {s.magnitude}" for s in p) for p in POLICIES[name]
    ]
    assert found == list(golden[f"pairs/{name}"])


def run(policy, images, rows=None, seed=0):
    rows = jnp.arange(len(images)) if rows is None else rows
    labels = jnp.zeros(len(images), jnp.int32)
    return np.asarray(augment((policy,), jax.random.key(seed), rows, images, labels)[0])


@pytest.mark.parametrize("policy", ALL, ids=lambda p: f"{type(p).__name__}")
@pytest.mark.parametrize("images", [COLOUR, GREY], ids=["colour", "grey"])
def test_an_example_looks_the_same_in_any_shard(policy, images):
    whole = run(policy, images)
    assert whole.dtype == np.uint8
    assert whole.shape == images.shape
    assert (whole != np.asarray(images)).any(axis=(1, 2, 3)).mean() > 0.3
    half = run(policy, images[32:], rows=jnp.arange(32, 64))
    np.testing.assert_array_equal(whole[32:], half)
    assert not np.array_equal(whole, run(policy, images, seed=1))


def draws(policy, images, monkeypatch, n=4000):
    """Return the operations and strengths that a policy draws for many images."""
    caught = []
    monkeypatch.setattr(
        "deeper.augment.policy_base.transform",
        lambda kinds, strengths, images, **_: caught.append((kinds, strengths)) or images,
    )
    many = jnp.zeros((n, *images.shape[1:]), jnp.uint8)
    policy(jax.random.split(jax.random.key(0), n), many)
    kinds, strengths = caught[0]
    return np.asarray(kinds), np.asarray(strengths)


def test_randaugment_draws_each_operation_alike_and_both_signs(monkeypatch):
    kinds, strengths = draws(RandAugment(), COLOUR, monkeypatch)
    counts = Counter(KINDS[kind] for kind in kinds.ravel())
    assert len(counts) == 14
    assert all(400 < count < 750 for count in counts.values())  # 571 expected, deviation 23
    rotations = strengths[kinds == KINDS.index("rotate")]
    np.testing.assert_allclose(np.unique(rotations), [-9.0, 9.0])
    assert 0.4 < (rotations > 0).mean() < 0.6


def test_colour_is_dropped_from_the_choice_on_grey_images_or_refused(monkeypatch):
    kinds, _ = draws(RandAugment(), GREY, monkeypatch)
    assert len({*kinds.ravel()}) == 13
    assert KINDS.index("saturation") not in kinds
    assert left_out_on_grey([RandAugment(), Random(operation="rotate", low=0, high=1)]) == [
        "RandAugment without saturation"
    ]
    for policy in (
        RandAugment(on_grey="refuse"),
        AutoAugment(on_grey="refuse"),
        Random(operation="hue", low=0.1, high=0.2, on_grey="refuse"),
        ColourJitter(hue=0.1, on_grey="refuse"),
    ):
        with pytest.raises(UserError, match="mean nothing on grey images"):
            run(policy, GREY)


def test_trivialaugment_draws_one_operation_at_any_magnitude(monkeypatch):
    kinds, strengths = draws(TrivialAugment(), COLOUR, monkeypatch)
    assert kinds.shape[1] == 1
    rotations = np.unique(np.round(strengths[kinds == KINDS.index("rotate")], 3))
    assert len(rotations) == 61
    assert rotations.max() == 135.0


def test_autoaugment_uses_its_probabilities(monkeypatch):
    kinds, _ = draws(AutoAugment(policy="svhn"), COLOUR, monkeypatch, 20_000)
    expected = np.mean([pair[0].probability for pair in POLICIES["svhn"]])
    assert abs((kinds[:, 0] != 0).mean() - expected) < 0.02


def test_augmix_has_chains_of_one_to_three(monkeypatch):
    policy = AugMix()
    kinds, _ = draws(policy, COLOUR, monkeypatch)
    lengths = (kinds.reshape(-1, 3) != 0).sum(axis=1)
    assert {*lengths} == {1, 2, 3}
    # With nothing changed in the chains, weights that add up to 1 give the image itself.
    np.testing.assert_allclose(
        np.asarray(policy(jax.random.split(jax.random.key(0), 64), COLOUR)).astype(int),
        np.asarray(COLOUR).astype(int),
        atol=1,
    )


def test_colour_jitter_uses_its_four_in_any_order(monkeypatch):
    kinds, strengths = draws(ColourJitter(0.4, 0.4, 0.4, 0.1), COLOUR, monkeypatch)
    assert len({tuple(row) for row in kinds}) == 24
    brightness = strengths[kinds == KINDS.index("brightness")]
    assert 0.6 <= brightness.min() < 0.65
    assert 1.35 < brightness.max() <= 1.4
    assert np.abs(strengths[kinds == KINDS.index("hue")]).max() <= 0.1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandAugment(magnitude=31), "magnitude=31: with bins=31 give 0 to 30"),
        (lambda: RandAugment(layers=0), "layers=0"),
        (lambda: AutoAugment(policy="mnist"), "choose imagenet or cifar10 or svhn"),
        (lambda: AugMix(severity=11), "severity=11"),
        (lambda: Random(operation="twirl"), "operation=twirl is unknown; choose identity or"),
        (
            lambda: Random(operation="posterize", low=4, high=9),
            "strengths from 0 to 8; low=4 high=9",
        ),
        (lambda: Random(operation="invert", low=1, high=1), "takes no strength"),
        (lambda: ColourJitter(hue=0.7), "at most 0.5"),
        (lambda: TrivialAugment(interpolation="cubic"), "choose nearest or bilinear"),
    ],
)
def test_a_mistake_is_said_in_a_sentence(make, message):
    with pytest.raises(UserError, match=message):
        make()


# rand-m6-mstd0.5-inc1 at levels 6 and 10, of timm/data/auto_augment.py, for images of 48x64.
TIMM = {
    "shear_x": (0.18, 0.3),
    "shear_y": (0.18, 0.3),
    "translate_x": (0.27 * 64, 0.45 * 64),
    "translate_y": (0.27 * 48, 0.45 * 48),
    "rotate": (18.0, 30.0),
    **dict.fromkeys(("brightness", "contrast", "saturation", "sharpness"), (1.54, 1.9)),
    "posterize": (4 - 2, 4 - 4),
    "solarize": (256 - 153, 256 - 256),
    "solarize_add": (66, 110),
    **dict.fromkeys(("autocontrast", "equalize", "invert"), (0.0, 0.0)),
}


def test_timms_randaugment_has_its_operations_ranges_and_draws(monkeypatch):
    policy = timm_randaugment.RandAugment(magnitude=6.0, deviation=0.5, probability=0.5)
    kinds, strengths = policy.space_of(48, 64)
    found = {KINDS[k]: (row[600, 1], row[1000, 1]) for k, row in zip(kinds, strengths, strict=True)}
    assert found == {name: pytest.approx(pair, abs=1e-4) for name, pair in TIMM.items()}
    assert (strengths[:, :, 0].min(), strengths[:, :, 0].max()) == pytest.approx((-30.0, 256.0))
    kinds, strengths = draws(policy, COLOUR, monkeypatch)
    assert 0.47 < (kinds == KINDS.index("identity")).mean() < 0.53
    counts = Counter(KINDS[kind] for kind in kinds.ravel() if KINDS[kind] != "identity")
    assert set(counts) == set(TIMM)
    assert all(190 < count < 345 for count in counts.values())  # 267 expected, deviation 16
    levels = np.abs(strengths[kinds == KINDS.index("rotate")]) / 3.0
    assert levels.mean() == pytest.approx(6.0, abs=0.15)
    assert levels.std() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("values", [{"magnitude": 11.0}, {"deviation": -1.0}, {"probability": 2.0}])
def test_timms_randaugment_refuses_what_is_out_of_range(values):
    with pytest.raises(UserError, match=next(iter(values))):
        timm_randaugment.RandAugment(**values)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomCrop(NAN),
        lambda: RandomResizedCrop(8, scale=(NAN, 1.0), ratio=(0.75, 1.25)),
        lambda: RandomErasing(NAN, (0.02, 0.3), (0.3, 3.3)),
        lambda: Blur(NAN, (0.1, 2.0), 0.5),
        lambda: RandAugment(layers=NAN),
        lambda: RandAugment(magnitude=NAN),
        lambda: RandAugment(bins=NAN),
        lambda: AugMix(width=NAN),
        lambda: AugMix(depth=NAN),
        lambda: AugMix(alpha=NAN),
        lambda: ColourJitter(brightness=NAN, contrast=0, saturation=0, hue=0),
        lambda: ColourJitter(brightness=0, contrast=0, saturation=0, hue=NAN),
        lambda: Random(operation="rotate", low=NAN, high=15),
        lambda: timm_randaugment.RandAugment(layers=NAN),
        lambda: timm_randaugment.RandAugment(deviation=NAN),
    ],
)
def test_no_guard_lets_nan_pass(make):
    with pytest.raises(UserError):
        make()
