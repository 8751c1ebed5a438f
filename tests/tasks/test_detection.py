"""The losses of detection, beside plain loops; detections in pixels of the photographs."""

import jax.numpy as jnp
import numpy as np

from deeper.models.detection.faster_rcnn import Answers, Detections
from deeper.tasks.detection import Detection, losses_by_image

ANCHORS, SAMPLED, CLASSES = 12, 7, 4


def answers(rng):
    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    return Answers(
        normal(2, ANCHORS), normal(2, ANCHORS, 4), rng.integers(-1, 2, (2, ANCHORS)),
        normal(2, ANCHORS, 4), normal(2, SAMPLED, CLASSES), normal(2, SAMPLED, CLASSES, 4),
        rng.integers(-1, CLASSES, (2, SAMPLED)), normal(2, SAMPLED, 4),
    )  # fmt: skip


def smooth(difference):
    size = np.abs(difference)
    return np.where(size < 1 / 9, 4.5 * difference**2, size - 1 / 18).sum()


def test_losses_are_those_of_plain_loops():
    given = answers(np.random.default_rng(0))
    found = losses_by_image(Answers(*map(jnp.asarray, given)))
    for image in range(2):
        one = Answers(*(np.asarray(part[image], np.float64) for part in given))
        objectness = anchor_box = of_class = box = 0.0
        drawn = sampled = 0
        for score, code, label, target in zip(*one[:4]):
            if label >= 0:
                drawn += 1
                objectness += np.log1p(np.exp(-score if label else score))
            anchor_box += smooth(code - target) if label > 0 else 0.0
        for score, code, label, target in zip(*one[4:]):
            if label >= 0:
                sampled += 1
                of_class += np.log(np.exp(score).sum()) - score[int(label)]
            box += smooth(code[int(label)] - target) if label > 0 else 0.0
        expected = {
            "loss_objectness": objectness / drawn,
            "loss_anchor_box": anchor_box / drawn,
            "loss_class": of_class / sampled,
            "loss_box": box / sampled,
        }
        for name, value in expected.items():
            np.testing.assert_allclose(found[name][image], value, rtol=1e-5)


def test_detections_are_told_in_pixels_of_the_photograph():
    found = Detections(
        jnp.asarray([[[10.0, 20, 30, 40]]]), jnp.ones((1, 1)), jnp.zeros((1, 1), int)
    )
    batch = {
        "size": jnp.asarray([[50.0, 100]]), "original": jnp.asarray([[100.0, 300]]),
        "boxes": jnp.asarray([[[1.0, 1, 2, 2]]]), "labels": jnp.zeros((1, 1), int),
        "crowd": jnp.zeros((1, 1), bool), "difficult": jnp.zeros((1, 1), bool),
        "area": jnp.ones((1, 1)), "number": jnp.zeros(1, int),
    }  # fmt: skip
    rows = Detection(1, (), lambda x: x, True).predict(found, batch)
    np.testing.assert_allclose(rows["found_boxes"], [[[30, 40, 90, 80]]])
    np.testing.assert_allclose(rows["boxes"], [[[3, 2, 6, 4]]])
