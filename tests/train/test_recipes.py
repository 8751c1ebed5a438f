"""Optimizers and schedules do what the papers say."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from deeper.errors import UserError
from deeper.train.optimizer import LARS, SGD, AdamW
from deeper.train.schedule import Constant, Cosine, Steps


def test_sgd_with_weight_decay_is_torchs():
    # torch.optim.SGD(momentum, nesterov, weight_decay), written out.
    momentum, decay, rate = 0.9, 0.01, 0.1
    optimizer = SGD(rate, momentum, True, decay, True).transformation(optax.constant_schedule(rate))
    params = {"w": jnp.ones((2, 2))}
    state, w, buffer = optimizer.init(params), np.ones((2, 2)), np.zeros((2, 2))
    for step in range(3):
        gradient = np.full((2, 2), 0.5 + step)
        updates, state = optimizer.update({"w": jnp.asarray(gradient)}, state, params)
        params = optax.apply_updates(params, updates)
        g = gradient + decay * w
        buffer = momentum * buffer + g
        w = w - rate * (g + momentum * buffer)
        np.testing.assert_allclose(params["w"], w, rtol=1e-5)


@pytest.mark.parametrize(
    "recipe",
    [
        SGD(0.1, 0.0, False, 0.5, False),
        AdamW(0.1, 0.9, 0.999, 1e-8, 0.5, False),
        LARS(0.1, 0.9, 0.001, 0.5, False),
    ],
)
def test_decay_can_leave_out_norms_and_biases(recipe):
    optimizer = recipe.transformation(optax.constant_schedule(0.1))
    params = {"kernel": jnp.ones((3, 3)), "scale": jnp.ones(3)}
    zero = {"kernel": jnp.zeros((3, 3)), "scale": jnp.zeros(3)}
    updates, _ = optimizer.update(zero, optimizer.init(params), params)
    assert float(jnp.abs(updates["scale"]).max()) == 0.0
    assert float(updates["kernel"].max()) < 0.0


def test_cosine_rises_falls_and_ends_at_zero():
    rate = Cosine(warmup=0.1).over(0.4, 100)
    assert float(rate(0)) == 0.0
    assert float(rate(5)) == pytest.approx(0.2)
    assert float(rate(10)) == pytest.approx(0.4)
    assert float(rate(55)) == pytest.approx(0.2)
    assert float(rate(100)) == pytest.approx(0.0, abs=1e-6)


def test_steps_drop_at_he_et_al_s_iterations():
    rate = Steps((0.5, 0.75), 0.1, 0.0).over(0.1, 64_000)
    for step, value in ((31_999, 0.1), (32_001, 0.01), (47_999, 0.01), (48_001, 0.001)):
        assert float(rate(step)) == pytest.approx(value, rel=1e-4)


def test_impossible_schedules_are_refused():
    with pytest.raises(UserError, match="milestones"):
        Steps((0.75, 0.5), 0.1, 0.0).over(0.1, 100)
    with pytest.raises(UserError, match="warmup"):
        Constant(warmup=1.5).over(0.1, 100)
