"""A step gives the same result on any number of devices, with shard_map and pmap, and for any steps
per call.
"""

from dataclasses import replace

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from deeper.errors import UserError
from deeper.models.alexnet import alexnet
from deeper.models.googlenet import googlenet
from deeper.models.lenet import lenet5
from deeper.models.resnet import resnet
from deeper.models.vgg import vgg
from deeper.train import losses
from deeper.train.data_parallel import check_divisible, replicate
from deeper.train.device_feed import OWN
from deeper.train.step import ema_share
from tests.train.conftest import Dropped, build, losses_and_state

SYNC = {"model": resnet(8, 10, width=4, batch_norm_axis="data")}
NO_NORM = {"model": lenet5(10)}  # pads its input: 12 pixels will do

# Recorded from this configuration; a change that moves them has to be meant.
GOLDEN = [2.4749, 2.3391, 2.2729, 2.2939, 2.1854]


def test_the_first_five_losses_are_the_golden_ones():
    found, _ = losses_and_state(*build(), steps=5)
    np.testing.assert_allclose(found, GOLDEN, rtol=2e-3)


@pytest.mark.long
@pytest.mark.parametrize("devices", [2, 4])
def test_devices_give_the_same_losses_with_synchronised_batch_norm(devices):
    one, state_one = losses_and_state(*build(1, **SYNC))
    many, state_many = losses_and_state(*build(devices, **SYNC))
    np.testing.assert_allclose(one, many, rtol=2e-3)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0.02, atol=2e-3),
        state_one.batch_stats,
        state_many.batch_stats,
    )


@pytest.mark.parametrize("devices", [2, 4])
def test_devices_give_the_same_gradients_without_batch_norm(devices):
    # One step of plain SGD at rate 1: the parameters' change is the gradient.
    sgd = {"optimizer": optax.sgd(1.0), **NO_NORM}
    (_, one), (_, many) = (losses_and_state(*build(n, **sgd), steps=1) for n in (1, devices))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), one.params, many.params
    )


def test_batch_norm_is_per_device_unless_synchronised():
    one, _ = losses_and_state(*build(1), steps=1)
    four, _ = losses_and_state(*build(4), steps=1)
    assert abs(one[0] - four[0]) > 1e-4


@pytest.mark.long
def test_pmap_gives_the_numbers_of_shard_map():
    shard_map = losses_and_state(*build(2))
    pmap = losses_and_state(*build(2, parallel="pmap"))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), shard_map, pmap
    )


def test_grouping_steps_into_calls_changes_no_bit():
    experiment, state = build(steps=6)
    call = experiment.compiled_steps(experiment.phases[0])

    def run(counts):
        current, step, found = replicate(state, experiment.mesh), 0, []
        for count in counts:
            feed = experiment.feed.steps(step, count, 6)
            current, metrics = call(current, experiment.feed.source, feed, np.int32(count))
            found.append(np.asarray(metrics["loss"])[:count])
            step += count
        return np.concatenate(found), jax.tree.map(np.asarray, current)

    jax.tree.map(np.testing.assert_array_equal, run([6]), run([1, 3, 2]))


def test_a_step_has_one_all_reduce():
    experiment, state = build(4)
    call = experiment.compiled_steps(experiment.phases[0])
    feed = experiment.feed.steps(0, 4, 4)
    lowered = call.lower(state, experiment.feed.source, feed, np.int32(4)).as_text()
    assert lowered.count("stablehlo.all_reduce") == 1


def test_neither_devices_nor_micro_batches_change_a_mask_of_dropout():
    sgd = {"optimizer": optax.sgd(0.1), "operations": (), "model": Dropped()}
    whole, _ = losses_and_state(*build(**sgd), steps=3)
    for devices, accumulate in ((1, 2), (1, 4), (2, 1), (2, 2), (4, 2)):
        split, _ = losses_and_state(*build(devices, **sgd, accumulate=accumulate), steps=3)
        np.testing.assert_allclose(whole, split, rtol=1e-5)


def test_accumulated_micro_batches_give_the_mean_gradient():
    sgd = {"optimizer": optax.sgd(1.0), "operations": (), **NO_NORM}
    _, whole = losses_and_state(*build(**sgd), steps=1)
    _, split = losses_and_state(*build(**sgd, accumulate=4), steps=1)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        whole.params,
        split.params,
    )


