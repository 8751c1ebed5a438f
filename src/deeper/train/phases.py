"""Phases of a run: which layers train in each, for how long, at which rate.

A frozen layer does not change: its parameters, running statistics and the moving averages of both
stay the same to the bit. It runs with train=False, and no gradient is computed for its parameters.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import optax

Tree = Any

# Arguments of a layer's call that select inference; stock Flax layers have attributes of the same
# names.
INFERENCE = {"train": False, "use_running_average": True, "deterministic": True}


@dataclass(frozen=True)
class Phase:
    """A part of a run in which the same layers train.

    Each phase starts with a new optimizer state, and its schedule counts from the first step of the
    phase.

    Attributes:
        begins: its first step.
        ends: the first step after it.
        optimizer: mean gradients -> updates.
        learning_rate: the schedule inside it, for the record; of steps since ``begins``.
        multipliers: layer (first name in ``params``) -> factor of its updates; 0 freezes it. A
            layer that is not named trains at the full rate.
        quiet: layers that run with train=False: the frozen ones, and dropout in front of them.
        fixed: whether a parameter, by its path, never trains, in any phase: a net with a method
            `fixed` says so. No gradient is computed for it; how its layer runs is the net's matter.
    """

    begins: int
    ends: int
    optimizer: optax.GradientTransformation
    learning_rate: optax.Schedule
    multipliers: Mapping[str, float] = field(default_factory=dict)
    quiet: frozenset[str] = frozenset()
    fixed: Callable[[tuple[str, ...]], bool] | None = None

    def frozen(self, layer: str) -> bool:
        """Return whether a layer is frozen."""
        return self.multipliers.get(layer, 1.0) == 0.0

    def apply_of(self, model: nn.Module) -> Callable[..., Any]:
        """Return the net's ``apply`` for training, with quiet layers in inference mode.

        Calls of layers are intercepted, since a net passes the same ``train`` to all of its layers.
        """
        if not self.quiet:
            if self.fixed is None:
                return model.apply

            def apply_to_free(variables: Mapping[str, Tree], *args: Any, **options: Any) -> Any:
                params = self._without_gradients(variables["params"])
                return model.apply({**variables, "params": params}, *args, **options)

            return apply_to_free

        def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            module = context.module
            # `quiet` has names of top-level layers, not of layers inside them.
            is_layer = isinstance(module.parent, type(model)) and context.method_name == "__call__"
            if is_layer and module.name in self.quiet:
                args, kwargs = _for_inference(module, args, kwargs)
            return call(*args, **kwargs)

        def apply(variables: Mapping[str, Tree], *args: Any, **options: Any) -> Any:
            params = {
                name: jax.lax.stop_gradient(tree) if self.frozen(name) else tree
                for name, tree in self._without_gradients(variables["params"]).items()
            }
            with nn.intercept_methods(intercept):
                return model.apply({**variables, "params": params}, *args, **options)

        return apply

    def _without_gradients(self, params: Tree) -> Tree:
        """Return parameters, through which no gradient goes where they are fixed."""
        return self._where_fixed(jax.lax.stop_gradient, params)

    def _where_fixed(self, change: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
        """Return a tree with ``change(leaf, *others)`` in place of leaves that are fixed."""
        fixed = self.fixed
        if fixed is None:
            return tree

        def changed(path: Any, leaf: Any, *given: Any) -> Any:
            return change(leaf, *given) if fixed(tuple(part.key for part in path)) else leaf

        return jax.tree.map_with_path(changed, tree, *others)

    def scaled(self, updates: Tree) -> Tree:
        """Return the optimizer's updates, multiplied by the factor of each layer."""
        if not self.multipliers:
            return updates
        return {
            name: optax.tree_utils.tree_scale(self.multipliers.get(name, 1.0), tree)
            for name, tree in updates.items()
        }

    def keeping(self, new: Tree, old: Tree) -> Tree:
        """Return a tree by layer, with the old leaves for frozen layers and fixed parameters."""
        new = self._where_fixed(lambda _, before: before, new, old)
        if not self.multipliers:
            return new
        return {name: old[name] if self.frozen(name) else tree for name, tree in new.items()}


def _for_inference(module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Return arguments that run a layer in inference mode.

    A stock Flax layer with its mode as an attribute is modified; the instance exists for one trace.
    """
    bound = inspect.signature(type(module).__call__).bind(module, *args, **kwargs)
    for name, value in INFERENCE.items():
        if bound.arguments.get(name) is not None:
            bound.arguments[name] = value
        elif getattr(module, name, None) is not None:
            object.__setattr__(module, name, value)
    return bound.args[1:], bound.kwargs
