"""What a training step changes, and how it begins."""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

Tree = Any  # a nested dict of arrays


class State(flax.struct.PyTreeNode):
    """Everything that a run has to remember; a checkpoint holds exactly this.

    Attributes:
        step: int32 scalar, the number of updates made. The learning rate, the position in the
            data and every random key are functions of it.
        seed: uint32 scalar, the run's seed. It is data and no constant of the compiled step, so
            that another seed finds the step in the compilation cache.
        params: float32 parameters.
        batch_stats: float32 running statistics, averaged over the devices.
        opt_state: the optimizer's memory.
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
        """The variables that evaluation uses: the averages where the run keeps them."""
        params, batch_stats = self.ema or (self.params, self.batch_stats)
        return {"params": params, "batch_stats": batch_stats}


def create(
    variables: Mapping[str, Tree],
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    keep_ema: bool,
) -> State:
    """Return the state before the first step, as host arrays; nothing is compiled for it.

    Args:
        variables: the net's params and, if it has any, batch_stats.
        optimizer: the gradient transformation whose memory the state carries.
        seed: the run's seed.
        keep_ema: whether the state carries moving averages.
    """
    params = variables["params"]
    batch_stats = variables.get("batch_stats", {})
    return State(
        step=np.zeros((), np.int32),
        seed=np.asarray(seed, np.uint32),
        params=params,
        batch_stats=batch_stats,
        opt_state=initial_memory(optimizer, params),
        # Copies: the step's donated buffers may not be the same array twice.
        ema=jax.tree.map(np.array, (params, batch_stats)) if keep_ema else None,
    )


def initial_memory(optimizer: optax.GradientTransformation, params: Tree) -> optax.OptState:
    """Return ``optimizer.init(params)``, computed on the host without a compilation a leaf."""
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        return jax.tree.map(np.asarray, optimizer.init(jax.tree.map(jnp.asarray, params)))
