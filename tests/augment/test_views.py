"""Views at evaluation: which parts of the image they are, and what is averaged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deeper.augment.views import views
from deeper.errors import UserError
from deeper.models.resnet import resnet
from deeper.train.evaluate import Evaluator
from tests.train.conftest import build

IMAGES = np.random.default_rng(0).integers(1, 255, (3, 6, 8, 1)).astype(np.uint8)


def test_ten_crops_are_the_corners_and_the_centre_and_their_mirror_images():
    seen = np.asarray(views("ten_crop", 2)(jnp.asarray(IMAGES)))
    assert seen.shape == (10, 3, 6, 8, 1)
    wide = np.pad(IMAGES, ((0, 0), (2, 2), (2, 2), (0, 0)))
    np.testing.assert_array_equal(seen[0], wide[:, :6, :8])
    np.testing.assert_array_equal(seen[6], wide[:, -6:, -8:])
    np.testing.assert_array_equal(seen[8], IMAGES)
    np.testing.assert_array_equal(seen[1::2], seen[::2, :, :, ::-1])


def test_probabilities_are_averaged_over_views():
    experiment, state = build(model=resnet(8, 10, width=4))
    split = experiment.final[0]
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    evaluator = Evaluator(
        experiment.model,
        experiment.normalise,
        experiment.mesh,
        "shard_map",
        split.feed.take,
        batches_per_call=2,
        views=views("flip", 0),
    )
    found = evaluator(variables, split)
    images = split.feed.source["image"][-len(found.label) :]
    both = [
        jax.nn.softmax(experiment.model.apply(variables, experiment.normalise(x), train=False))
        for x in (images, images[:, :, ::-1])
    ]
    mean = np.mean(both, axis=0)
    np.testing.assert_array_equal(found.prediction, mean.argmax(axis=1))
    np.testing.assert_allclose(found.confidence, mean.max(axis=1), rtol=1e-4)


def test_a_mistake_is_said_in_a_sentence():
    with pytest.raises(UserError, match="views=twelve is unknown; choose none, flip, ten_crop"):
        views("twelve", 0)
    with pytest.raises(UserError, match="give at least 1"):
        views("ten_crop", 0)


def test_ten_crops_of_larger_images_are_corners_centre_and_their_mirrors():
    images = jnp.arange(2 * 8 * 8).reshape(2, 8, 8, 1)
    seen = views("ten_crop", 0, (5, 6))(images)
    assert seen.shape == (10, 2, 5, 6, 1)
    found = {np.asarray(one).tobytes() for one in seen}
    corners = ((0, 0), (0, 2), (3, 0), (3, 2), (1, 1))
    crops = [np.asarray(images)[:, y : y + 5, x : x + 6] for y, x in corners]
    mirrored = [np.ascontiguousarray(crop[:, :, ::-1]) for crop in crops]
    assert found == {np.ascontiguousarray(crop).tobytes() for crop in crops + mirrored}
