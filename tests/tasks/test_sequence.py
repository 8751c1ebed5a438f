"""Classification of sequences: its numbers, and several labels."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from deeper.tasks.sequence import MultiLabelSequences, SequenceClassification, macro_f1, ranking
from deeper.train import losses


def test_macro_f1_is_the_mean_over_the_classes_that_occur():
    rng = np.random.default_rng(0)
    rows = {"label": rng.integers(0, 4, 200), "prediction": rng.integers(0, 5, 200)}
    rows["confidence"] = np.ones(200)
    expected = f1_score(rows["label"], rows["prediction"], average="macro", labels=range(4))
    assert macro_f1(rows) == pytest.approx(expected)


def test_a_nan_score_is_no_right_answer_for_f1():
    rows = {
        "label": np.array([0, 0, 1]),
        "prediction": np.array([0, 0, 1]),
        "confidence": np.array([1.0, np.nan, 1.0]),
    }
    assert macro_f1(rows) == pytest.approx((2 / 3 + 1) / 2)


def test_areas_are_means_over_the_labels_that_are_in_some_examples():
    rng = np.random.default_rng(1)
    scores, present = rng.normal(size=(60, 3)), rng.integers(0, 2, (60, 3))
    present[:, 2] = 0
    found = ranking(scores, present)
    pairs = [(present[:, i], scores[:, i]) for i in (0, 1)]
    assert found["auroc"] == pytest.approx(np.mean([roc_auc_score(*pair) for pair in pairs]))
    assert found["auprc"] == pytest.approx(
        np.mean([average_precision_score(*pair) for pair in pairs])
    )
    assert np.isnan(ranking(scores[:, 2:], present[:, 2:])["auroc"])


def test_two_classes_have_areas_and_more_have_none():
    task = SequenceClassification("text", (), lambda x: x, losses.loss_of("cross_entropy", 0, None))
    outputs, label = jnp.asarray([[2.0, 1.0], [0.0, 3.0], [0.0, 0.5]]), jnp.asarray([0, 1, 0])
    rows = {k: np.asarray(v) for k, v in task.predict(outputs, {"label": label}).items()}
    numbers = task.summarise(rows)
    assert (numbers["auroc"], numbers["auprc"]) == (1.0, 1.0)
    assert numbers["error"] == pytest.approx(100 / 3)
    wide = jnp.pad(outputs, ((0, 0), (0, 1)))
    rows = {k: np.asarray(v) for k, v in task.predict(wide, {"label": label}).items()}
    assert "auroc" not in task.summarise(rows)


def test_several_labels_are_each_there_or_not():
    task = MultiLabelSequences("dna", (), lambda x: x)
    outputs = jnp.asarray([[2.0, -1.0], [-1.0, 3.0], [1.0, -0.5]])
    label = jnp.asarray([[1, 0], [0, 1], [0, 0]])
    rows = {k: np.asarray(v) for k, v in task.predict(outputs, {"label": label}).items()}
    numbers = task.summarise(rows)
    assert numbers["error"] == pytest.approx(100 / 6)
    assert numbers["auroc"] == numbers["auprc"] == 1.0
    loss, means = task.loss(outputs, label, jnp.float32(0))
    assert float(loss) == pytest.approx(numbers["loss"], rel=1e-6)
    assert float(means["error"]) == pytest.approx(1 / 6)
    details = task.details(rows, ("one", "two"))
    assert details["n_by_class"] == {"one": 1, "two": 1}
