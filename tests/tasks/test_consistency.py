"""Consistency training: the loss of the papers, on any number of devices, also after resuming."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from deeper.augment.crops_and_colour import Flip, RandomCrop
from deeper.data.epoch_order import batch_indices
from deeper.errors import UserError
from deeper.models.lenet import lenet5
from deeper.models.resnet import resnet
from deeper.tasks.consistency import UNLABELLED, Consistency, ConsistencyTraining
from deeper.train.checkpoint import Checkpoints
from deeper.train.device_feed import OWN, Resident
from deeper.train.loop import train
from tests.train.conftest import Dropped, N, Rows, build, losses_and_state

UDA = Consistency(2, 1.0, 0.4, 0.0, "soft", "none")
SYNC = {"model": resnet(8, 10, width=4, batch_norm_axis="data")}
NO_NORM = {"model": lenet5(10)}


def with_unlabelled(devices=1, consistency=UDA, **changes):
    experiment, state = build(devices, operations=(), **changes)
    batch, ratio = experiment.settings.batch_size, consistency.ratio

    def both(step):
        return {
            OWN: batch_indices(20, batch, 0, step),
            UNLABELLED: batch_indices(N, batch * ratio, 1, step).reshape(batch, ratio),
        }

    experiment = replace(
        experiment,
        task=ConsistencyTraining(experiment.task, (), (RandomCrop(1), Flip()), consistency),
        feed=Resident(experiment.feed.source, both),
    )
    return experiment, state


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


WEAK = np.array([[4.0, 0.0, 1.0], [0.5, 0.4, 0.3], [0.0, 3.0, 0.0]], np.float32)
STRONG = np.array([[1.0, 2.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 1.0]], np.float32)


def test_the_soft_loss_is_the_divergence_from_the_sharpened_confident_answer():
    found, confident = replace(UDA, confidence=0.8).unlabelled_loss(WEAK, STRONG)
    target = softmax(WEAK / 0.4)
    expected = (target * (np.log(target) - np.log(softmax(STRONG)))).sum(axis=1)
    np.testing.assert_array_equal(confident, softmax(WEAK).max(axis=1) >= 0.8)
    assert confident.tolist() == [1.0, 0.0, 1.0]
    np.testing.assert_allclose(found, expected * confident, rtol=1e-5)


def test_the_hard_loss_is_the_cross_entropy_to_the_best_class():
    found, _ = replace(UDA, target="hard", confidence=0.92).unlabelled_loss(WEAK, STRONG)
    expected = [-np.log(softmax(STRONG))[0, 0], 0.0, 0.0]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_target_gets_no_gradient():
    by_weak = jax.grad(lambda weak: UDA.unlabelled_loss(weak, STRONG)[0].sum())(jnp.array(WEAK))
    assert not np.any(by_weak)


@pytest.mark.parametrize(
    ("annealing", "at"),
    [
        ("none", (1.0, 1.0, 1.0)),
        ("linear", (0.1, 0.55, 1.0)),
        ("log", (0.1, 0.1 + 0.9 * (1 - np.exp(-2.5)), 0.1 + 0.9 * (1 - np.exp(-5)))),
        ("exp", (0.1 + 0.9 * np.exp(-5), 0.1 + 0.9 * np.exp(-2.5), 1.0)),
    ],
)
def test_the_threshold_of_annealing_goes_from_chance_to_one(annealing, at):
    consistency = replace(UDA, annealing=annealing)
    found = [float(consistency.threshold(jnp.float32(p), 10)) for p in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(found, at, rtol=1e-5)


@pytest.mark.parametrize("annealing", ["none", "linear"])
@pytest.mark.parametrize("devices", [2, 4])
def test_devices_give_the_same_gradients(devices, annealing):
    sgd = {"optimizer": optax.sgd(1.0), "consistency": replace(UDA, annealing=annealing), **NO_NORM}
    found = [losses_and_state(*with_unlabelled(n, **sgd), steps=1)[1] for n in (1, devices)]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        *(state.params for state in found),
    )


@pytest.mark.long
def test_devices_give_the_same_losses_with_synchronised_batch_norm():
    one, _ = losses_and_state(*with_unlabelled(1, **SYNC), steps=4)
    two, _ = losses_and_state(*with_unlabelled(2, **SYNC), steps=4)
    np.testing.assert_allclose(one, two, rtol=2e-3)


@pytest.mark.parametrize("devices", [2, 4])
def test_devices_do_not_change_a_mask_of_dropout(devices):
    sgd = {"optimizer": optax.sgd(0.1), "model": Dropped()}
    found = [losses_and_state(*with_unlabelled(n, **sgd), steps=3)[0] for n in (1, devices)]
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_annealing_leaves_out_what_the_net_is_sure_of(tmp_path):
    rows = Rows()
    experiment, state = with_unlabelled(
        consistency=replace(UDA, annealing="exp"), steps=24, log_every=8, evaluate_every=24
    )
    checkpoints = Checkpoints(tmp_path, experiment.mesh)
    train(experiment, state, rows, checkpoints)
    checkpoints.close()
    learnt = [row["train/learnt_from"] for row in rows.rows if "train/learnt_from" in row]
    assert min(learnt) < 1.0
    assert all(0.0 <= row["train/confident"] <= 1.0 for row in rows.rows if "train/loss" in row)


def test_a_run_that_is_cut_and_resumed_equals_the_uncut_one_to_the_bit(tmp_path):
    experiment, state = with_unlabelled(ema_decay=0.9)
    opened = [Checkpoints(tmp_path / name, experiment.mesh) for name in ("uncut", "cut")]
    uncut = train(experiment, state, Rows(), opened[0])
    polled = itertools.count(1)
    train(experiment, state, Rows(), opened[1], stop_asked=lambda: next(polled) >= 1)
    again = Checkpoints(tmp_path / "cut", experiment.mesh)
    restored = again.restore_last_good(state, warn=pytest.fail)
    assert 0 < int(restored.step) < experiment.settings.steps
    second = train(experiment, restored, Rows(), again)
    jax.tree.map(np.testing.assert_array_equal, uncut.state, second.state)
    for checkpoints in (*opened, again):
        checkpoints.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ratio": 0}, "ratio=0"),
        ({"ratio": float("nan")}, "ratio=nan"),
        ({"weight": float("nan")}, "weight=nan"),
        ({"temperature": 0.0}, "temperature above 0"),
        ({"temperature": float("nan")}, "temperature above 0"),
        ({"confidence": 1.0}, "confidence from 0 to below 1"),
        ({"target": "firm"}, "choose soft or hard"),
        ({"annealing": "square"}, "choose none, linear, log or exp"),
    ],
)
def test_a_mistake_is_said_in_a_sentence(change, message):
    with pytest.raises(UserError, match=message):
        replace(UDA, **change)
