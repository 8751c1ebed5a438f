"""One step of training: a pure function of one device's share of a batch.

The step is ``(state, batch) -> (state, metrics)`` and knows only the name of the data axis.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, Key

from deeper.errors import UserError
from deeper.rows import BY_ROW, numbered_rows
from deeper.train import data_parallel
from deeper.train.phases import Phase
from deeper.train.state import State

if TYPE_CHECKING:
    from deeper.tasks.task import Batch, Task

Metrics = dict[str, jax.Array]  # float32 scalars
Step = Callable[[State, Any], tuple[State, Metrics]]

# Purpose of a random key. A number, once given, is never given to anything else: 0, 2, 3, 4 are in
# `deeper.tasks`, and those from 100 on are for tasks of users' own.
DROPOUT = 1

# Szegedy et al. 2014, section 5: the auxiliary heads' losses count 0.3 in training.
AUXILIARY_WEIGHT = 0.3


def make_step(
    model: nn.Module,
    phase: Phase,
    task: "Task",
    *,
    steps: int,
    accumulate: int,
    ema_decay: float | None,
) -> Step:
    """Return the step for a net, a phase and a task.

    Args:
        model: the net; in training it may sow outputs of auxiliary heads into ``auxiliary``.
        phase: what of it trains, and the optimizer.
        task: what is learned.
        steps: length of the run.
        accumulate: number of micro-batches that this device's examples are worked off in.
        ema_decay: decay a step of the moving averages, see `ema_share`, or None where the run
            keeps none.

    Returns:
        The step. Its metrics are the task's, means over the global batch. Tracing it raises a
        UserError where the task returns no ``loss`` among them.
    """
    apply = phase.apply_of(model)

    def loss_of(params, batch_stats, given, progress, rngs):
        inputs, targets, rows = given
        with numbered_rows(rows):
            outputs, updated = apply(
                {"params": params, "batch_stats": batch_stats},
                inputs,
                train=True,
                rngs=rngs,
                mutable=["batch_stats", "auxiliary"],
            )
        total, metrics = task.loss(outputs, targets, progress)
        if "loss" not in metrics:
            raise UserError(
                f"The task's loss() returns {', '.join(metrics) or 'no metrics'}; it needs to "
                'return "loss" among them.'
            )
        for head in jax.tree.leaves(updated.get("auxiliary", {})):
            total += AUXILIARY_WEIGHT * task.loss(head, targets, progress)[0]
        return total, (updated.get("batch_stats", {}), metrics)

    gradient_of = jax.grad(loss_of, has_aux=True)

    def gradients(state: State, batch_stats, batch, rows, rngs):
        def keys(purpose: int) -> Key[Array, ""]:
            return random_key(state, purpose)

        given = task.inputs(keys, rows, batch, train=True)
        grads, (batch_stats, metrics) = gradient_of(
            state.params, batch_stats, given, state.step / steps, rngs
        )
        return grads, batch_stats, metrics

    def accumulated(state: State, batch, rows, dropout_key):
        def one(carry, micro):
            total, batch_stats = carry
            number, batch, rows = micro
            # Our dropout goes by the row alone; flax's own has a mask a micro-batch.
            rngs = {"dropout": jax.random.fold_in(dropout_key, number), BY_ROW: dropout_key}
            grads, batch_stats, metrics = gradients(state, batch_stats, batch, rows, rngs)
            return (jax.tree.map(jnp.add, total, grads), batch_stats), metrics

        def split(leaf):
            return leaf.reshape(accumulate, -1, *leaf.shape[1:])

        zeros = jax.tree.map(jnp.zeros_like, state.params)
        micro = (jnp.arange(accumulate), jax.tree.map(split, batch), split(rows))
        (total, batch_stats), metrics = jax.lax.scan(one, (zeros, state.batch_stats), micro)
        grads = jax.tree.map(lambda leaf: leaf / accumulate, total)
        return grads, batch_stats, jax.tree.map(jnp.mean, metrics)

    def step(state: State, batch: "Batch") -> tuple[State, Metrics]:
        count = len(batch["mask"])
        rows = data_parallel.first_row(count) + jnp.arange(count)
        dropout_key = random_key(state, DROPOUT)
        if accumulate == 1:
            grads, batch_stats, metrics = gradients(
                state, state.batch_stats, batch, rows, {"dropout": dropout_key}
            )
        else:
            grads, batch_stats, metrics = accumulated(state, batch, rows, dropout_key)
        return updated(state, grads, batch_stats, metrics, phase, ema_decay)

    return step


def updated(
    state: State,
    grads: Any,
    batch_stats: Any,
    metrics: Metrics,
    phase: Phase,
    ema_decay: float | None,
) -> tuple[State, Metrics]:
    """Return the state after one update by the mean of all devices' gradients, and mean metrics."""
    # All that a step exchanges. Running statistics are linear in the batches' statistics,
    # so their mean over devices, taken at every step, is what averaging at the end gives.
    grads, batch_stats, metrics = data_parallel.mean_over_devices((grads, batch_stats, metrics))
    updates, opt_state = phase.optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, phase.scaled(updates))
    params = phase.keeping(params, state.params)
    batch_stats = phase.keeping(batch_stats, state.batch_stats)
    ema = state.ema
    if ema is not None and ema_decay is not None:
        share = ema_share(ema_decay, state.step)
        averages = optax.incremental_update((params, batch_stats), ema, share)
        ema = tuple(phase.keeping(new, old) for new, old in zip(averages, ema, strict=True))
    return state.replace(
        step=state.step + 1,
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        ema=ema,
    ), metrics


def ema_share(decay: float, step: Any) -> Any:
    """Return the share of the new values in the moving averages after a step, counted from 0.

    The decay is warmed up as TensorFlow's ExponentialMovingAverage does with ``num_updates``:
    min(decay, (1 + step) / (10 + step)), or in a short run the averages would be of the first
    values most of all.
    """
    return jnp.maximum(1.0 - decay, 9.0 / (10.0 + step))


def random_key(state: State, purpose: int) -> Key[Array, ""]:
    """Return the key of (seed, purpose, step); the caller folds in the example's row."""
    key = jax.random.fold_in(jax.random.key(state.seed), purpose)
    return jax.random.fold_in(key, state.step)


def many_steps(
    step: Step, take: Callable[[Any, Any], Any]
) -> Callable[[State, Any, Any, Int[Array, ""]], tuple[State, Metrics]]:
    """Put many steps under one compiled loop, so that a small net never waits for Python.

    The number of steps is an argument, not a shape: a run that is cut at any step goes on with
    the very program it was cut in, and so with the same bits.

    Args:
        step: from `make_step`.
        take: (source, one step's feed) -> batch; gathers from data on the device.

    Returns:
        A function of (state, source, feed, count). Each leaf of feed is (capacity, rows, ...), of
        which the first ``count`` are trained on; each metric comes back as (capacity,).
    """

    def call(state, source, feed, count):
        def batch_of(number):
            return take(source, jax.tree.map(lambda leaf: leaf[number], feed))

        def body(number, carry):
            state, log = carry
            state, new = step(state, batch_of(number))
            log = jax.tree.map(lambda all_, one: all_.at[number].set(one), log, new)
            return state, log

        capacity = len(jax.tree.leaves(feed)[0])
        _, metrics = jax.eval_shape(lambda: step(state, batch_of(0)))
        log = {name: jnp.zeros(capacity) for name in metrics}
        return jax.lax.fori_loop(0, count, body, (state, log))

    return call
