"""Phases: frozen layers do not change a bit, others train, and resuming changes nothing."""

import itertools

import jax
import numpy as np
import optax
import pytest

from deeper.models.initializers import initialise
from deeper.models.resnet import resnet
from deeper.models.vgg import vgg
from deeper.train.checkpoint import Checkpoints
from deeper.train.loop import train
from deeper.train.optimizer import SGD
from deeper.train.phases import Phase
from tests.train.conftest import Rows, build, losses_and_state

FROZEN = {"conv1": 0.0, "bn1": 0.0, "stage1": 0.0, "stage2": 0.0, "stage3": 0.5, "fc": 1.0}
QUIET = frozenset(name for name, rate in FROZEN.items() if rate == 0.0)


def phase(begins, ends, rates=FROZEN, quiet=QUIET, weight_decay=0.1):
    schedule = optax.linear_schedule(0.1, 0.0, ends - begins)
    optimizer = SGD(0.1, 0.9, True, weight_decay, True).transformation(schedule)
    return Phase(begins, ends, optimizer, schedule, rates, quiet)


def unequal(one, other):
    """Return the layers of which any leaf differs in a bit."""
    return {
        name
        for name in one
        for a, b in zip(jax.tree.leaves(one[name]), jax.tree.leaves(other[name]), strict=True)
        if np.asarray(a).tobytes() != np.asarray(b).tobytes()
    }


@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("scan", [False, True])
def test_what_is_frozen_stays_to_the_bit(devices, scan):
    model = resnet(14, 10, width=4, scan=scan)
    experiment, state = build(devices, model=model, phases=(phase(0, 8),), ema_decay=0.9)
    _, after = losses_and_state(experiment, state)
    assert unequal(state.params, after.params) == {"stage3", "fc"}
    assert unequal(state.batch_stats, after.batch_stats) == {"stage3"}
    for before, then in zip(state.ema, after.ema, strict=True):
        assert unequal(before, then) <= {"stage3", "fc"}
    assert unequal(state.ema[0], after.ema[0]) == {"stage3", "fc"}


def test_inside_frozen_layers_the_net_runs_as_in_inference():
    experiment, state = build(phases=(phase(0, 8),), operations=())
    apply = experiment.phases[0].apply_of(experiment.model)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    images = jax.random.normal(jax.random.key(0), (4, 12, 12, 1))

    def stages(apply, train):
        _, kept = apply(variables, images, train=train, mutable=["batch_stats", "intermediates"])
        return [np.asarray(kept["intermediates"][f"stage{i}_out"][0]) for i in (1, 2, 3)]

    ours = stages(apply, True)
    inference, training = (stages(experiment.model.apply, train) for train in (False, True))
    np.testing.assert_array_equal(ours[1], inference[1])
    assert np.abs(ours[1] - training[1]).max() > 0.1
    assert np.abs(ours[2] - inference[2]).max() > 0.1  # what trains uses the batch's statistics


def test_dropout_in_front_of_a_frozen_layer_is_quiet():
    model = vgg(11, 10, hidden=16, dropout=0.5)
    variables = initialise(model, 0, (28, 28, 1))
    images = jax.random.normal(jax.random.key(0), (4, 28, 28, 1))
    frozen = Phase(0, 1, optax.sgd(0.1), lambda step: 0.1, {}, frozenset({"dropout1", "dropout2"}))

    def logits(apply, key):
        return apply(variables, images, train=True, rngs={"dropout": jax.random.key(key)})

    np.testing.assert_array_equal(
        logits(frozen.apply_of(model), 0), model.apply(variables, images, train=False)
    )
    assert np.abs(logits(model.apply, 0) - logits(model.apply, 1)).max() > 0


def test_a_layers_factor_scales_its_step():
    def change(rates):
        schedule = optax.constant_schedule(0.1)
        one = Phase(0, 1, optax.sgd(schedule), schedule, rates)
        experiment, state = build(phases=(one,), steps=1)
        _, after = losses_and_state(experiment, state, 1)
        return jax.tree.map(np.subtract, after.params, state.params)

    full, scaled = change({}), change({"stage1": 0.25, "fc": 2.0})
    for name, factor in {"conv1": 1.0, "stage1": 0.25, "stage3": 1.0, "fc": 2.0}.items():
        for a, b in zip(jax.tree.leaves(full[name]), jax.tree.leaves(scaled[name]), strict=True):
            np.testing.assert_allclose(factor * a, b, rtol=1e-3, atol=1e-7)


def two_phases(**changes):
    phases = (phase(0, 5), phase(5, 8, {}, frozenset()))
    return build(phases=phases, ema_decay=0.9, **changes)


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_phases_that_are_cut_and_resumed_equal_the_uncut_ones_to_the_bit(tmp_path, calls):
    experiment, state = two_phases(steps_per_call=5, log_every=8, checkpoint_every=8)
    rows = Rows()
    uncut = train(experiment, state, rows, Checkpoints(tmp_path / "uncut", experiment.mesh))
    polled = itertools.count(1)
    cut = Checkpoints(tmp_path / "cut", experiment.mesh)
    first = train(experiment, state, Rows(), cut, stop_asked=lambda: next(polled) >= calls)
    if calls < 3:
        assert first.status == "interrupted"
        assert first.step == {1: 4, 2: 5}[calls]  # the second ends at the phase's border
        restored = cut.restore_last_good(state, warn=pytest.fail)
        first = train(experiment, restored, Rows(), cut)
    assert first.status == "finished"
    jax.tree.map(np.testing.assert_array_equal, uncut.state, first.state)
    assert not unequal(uncut.state.params, first.state.params)
    # At steps 3 and 7: the second phase's schedule counts from its own beginning.
    rates = [row["lr"] for row in rows.rows if "lr" in row]
    assert rates == pytest.approx([0.1 * (1 - 3 / 5), 0.1 * (1 - 2 / 3)])


@pytest.mark.long
def test_each_phase_begins_with_an_empty_memory(tmp_path):
    experiment, state = two_phases(log_every=8)
    both = train(experiment, state, Rows(), Checkpoints(tmp_path / "both", experiment.mesh))
    # By hand: the first phase, then a new optimizer's state, then the second.
    _, middle = losses_and_state(experiment, state, 5)
    assert unequal(state.params, middle.params) == {"stage3", "fc"}
    again = experiment.phases[1].optimizer.init(middle.params)
    call = experiment.compiled_steps(experiment.phases[1])
    feed = experiment.feed.steps(5, 3, 3)
    end, _ = call(middle.replace(opt_state=again), experiment.feed.source, feed, np.int32(3))
    assert not unequal(both.state.params, end.params)
