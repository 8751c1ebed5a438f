"""The training state and its initial value."""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

Tree = Any  # a nested dict of arrays


class State(flax.struct.PyTreeNode):
    """The complete state of a run, which is what a checkpoint contains.

    Attributes:
        step: int32 scalar, the number of updates made. The learning rate, the position in the
            data and every random key are functions of it.
        seed: uint32 scalar, the seed of the run. It is an argument of the compiled step rather than
            a constant, so that the compilation cache serves all seeds.
        params: float32 parameters.
        batch_stats: float32 running statistics, averaged over the devices.
        opt_state: state of the optimizer.
        ema: exponential moving averages of (params, batch_stats), or None.
    """

    step: Any
    seed: Any
    params: Tree
    batch_stats: Tree
    opt_state: optax.OptState
    ema: Tree | None

    @property
    def evaluated(self) -> dict[str, Tree]:
        """The variables that evaluation uses: the moving averages if the run has them."""
        params, batch_stats = self.ema or (self.params, self.batch_stats)
        return {"params": params, "batch_stats": batch_stats}


def create(
    variables: Mapping[str, Tree],
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    keep_ema: bool,
) -> State:
    """Return the state before the first step, as host arrays, without compiling anything.

    Args:
        variables: the params of the net and, if it has any, batch_stats.
        optimizer: the gradient transformation of the run.
        seed: the seed of the run.
        keep_ema: whether the state includes moving averages.
    """
    params = variables["params"]
    batch_stats = variables.get("batch_stats", {})
    return State(
        step=np.zeros((), np.int32),
        seed=np.asarray(seed, np.uint32),
        params=params,
        batch_stats=batch_stats,
        opt_state=initial_memory(optimizer, params),
        # Copies, since the step donates its buffers, and no array may be donated twice.
        ema=jax.tree.map(np.array, (params, batch_stats)) if keep_ema else None,
    )


def initial_memory(optimizer: optax.GradientTransformation, params: Tree) -> optax.OptState:
    """Return ``optimizer.init(params)``, computed on the CPU to avoid one compilation per leaf."""
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        return jax.tree.map(np.asarray, optimizer.init(jax.tree.map(jnp.asarray, params)))
