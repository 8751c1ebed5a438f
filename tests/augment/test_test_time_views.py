"""Views at evaluation: which parts of the image they are, and what is averaged."""

import jax
import jax.numpy as jnp
import numpy as np

from deeper.augment.test_time_views import mirrored_too, on_zeros, ten_crops
from deeper.models.resnet import resnet
from deeper.tasks.classification import mean_over_views
from deeper.train.evaluate import Evaluator
from tests.train.conftest import build

IMAGES = np.random.default_rng(0).integers(1, 255, (3, 6, 8, 1)).astype(np.uint8)


def test_ten_crops_are_the_corners_and_the_centre_and_their_mirror_images():
    seen = np.asarray(ten_crops(on_zeros(jnp.asarray(IMAGES), 2), (6, 8)))
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
    task = experiment.task

    def logits_of(images):
        return experiment.model.apply(variables, task.normalise(images), train=False)

    def predict(variables, batch):
        return task.predict(mean_over_views(logits_of, mirrored_too(batch["image"])), batch)

    evaluator = Evaluator(
        predict,
        experiment.mesh,
        "shard_map",
        split.feed.take,
        batches_per_call=2,
    )
    found = evaluator(variables, split)
    images = split.feed.source["image"][-len(found["label"]) :]
    both = [
        jax.nn.softmax(experiment.model.apply(variables, task.normalise(x), train=False))
        for x in (images, images[:, :, ::-1])
    ]
    mean = np.mean(both, axis=0)
    np.testing.assert_array_equal(found["prediction"], mean.argmax(axis=1))
    np.testing.assert_allclose(found["confidence"], mean.max(axis=1), rtol=1e-4)
