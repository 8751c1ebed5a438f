"""Nets written without this package, given its calling convention.

The package calls ``net.apply(variables, inputs, train=...)``. A Linen module whose ``__call__``
takes no ``train`` argument, and an NNX module, which has a mode instead, are adapted here.
"""

import dataclasses
import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import flax.linen as nn
from flax import nnx


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


class FromNNX(nn.Module):
    """An NNX net. Its layers are not Linen modules: stages and layer tables cannot name them.

    Attributes:
        make: ``make(rngs=...)`` builds the net, such as the class with its options bound by
            ``functools.partial``.
    """

    make: Callable[..., nnx.Module]

    def setup(self) -> None:
        """Share the scope, so that variables are not nested under ``net``."""
        self.net = nnx.bridge.ToLinen(self.make)
        nn.share_scope(self, self.net)

    def __call__(self, inputs: Any, *, train: bool) -> Any:
        """Return the net's outputs, in NNX's mode for training or for inference."""

        def forward(module: Any, inputs: Any) -> Any:
            module.train() if train else module.eval()
            return module(inputs)

        return self.net(inputs, nnx_method=forward)
