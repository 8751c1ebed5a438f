"""A box follows its object through every operation that moves pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deeper.augment.boxes import Crop, Flip, ScaleJitter, augment
from deeper.augment.crops_and_colour import Blur, Lighting, RandomCrop
from deeper.augment.mixing import Mixup
from deeper.augment.policy_base import ColourJitter
from deeper.errors import UserError

CANVAS = (64, 80)
BACKGROUND = 60


def painted(seed, n=12):
    """Return a batch of photographs, each with a white object in the last of two boxes."""
    rng = np.random.default_rng(seed)
    images = np.zeros((n, *CANVAS, 3), np.uint8)
    size = np.stack([rng.integers(30, 65, n), rng.integers(40, 81, n)], axis=1)
    boxes, labels = np.zeros((n, 3, 4), np.float32), np.full((n, 3), -1, np.int32)
    for i, (height, width) in enumerate(size):
        images[i, :height, :width] = BACKGROUND
        tall, wide = rng.integers(10, 24, 2)
        y1, x1 = rng.integers(0, height - tall + 1), rng.integers(0, width - wide + 1)
        images[i, y1 : y1 + tall, x1 : x1 + wide] = 250
        boxes[i, 1], labels[i, 1] = (x1, y1, x1 + wide, y1 + tall), 5
    return {
        "image": jnp.asarray(images),
        "size": jnp.asarray(size, jnp.float32),
        "boxes": jnp.asarray(boxes),
        "labels": jnp.asarray(labels),
        "area": jnp.zeros((n, 3)),
    }


def found(image):
    """Return the box of the white object, or None."""
    bright = np.asarray(image).max(axis=-1) > (250 + BACKGROUND) / 2
    if not bright.any():
        return None
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


compiled = jax.jit(augment, static_argnums=0)


def changed(operations, batch, seed=0, rows=None):
    rows = jnp.arange(len(batch["image"])) if rows is None else rows
    return compiled(tuple(operations), jax.random.key(seed), rows, batch)


OPERATIONS = {
    "flip": (Flip(), 0.0),
    "jitter": (ScaleJitter(0.5, 2.0), 1.01),
    "shrink": (ScaleJitter(0.3, 0.9), 1.01),
    "crop": (Crop(1.0, (0.2, 1.0)), 1.51),
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("seed", range(2))
def test_a_box_follows_its_object(name, seed):
    operation, apart = OPERATIONS[name]
    batch = painted(seed)
    after = changed([operation], batch, seed)
    kept = 0
    for i in range(len(batch["image"])):
        box, label = np.asarray(after["boxes"][i, 1]), int(after["labels"][i, 1])
        seen = found(after["image"][i])
        if label == 5:
            assert seen is not None
            np.testing.assert_allclose(box, seen, atol=apart + 1e-4)
            kept += 1
        else:
            assert label == -1
            assert not box.any()
            assert name != "flip"
        assert not np.asarray(after["boxes"][i, [0, 2]]).any()
        assert (np.asarray(after["labels"][i, [0, 2]]) == -1).all()
    assert kept >= 5


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_photograph_fills_its_size_and_the_rest_of_the_canvas_is_zero(name):
    operation, _ = OPERATIONS[name]
    after = changed([operation], painted(1))
    for image, (height, width) in zip(
        np.asarray(after["image"]), np.asarray(after["size"]).astype(int), strict=True
    ):
        assert (image[:height, :width] >= BACKGROUND - 1).all()
        assert not image[height:].any()
        assert not image[:, width:].any()


def test_boxes_lie_within_their_photograph_and_those_of_which_little_is_left_are_dropped():
    batch = painted(2, n=40)
    strict, lenient = (changed([Crop(1.0, (0.1, 0.4), kept=k)], batch) for k in (0.9, 0.0))
    np.testing.assert_array_equal(strict["image"], lenient["image"])
    there, more = (np.asarray(one["labels"][:, 1]) == 5 for one in (strict, lenient))
    assert 0 < there.sum() < more.sum() < 40
    height, width = np.asarray(lenient["size"]).T
    x1, y1, x2, y2 = np.asarray(lenient["boxes"][:, 1]).T
    assert (x1 >= 0).all()
    assert (y1 >= 0).all()
    assert (x2 <= width).all()
    assert (y2 <= height).all()
    assert ((x2 - x1 >= 1) & (y2 - y1 >= 1))[more].all()


def test_a_factor_of_one_and_a_crop_of_all_change_nothing():
    batch = painted(3)
    noise = np.random.default_rng(0).integers(1, 255, batch["image"].shape, np.uint8)
    batch["image"] = jnp.where(batch["image"] > 0, noise, 0).astype(jnp.uint8)
    for operation in (ScaleJitter(1.0, 1.0), Crop(0.0), Flip(0.0)):
        after = changed([operation], batch)
        for name in batch:
            np.testing.assert_array_equal(after[name], batch[name], err_msg=str(operation))


def test_two_flips_are_none():
    batch = painted(4)
    after = changed([Flip(1.0), Flip(1.0)], batch)
    for name in batch:
        np.testing.assert_array_equal(after[name], batch[name])
    once = changed([Flip(1.0)], batch)
    assert (np.asarray(once["boxes"]) != np.asarray(batch["boxes"])).any()


def test_an_example_depends_on_its_row_alone():
    operations = [Flip(), Crop(), ScaleJitter(0.5, 1.5), Lighting()]
    batch = painted(5)
    whole = changed(operations, batch)
    part = {name: values[4:8] for name, values in batch.items()}
    some = changed(operations, part, rows=jnp.arange(4, 8))
    for name in part:
        np.testing.assert_array_equal(some[name], whole[name][4:8], err_msg=name)


@pytest.mark.parametrize("operation", [Lighting(), Blur(3), ColourJitter(brightness=0.5)])
def test_colours_change_within_the_photograph_alone_and_boxes_stay(operation):
    batch = painted(6)
    after = changed([operation], batch)
    assert (np.asarray(after["image"]) != np.asarray(batch["image"])).any()
    for image, (height, width) in zip(
        np.asarray(after["image"]), np.asarray(batch["size"]).astype(int), strict=True
    ):
        assert not image[height:].any()
        assert not image[:, width:].any()
    for name in ("size", "boxes", "labels"):
        np.testing.assert_array_equal(after[name], batch[name])


@pytest.mark.parametrize("operation", [RandomCrop(4), Mixup(1.0, 1.0, False, 3)])
def test_operations_that_would_leave_boxes_behind_are_refused(operation):
    with pytest.raises(UserError, match="boxes"):
        changed([operation], painted(0))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Flip(1.5),
        lambda: ScaleJitter(2.0, 1.0),
        lambda: ScaleJitter(1.0, 2.0, kept=2.0),
        lambda: Crop(2.0),
        lambda: Crop(scale=(0.0, 1.0)),
        lambda: Crop(ratio=(2.0, 1.0)),
    ],
)
def test_values_out_of_range_are_refused(make):
    with pytest.raises(UserError, match="give"):
        make()
