"""Metrics of predictions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deeper.tasks.classification import (
    Classification,
    calibration_error,
    confusion,
    error_by_class,
)
from deeper.train import losses
from deeper.train.evaluate import metrics_of

TASK = Classification((), lambda images: images, losses.cross_entropy)


def answers(logits, labels):
    return jax.tree.map(np.asarray, TASK.predict(logits, {"label": labels}))


def test_calibration_and_errors_by_class_by_hand():
    found = {
        "loss": np.zeros(5, np.float32),
        "correct": np.array([1, 0, 1, 1, 0], np.float32),
        "correct_top5": np.ones(5, np.float32),
        "prediction": np.array([0, 1, 1, 2, 0], np.int32),
        "confidence": np.array([0.9, 0.9, 0.6, 1.0, 0.2], np.float32),
        "label": np.array([0, 0, 1, 2, 2], np.int32),
    }
    # Bins of a tenth: 0.9 and 0.9 (half right), 0.6 (right), 1.0 (right), 0.2 (wrong).
    expected = (2 * abs(0.5 - 0.9) + abs(1 - 0.6) + abs(1 - 1.0) + abs(0 - 0.2)) / 5
    assert calibration_error(found, 10) == pytest.approx(100 * expected, rel=1e-5)
    assert error_by_class(found, 4) == [50.0, 0.0, 50.0, None]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("classes", [3, 10])
def test_a_score_that_is_no_number_is_no_right_answer(value, classes):
    labels = jnp.arange(classes, dtype=jnp.int32)
    logits = jnp.full((classes, classes), value)
    for k in (1, 5):
        assert float(losses.in_top(logits, labels, k).sum()) == 0.0
    assert float(losses.wrong(logits, labels).sum()) == classes
    assert float(losses.wrong(logits, jax.nn.one_hot(labels, classes)).sum()) == classes
    found = answers(logits, labels)
    metrics = metrics_of(TASK, "test", found)
    assert metrics["test/error"] == metrics["test/error_top5"] == 100.0
    assert metrics["test/n_unanswered"] == classes
    assert calibration_error(found) is None
    assert confusion(found, classes).sum() == 0


def test_a_nan_beside_the_highest_score_spoils_the_answer():
    logits = jnp.array([[5.0, 1.0, jnp.nan], [5.0, 1.0, 0.0]])
    labels = jnp.zeros(2, jnp.int32)
    np.testing.assert_array_equal(losses.in_top(logits, labels, 1), [0.0, 1.0])
    np.testing.assert_array_equal(losses.in_top(logits, labels, 5), [0.0, 1.0])
    assert "n_unanswered" not in TASK.summarise(answers(logits[1:], labels[1:]))
