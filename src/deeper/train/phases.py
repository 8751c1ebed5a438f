"""Phases of a run: what trains in each, for how long, at which rate.

A frozen layer stays as it is to the last bit: its parameters, its running statistics and the
averages of both. Inside it the net runs as in inference, and no gradient is worked out for it.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import optax

Tree = Any


@dataclass(frozen=True)
class Phase:
    """A stretch of a run in which the same layers train.

    The optimizer's memory begins anew with each phase, and its schedule counts from the phase's
    first step.

    Attributes:
        begins: its first step.
        ends: the first step after it.
        optimizer: mean gradients -> updates.
        learning_rate: the schedule inside it, for the record; of steps since ``begins``.
        multipliers: layer (first name in ``params``) -> factor of its updates; 0 freezes it. A
            layer that is not named trains at the full rate.
        quiet: layers that run as in inference: the frozen ones, and dropout in front of them.
    """

    begins: int
    ends: int
    optimizer: optax.GradientTransformation
    learning_rate: optax.Schedule
    multipliers: Mapping[str, float] = field(default_factory=dict)
    quiet: frozenset[str] = frozenset()

    def frozen(self, layer: str) -> bool:
        """Tell whether a layer stays as it is."""
        return self.multipliers.get(layer, 1.0) == 0.0

    def apply_of(self, model: nn.Module) -> Callable[..., Any]:
        """Return the net's ``apply`` for training, its quiet layers as in inference."""
        if not self.quiet:
            return model.apply

        def in_inference(next_function: Any, args: Any, kwargs: Any, context: Any) -> Any:
            module = context.module
            own = isinstance(module.parent, type(model)) and module.name in self.quiet
            if not own or context.method_name != "__call__":
                return next_function(*args, **kwargs)
            given = inspect.signature(type(module).__call__).bind(module, *args, **kwargs)
            if "train" in given.arguments:
                given.arguments["train"] = False
            return next_function(*given.args[1:], **given.kwargs)

        def apply(variables: Mapping[str, Tree], *args: Any, **options: Any) -> Any:
            params = {
                name: jax.lax.stop_gradient(tree) if self.frozen(name) else tree
                for name, tree in variables["params"].items()
            }
            with nn.intercept_methods(in_inference):
                return model.apply({**variables, "params": params}, *args, **options)

        return apply

    def scaled(self, updates: Tree) -> Tree:
        """Return the optimizer's updates, each layer's by its factor."""
        if not self.multipliers:
            return updates
        return {
            name: optax.tree_utils.tree_scale(self.multipliers.get(name, 1.0), tree)
            for name, tree in updates.items()
        }

    def keeping(self, new: Tree, old: Tree) -> Tree:
        """Return a tree by layer, the frozen layers' leaves the old ones."""
        if not self.multipliers:
            return new
        return {name: old[name] if self.frozen(name) else tree for name, tree in new.items()}
