"""What classification makes of a batch."""

import numpy as np
import pytest

from deeper.tasks.classification import Classification
from deeper.tasks.consistency import Consistency, ConsistencyTraining
from deeper.train import losses


@pytest.mark.parametrize("consistency", [False, True])
def test_images_without_labels_are_shown_to_the_net_as_they_are(consistency):
    task = Classification([], lambda images: images / 255, losses.cross_entropy)
    if consistency:
        settings = Consistency(1, 1.0, 1.0, 0.8, "soft", "none")
        task = ConsistencyTraining(task, weak=(), strong=(), consistency=settings)
    images = np.full((2, 4, 4, 1), 255, np.uint8)
    inputs, *_ = task.inputs(None, np.arange(2), {"image": images}, train=False)
    np.testing.assert_array_equal(inputs, np.ones((2, 4, 4, 1)))
