"""A net cut off above one of its stages, with a new linear classifier on what is left.

For "which layer transfers" (Yosinski et al. 2014, arXiv:1411.1792). Any net will do that sows its
stages: it runs its own code until the stage has spoken, so that the layers above never come to be.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from deeper.kernels.precision import at_least_float32
from deeper.models import layers
from deeper.models.adapters import attributes
from deeper.models.layers import Dense, Maps

HEAD = "head"


class _Reached(Exception):  # noqa: N818 # no error: it carries the maps out of the net
    def __init__(self, maps: Maps):
        self.maps = maps


def listening(net: nn.Module, hear: Callable[[str, Any], None]) -> nn.Module:
    """Return the net, telling of each stage's maps by name when they are there."""

    class Listening(type(net)):  # type: ignore[misc] # a base that is known when it runs
        def sow(self, col: str, name: str, value: Any, *rest: Any, **options: Any) -> bool:
            if col == "intermediates":
                hear(name.removesuffix("_out"), value)
            return super().sow(col, name, value, *rest, **options)

    return Listening(**attributes(net))


def truncated(net: nn.Module, stage: str, classes: int) -> nn.Module:
    """Return a net up to a stage, the means over that stage's maps, and a dense layer on them.

    Its variables have the names that they have in the whole net; the dense layer's is ``head``.

    Args:
        net: follows the package's contract.
        stage: what it sows is called this and ``_out``.
        classes: outputs.
    """

    def stop(name: str, maps: Maps) -> None:
        if name == stage:
            raise _Reached(maps)

    whole = type(listening(net, stop))

    class Truncated(whole):  # type: ignore[misc, valid-type]
        @nn.compact
        def __call__(self, images: Maps, *, train: bool) -> Float[Array, "batch classes"]:
            """Return logits."""
            try:
                super().__call__(images, train=train)
            except _Reached as reached:
                maps = reached.maps
            else:
                raise ValueError(f"{type(net).__name__} has no stage {stage}")
            if maps.ndim > 2:
                return Dense(classes, name=HEAD)(layers.global_avg_pool(maps))
            return Dense(classes, name=HEAD)(at_least_float32(maps))

    return Truncated(**attributes(net))


class LastLayer(nn.Module):
    """A net's last, dense layer alone, on features that the rest of the net gave.

    Attributes:
        layer: its name in the net; whatever else the variables hold is not looked at.
        classes: outputs.
    """

    layer: str
    classes: int

    @nn.compact
    def __call__(
        self, features: Float[Array, "batch features"], *, train: bool
    ) -> Float[Array, "batch classes"]:
        """Return logits."""
        del train
        return Dense(self.classes, name=self.layer)(at_least_float32(features))