def test_moving_averages_follow_parameters_and_statistics():
    experiment, state = build(ema_decay=0.5)
    _, after = losses_and_state(experiment, state, steps=1)
    jax.tree.map(
        # The first step's decay is the warm-up's, (1 + 0) / (10 + 0).
        lambda old, new, ema: np.testing.assert_allclose(ema, 0.1 * old + 0.9 * new, atol=1e-6),
        (state.params, state.batch_stats),
        (after.params, after.batch_stats),
        after.ema,
    )
    assert after.evaluated["params"] is after.ema[0]


def test_a_short_run_with_a_long_average_is_not_evaluated_by_its_first_values():
    _, after = losses_and_state(*build(ema_decay=0.9999, optimizer=optax.sgd(0.1)))
    _, first = build()

    def distance(params):
        apart = jax.tree.map(lambda a, b: float(np.abs(a - b).sum()), first.params, params)
        return sum(jax.tree.leaves(apart))

    assert distance(after.ema[0]) > 0.5 * distance(after.params)


def test_the_decay_of_averages_is_warmed_up_to_what_is_asked_for():
    for step, decay in ((0, 0.1), (8, 0.5), (89_980, 89_981 / 89_990), (10**6, 0.9999)):
        assert 1.0 - float(ema_share(0.9999, step)) == pytest.approx(decay, abs=1e-6)


def test_another_seed_uses_the_compiled_step():
    experiment, state = build(seed=0)
    _, other = build(seed=1)
    call = experiment.compiled_steps(experiment.phases[0])
    feed = experiment.feed.steps(0, 4, 4)
    texts = [
        call.lower(s, experiment.feed.source, feed, np.int32(4)).as_text() for s in (state, other)
    ]
    assert texts[0] == texts[1]


def test_label_smoothing_is_the_cross_entropy_to_the_smoothed_target():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(5, 10)), jnp.float32)
    labels = jnp.arange(5)
    target = 0.9 * jax.nn.one_hot(labels, 10) + 0.01
    expected = -(target * jax.nn.log_softmax(logits)).sum(-1)
    np.testing.assert_allclose(losses.cross_entropy(logits, labels, 0.1), expected, rtol=1e-5)


def test_a_net_that_answers_all_classes_alike_gets_no_credit():
    assert float(losses.in_top(jnp.zeros((4, 10)), jnp.arange(4), 5).sum()) == 0.0


def test_a_batch_that_devices_do_not_divide_is_refused():
    with pytest.raises(UserError, match="take 128 or 132"):
        check_divisible(130, 4)
    check_divisible(128, 4)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize(
    "model",
    [
        lenet5(10),
        alexnet(10, stem="small", hidden=16),
        vgg(11, 10, hidden=16, batch_norm=True),
        googlenet(10, stem="small"),
        resnet(8, 10),
        resnet(20, 10, scan=True),
        resnet(18, 10, residual=False, dtype="bfloat16"),
    ],
    ids=lambda m: type(m).__name__,
)
def test_the_train_step_lowers_for_accelerators(model, platform):
    from deeper.models.initializers import shapes_of
    from deeper.train.state import create

    optimizer = optax.sgd(0.1)
    experiment, _ = build(model=lenet5(10))
    variables = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes_of(model, (28, 28, 1))
    )
    state = create(variables, optimizer, seed=0, keep_ema=False)
    phase = replace(experiment.phases[0], optimizer=optimizer)
    experiment = replace(experiment, model=model, phases=(phase,))
    source = {
        "image": jax.ShapeDtypeStruct((64, 28, 28, 1), jnp.uint8),
        "label": jax.ShapeDtypeStruct((64,), jnp.int32),
    }
    feed = {OWN: jax.ShapeDtypeStruct((2, 8), jnp.int32)}
    count = jax.ShapeDtypeStruct((), jnp.int32)
    exported = jax.export.export(
        experiment.compiled_steps(experiment.phases[0]), platforms=[platform]
    )(state, source, feed, count)
    assert exported.platforms == (platform,)
