"""Optimizers and schedules do what the papers say."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from deeper.errors import UserError
from deeper.train.losses import binary_cross_entropy, loss_of
from deeper.train.optimizer import LAMB, LARS, SGD, AdamW
from deeper.train.schedule import Constant, Cosine, Staircase, Steps


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
        LAMB(0.1, 0.9, 0.999, 1e-6, 0.5, False),
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


def test_lamb_is_the_papers_algorithm():
    # You et al. 2019, algorithm 2, in numpy; what does not decay is not adapted.
    rate, b1, b2, eps, decay = 0.1, 0.9, 0.999, 1e-6, 0.02
    optimizer = LAMB(rate, b1, b2, eps, decay, False).transformation(optax.constant_schedule(rate))
    rng = np.random.default_rng(0)
    own = {"kernel": rng.normal(size=(3, 4)), "bias": rng.normal(size=4)}
    params = {name: jnp.asarray(leaf, jnp.float32) for name, leaf in own.items()}
    state = optimizer.init(params)
    m = {name: np.zeros_like(leaf) for name, leaf in own.items()}
    v = {name: np.zeros_like(leaf) for name, leaf in own.items()}
    for step in range(1, 4):
        grads = {name: rng.normal(size=leaf.shape) for name, leaf in own.items()}
        given = {name: jnp.asarray(leaf, jnp.float32) for name, leaf in grads.items()}
        updates, state = optimizer.update(given, state, params)
        params = optax.apply_updates(params, updates)
        for name, g in grads.items():
            m[name] = b1 * m[name] + (1 - b1) * g
            v[name] = b2 * v[name] + (1 - b2) * g * g
            u = (m[name] / (1 - b1**step)) / (np.sqrt(v[name] / (1 - b2**step)) + eps)
            if name == "kernel":
                u = u + decay * own[name]
                u = u * np.linalg.norm(own[name]) / np.linalg.norm(u)
            own[name] = own[name] - rate * u
            np.testing.assert_allclose(params[name], own[name], rtol=2e-5, atol=1e-6)


def test_binary_cross_entropy_asks_for_each_class_by_itself():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 5)) * 3
    labels = np.array([0, 3, 4, 1])
    p = 1 / (1 + np.exp(-logits))

    def expected(shares):
        return -(shares * np.log(p) + (1 - shares) * np.log(1 - p)).mean(axis=1)

    one_hot = np.eye(5)[labels]
    given = jnp.asarray(logits, jnp.float32)
    found = binary_cross_entropy(given, jnp.asarray(labels), 0.1)
    np.testing.assert_allclose(found, expected(0.9 * one_hot + 0.02), rtol=1e-5)
    mixed = 0.7 * one_hot + 0.3 * one_hot[::-1]
    found = binary_cross_entropy(given, jnp.asarray(mixed, jnp.float32))
    np.testing.assert_allclose(found, expected(mixed), rtol=1e-5)
    both = loss_of("binary_cross_entropy", 0.0, 0.2)(given, jnp.asarray(mixed, jnp.float32))
    np.testing.assert_allclose(both, expected((mixed > 0.2).astype(float)), rtol=1e-5)
    assert (np.asarray(mixed > 0.2).sum(axis=1) == 2).all()  # two classes are asked for


def test_an_unknown_loss_and_a_threshold_without_use_are_refused():
    with pytest.raises(UserError, match="cross_entropy or binary_cross_entropy"):
        loss_of("hinge", 0.0, None)
    with pytest.raises(UserError, match="target_threshold"):
        loss_of("cross_entropy", 0.0, 0.2)


def test_a_staircase_falls_by_four_per_cent_every_eight_epochs():
    rate = Staircase(0.032, 0.96, 0.0).over(0.01, 250_000)
    for epoch in (0, 7.99, 8, 16, 249):
        assert float(rate(round(epoch * 1000))) == pytest.approx(0.01 * 0.96 ** (epoch // 8))
