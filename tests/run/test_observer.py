"""Predictions and histograms of a run at its evaluations."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from deeper.config.compose import configure
from deeper.config.identity import config_hash
from deeper.record.schema import read_rows
from deeper.run.observer import histograms_of
from deeper.run.train import Silent, train_run
from deeper.train.loop import train
from tests.cli.conftest import SMALL
from tests.train.conftest import Rows, build

OPTIONS = ("alerts=false", "checkpoints=true", "predictions=4", "histograms=true", "project=mine")


class NoCheckpoints:
    def save(self, state, score):
        pass

    def wait(self):
        pass


class Watching:
    """An observer that asks for the gradients."""

    def __init__(self):
        self.gradients = {}

    def evaluated(self, step, params, predictions, gradients):
        self.gradients[step] = gradients()


class Told(Silent):
    def __init__(self):
        self.said = []

    def says(self, sentence):
        self.said.append(sentence)


def numbers(rows):
    """Return rows without what is measured in seconds."""
    return [{k: v for k, v in r.items() if k not in ("time", "images_per_second")} for r in rows]


@pytest.mark.long
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_that_is_observed_has_the_bits_of_one_that_is_not(accumulate):
    outcomes, rows = [], []
    for observer in (None, Watching()):
        experiment, state = build(2, accumulate=accumulate, ema_decay=0.9)
        rows.append(Rows())
        outcomes.append(train(experiment, state, rows[-1], NoCheckpoints(), observer=observer))

    jax.tree.map(np.testing.assert_array_equal, outcomes[0].state, outcomes[1].state)
    assert numbers(rows[0].rows) == numbers(rows[1].rows)


@pytest.mark.long
@pytest.mark.parametrize("parallel", ["shard_map", "pmap"])
def test_observed_gradients_are_those_that_the_optimizer_gets(parallel):

    # With a rate of zero, the last step's gradients are those of the parameters that are left.
    kept = optax.GradientTransformation(
        lambda params: jax.tree.map(np.zeros_like, params),
        lambda grads, state, params=None: (jax.tree.map(lambda g: 0.0 * g, grads), grads),
    )
    experiment, state = build(2, parallel=parallel, optimizer=kept, operations=())
    watching = Watching()
    outcome = train(experiment, state, Rows(), NoCheckpoints(), observer=watching)
    assert sorted(watching.gradients) == [4, 8]
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6),
        jax.device_get(watching.gradients[8]),
        jax.device_get(outcome.state.opt_state),
    )


def test_histograms_count_every_finite_value():

    values = jnp.array([[0.0, 1.0], [2.0, jnp.nan]])
    same = {"kernel": jnp.zeros(5)}
    found = histograms_of({"weights": {"stem": {"kernel": values}, "head": same}})
    assert dict(zip(found["names"].tolist(), found["counts"].sum(axis=1).tolist())) == {
        "weights/stem/kernel": 3,
        "weights/head/kernel": 5,
    }
    assert found["edges"].shape[1] == found["counts"].shape[1] + 1
    stem = found["edges"][found["names"].tolist().index("weights/stem/kernel")]
    assert (stem[0], stem[-1]) == (0.0, 2.0)


def test_no_option_of_the_tracker_changes_the_hash():
    plain = configure("model=resnet", "data=fashion_mnist")
    other = configure(
        "model=resnet", "data=fashion_mnist", *(f"tracker.{option}" for option in OPTIONS)
    )
    tensorboard = configure("model=resnet", "data=fashion_mnist", "tracker=tensorboard")
    assert tensorboard.tracker.tensorboard
    hashes = {config_hash(one.plain()) for one in (plain, other, tensorboard)}
    assert len(hashes) == 1


def test_a_config_without_the_options_is_read_as_one_that_asks_for_nothing():
    config = configure("model=resnet", "data=fashion_mnist")
    old = config.replace({"tracker": {"mode": "auto", "project": "deeper", "entity": None}})
    assert old.tracker.alerts
    assert not (old.tracker.predictions or old.tracker.histograms or old.tracker.tensorboard)
    assert not old.tracker.checkpoints


@pytest.mark.long
def test_predictions_and_histograms_are_written_at_every_evaluation(
    data_dir, tmp_path, monkeypatch
):
    monkeypatch.setenv("DEEPER_DATA", str(data_dir))
    asked = ["model=resnet", "data=fashion_mnist", *SMALL, "train.epochs=1", "mode=quick"]
    asked += ["tracker.mode=disabled", "train.evaluate_every=0.5", f"runs={tmp_path}"]
    plain = train_run(configure(*asked), tmp_path / "plain").path
    watched = configure(*asked, "tracker.predictions=5", "tracker.histograms=true")
    path = train_run(watched, tmp_path / "watched").path
    rows = [row for _, row in read_rows(path)]
    evaluated = [row["step"] for row in rows if "validation/error" in row]
    assert len(evaluated) > 1
    for folder in ("predictions", "histograms"):
        steps = sorted(int(file.stem) for file in (path / folder).glob("*.npz"))
        assert steps == evaluated
    with np.load(path / f"predictions/{evaluated[0]}.npz") as shown:
        assert len(shown["images"]) == len(shown["predictions"]) == len(shown["labels"]) == 5
    with np.load(path / f"histograms/{evaluated[0]}.npz") as histograms:
        kinds = {str(name).split("/")[0] for name in histograms["names"]}
    assert kinds == {"weights", "gradients"}
    assert numbers(row for _, row in read_rows(plain)) == numbers(rows)


def test_a_run_without_a_validation_split_says_that_nothing_can_be_shown(
    data_dir, tmp_path, monkeypatch
):
    monkeypatch.setenv("DEEPER_DATA", str(data_dir))
    asked = ["model=resnet", "data=fashion_mnist", *SMALL, "train.steps=2", "data.validation=0"]
    asked += ["tracker.mode=disabled", "tracker.predictions=5"]
    told = Told()
    train_run(configure(*asked), tmp_path / "run", display=told)
    assert any("data.validation" in sentence for sentence in told.said)
    assert not (tmp_path / "run" / "predictions").exists()
