"""The corruptions against what the published code does on the same draws, and their own draws.

``corruptions.npz`` is written by experiments/robustness/golden.py. Results are integers of 0 to
255, cut off there from float64 and here from float32: where a value is a whole number but for
rounding, one of the two may be lower by 1. A value may differ by 1, then, and 2 in a hundred
values may (10 for `MANY`); elastic transforms round a pixel's place, too, and may differ by 2 where
the image has an edge.
"""

import os
from functools import cache, partial
from pathlib import Path

import jax
import numpy as np
import pytest

from deeper.augment.corruption_tables import FROST_SCALE, NAMES, SETS, SEVERITIES, set_for
from deeper.augment.corruptions import CORRUPTIONS, Pictures, corrupt, stored
from deeper.run.frost import resized
from tests.augment.corruption_cases import ice, seed, windows

GOLDEN = Path(__file__).parent / "corruptions.npz"
ALL = os.environ.get("DEEPER_CORRUPTIONS") == "all"
CHECKED = {32: (3,), 64: (2,), 224: (4,)}  # DEEPER_CORRUPTIONS=all: all severities
# Values whose fraction is often nearly whole: sums of pixels and tenths, and averages of ice.
MANY = ("brightness", "frost", "defocus_blur")


@cache
def golden():
    with np.load(GOLDEN) as stored_arrays:
        return dict(stored_arrays)


def published_draws(name, image, strength, random, strengths):
    """Return what the published code draws from ``numpy.random`` in its state."""
    side = len(image)
    match name:
        case "gaussian_noise":
            return random.normal(size=image.shape)
        case "shot_noise":
            return random.poisson(image / 255.0 * strength)
        case "impulse_noise":
            return random.random_sample((2, *image.shape))
        case "glass_blur":
            _, largest, passes = strength
            visited = side - 2 * largest
            return random.randint(-largest, largest, size=(passes, visited, visited, 2))
        case "motion_blur":
            return random.uniform(-45, 45)
        case "snow":
            return random.normal(size=image.shape[:2]), random.uniform(-135, -45)
        case "frost":
            picture = resized(ice(random.randint(5)), FROST_SCALE[strengths])
            y = random.randint(0, picture.shape[0] - side)
            x = random.randint(0, picture.shape[1] - side)
            return picture[y : y + side, x : x + side]
        case "fog":
            levels = (side - 1).bit_length()
            return [random.uniform(-1, 1, (3, 2**i, 2**i)) for i in range(levels)]
        case "elastic_transform":
            return random.uniform(-1, 1, (3, 2)), random.uniform(-1, 1, (2, side, side))
    return None


def narrow(values):
    kinds = {np.dtype(np.float64): np.float32, np.dtype(np.int64): np.int32}
    values = np.asarray(values)
    return values.astype(kinds.get(values.dtype, values.dtype))


@pytest.mark.parametrize("side", CHECKED)
@pytest.mark.parametrize("name", NAMES)
def test_a_corruption_is_the_published_one_on_the_same_draws(name, side):
    strengths, image = set_for(side), golden()[f"image_{side}"]
    for severity in SEVERITIES if ALL else CHECKED[side]:
        strength = SETS[strengths][name][severity - 1]
        random = np.random.RandomState(seed(name, severity))
        draws = jax.tree.map(narrow, published_draws(name, image, strength, random, strengths))
        apply = jax.jit(lambda *given, strength=strength: CORRUPTIONS[name].apply(*given, strength))
        ours = windows(np.asarray(stored(apply(image, draws))))
        difference = np.abs(ours.astype(int) - golden()[f"{name}_{severity}_{side}"])
        assert difference.max() <= (2 if name == "elastic_transform" else 1)
        assert (difference > 0).mean() <= (0.1 if name in MANY else 0.02)


def pictures():
    frames = [ice(number)[:60, :80] for number in range(2)]
    return Pictures(np.stack(frames), np.array([[60, 80], [50, 70]], np.int32))


@pytest.mark.parametrize("name", ["gaussian_noise", "glass_blur", "snow", "frost"])
def test_a_draw_depends_on_the_number_of_the_example_alone(name):
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 3), np.uint8)
    numbers = np.arange(4)
    four = jax.jit(partial(corrupt, name, "CIFAR-10-C", 3))(images, numbers, pictures())
    order = [2, 0]
    two = jax.jit(partial(corrupt, name, "CIFAR-10-C", 3))(
        images[order], numbers[order], pictures()
    )
    np.testing.assert_array_equal(two, np.asarray(four)[order])
    same = jax.jit(partial(corrupt, name, "CIFAR-10-C", 3))(images[[0] * 4], numbers, pictures())
    assert len({np.asarray(one).tobytes() for one in same}) == 4


@pytest.mark.parametrize("name", ["shot_noise", "glass_blur", "fog", "contrast"])
def test_one_program_makes_all_severities_as_one_of_each_does(name):
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1), np.uint8)
    numbers = np.arange(2)
    one = jax.jit(lambda severity: corrupt(name, "CIFAR-10-C", severity, images, numbers))
    for severity in (1, 4):
        alone = jax.jit(partial(corrupt, name, "CIFAR-10-C", severity))(images, numbers)
        difference = np.abs(np.asarray(one(np.int32(severity)), int) - np.asarray(alone, int))
        assert difference.max() <= 1  # programs round differently, and results are cut off
        assert (difference > 0).mean() < 1e-3


def test_shot_noise_has_as_much_variance_as_photons_and_ice_is_a_window_of_its_picture():
    grey = np.full((1, 64, 64, 3), 102, np.uint8)
    noisy = corrupt("shot_noise", "ImageNet-C", 2, grey, np.arange(1))
    counts = np.asarray(noisy, float) / 255 * 25
    assert counts.mean() == pytest.approx(10, abs=0.2)
    assert counts.var() == pytest.approx(10, rel=0.1)
    black = np.zeros((3, 20, 30, 3), np.uint8)
    icy = corrupt("frost", "ImageNet-C", 1, black, np.arange(3), pictures())
    own = stored(np.float32(0.4) * pictures().pixels.astype(np.float32))
    found = [
        any(
            np.array_equal(one, np.asarray(picture)[y : y + 20, x : x + 30])
            for picture, (height, width) in zip(own, pictures().sizes)
            for y in range(height - 20)
            for x in range(width - 30)
        )
        for one in np.asarray(icy)
    ]
    assert all(found)


@pytest.mark.parametrize("name", ["defocus_blur", "brightness", "elastic_transform", "pixelate"])
def test_a_grey_image_is_corrupted_as_the_equal_colour_image(name):
    grey = golden()["image_32"][None, :28, :28, :1]
    numbers = np.arange(1)
    one = corrupt(name, "CIFAR-10-C", 3, grey, numbers)
    three = corrupt(name, "CIFAR-10-C", 3, np.repeat(grey, 3, axis=3), numbers)
    difference = np.abs(np.asarray(one, int) - np.asarray(three, int))
    assert one.shape == grey.shape
    assert difference.max() <= 1


def test_images_get_the_strengths_of_the_data_set_of_their_size():
    found = [set_for(side) for side in (28, 32, 64, 96, 224, 299)]
    assert found == ["CIFAR-10-C"] * 2 + ["Tiny-ImageNet-C"] * 2 + ["ImageNet-C"] * 2
