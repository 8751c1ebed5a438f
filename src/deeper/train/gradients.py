"""The gradients of a training batch, apart from training: nothing of a run depends on them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Int

from deeper.train.phases import Phase
from deeper.train.state import State
from deeper.train.step import Step

# In place of an optimizer: changes nothing, and keeps the gradients that it is given.
_KEEP = optax.GradientTransformation(
    init=lambda params: (),
    update=lambda grads, _, params=None: (jax.tree.map(jnp.zeros_like, grads), grads),
)


def without_update(phase: Phase) -> Phase:
    """Return a phase whose step makes no update, for `gradients_by`."""
    return replace(phase, optimizer=_KEEP)


def gradients_by(
    step: Step, take: Callable[[Any, Any], Any]
) -> Callable[[State, Any, Any, Int[jax.Array, ""]], Any]:
    """Return a function that computes the mean gradients of one batch over all devices.

    Args:
        step: from `make_step`, of a phase `without_update`.
        take: (source, one step's feed) -> batch; of the training feed.

    Returns:
        A function of (state, source, feed, number): the gradients of batch ``number`` in a feed of
        several steps, a tree like the parameters. The state may lack ``opt_state``.
    """

    def call(state, source, feed, number):
        batch = take(source, jax.tree.map(lambda leaf: leaf[number], feed))
        return step(state, batch)[0].opt_state

    return call
