"""Linen nets written without this package, given its calling convention.

The package calls ``net.apply(variables, inputs, train=...)``. A Linen module whose ``__call__``
takes no ``train`` argument is adapted here; an NNX module in `from_nnx`.
"""

import dataclasses
import inspect
from functools import cache
from typing import Any

import flax.linen as nn


def adapted(net: nn.Module) -> nn.Module:
    """Return a Linen net that takes ``train``: one that does is returned as it is.

    The net's variables keep their names.
    """
    kind: Any = type(net)
    parameters = inspect.signature(kind.__call__).parameters.values()
    if any(p.name == "train" or p.kind is p.VAR_KEYWORD for p in parameters):
        return net
    adapter: nn.Module = _ignoring_train(kind)(**attributes(net))
    return adapter


@cache
def _ignoring_train(kind: Any) -> Any:
    class IgnoringTrain(kind):
        def __call__(self, inputs: Any, *, train: bool) -> Any:
            """Return the net's outputs."""
            del train
            return super().__call__(inputs)

    IgnoringTrain.__name__ = kind.__name__  # as messages and layer tables call it
    return IgnoringTrain


def attributes(net: nn.Module) -> dict[str, Any]:
    """Return the attributes with which a Linen module was made."""
    fields = (field.name for field in dataclasses.fields(net) if field.init)
    return {name: getattr(net, name) for name in fields if name not in ("parent", "name")}
