"""NNX nets, given the calling convention of Linen ones. NNX takes a second to import."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
from flax import nnx


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
