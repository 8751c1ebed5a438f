"""A net cut off above one of its stages, with a new linear classifier on the stage's maps.

For "which layer transfers" (Yosinski et al. 2014, arXiv:1411.1792). A net names its stages by what
it sows: ``self.sow("intermediates", "stage1_out", x)``. Flax has no hook for `sow`, so that it is
overridden in a subclass made for the net. `of_stages` makes of any net what a detector is built on.
A truncated net runs the forward pass of the whole net
and leaves it by an exception at the stage; later layers are never created.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from deeper.kernels import cpu_dispatch
from deeper.kernels.precision import at_least_float32
from deeper.models import layers
from deeper.models.adapters import attributes
from deeper.models.example import Example, batch_of
from deeper.models.layers import Dense, Maps

HEAD = "head"


class _StageReached(Exception):  # noqa: N818 # no error: it carries the maps out of the net
    def __init__(self, maps: Maps):
        self.maps = maps


def with_stage_hook(net: nn.Module, on_stage: Callable[[str, Any], None]) -> nn.Module:
    """Return the net, calling ``on_stage(name, maps)`` at the end of each stage."""

    class Hooked(type(net)):  # type: ignore[misc] # a base known at run time
        def sow(self, col: str, name: str, value: Any, *rest: Any, **options: Any) -> bool:
            if col == "intermediates":
                on_stage(name.removesuffix("_out"), value)
            return super().sow(col, name, value, *rest, **options)

    return Hooked(**attributes(net))


def truncated(net: nn.Module, stage: str, classes: int) -> nn.Module:
    """Return a net up to a stage, the means over that stage's maps, and a dense layer on them.

    Its variables have the names that they have in the whole net; the dense layer's is ``head``.

    Args:
        net: follows the package's contract.
        stage: name of the stage, without ``_out``.
        classes: outputs.
    """

    def stop(name: str, maps: Maps) -> None:
        if name == stage:
            raise _StageReached(maps)

    class Truncated(type(with_stage_hook(net, stop))):  # type: ignore[misc]
        @nn.compact
        def __call__(self, inputs: Any, *, train: bool) -> Float[Array, "batch classes"]:
            """Return logits.

            Raises:
                ValueError: the net has no such stage.
            """
            try:
                super().__call__(inputs, train=train)
            except _StageReached as reached:
                maps = reached.maps
            else:
                raise ValueError(f"{type(net).__name__} has no stage {stage}")
            if maps.ndim > 2:
                return Dense(classes, name=HEAD)(layers.global_avg_pool(maps))
            return Dense(classes, name=HEAD)(at_least_float32(maps))

    return Truncated(**attributes(net))


def stage_names(net: nn.Module, example: Example) -> list[str]:
    """Return the names of a net's stages in the order in which they run, without computing.

    Args:
        net: follows the package's contract.
        example: shape and type of one input, see `models.example`.
    """
    names: list[str] = []
    hooked = with_stage_hook(net, lambda name, maps: names.append(name))

    def forward(inputs: Any) -> None:
        key = jax.random.key(0)
        hooked.init({"params": key, "dropout": key}, inputs, train=False)

    with cpu_dispatch.turned_off():
        jax.eval_shape(forward, batch_of(example, 1))
    return list(dict.fromkeys(names))


def of_stages(net: nn.Module, stages: Sequence[str]) -> nn.Module:
    """Return a net up to the last of some stages, whose outputs are the maps of these stages.

    Its variables have the names that they have in the whole net.

    Args:
        net: follows the package's contract.
        stages: names, without ``_out``, in the order in which they run.
    """
    wanted: dict[str, Maps] = {}

    def keep(name: str, maps: Maps) -> None:
        if name in stages:
            wanted[name] = maps
        if name == stages[-1]:
            raise _StageReached(maps)

    class OfStages(type(with_stage_hook(net, keep))):  # type: ignore[misc]
        @nn.compact
        def __call__(self, inputs: Any, *, train: bool) -> tuple[Maps, ...]:
            """Return the maps of each stage."""
            wanted.clear()
            try:
                super().__call__(inputs, train=train)
            except _StageReached:
                maps = tuple(wanted[name] for name in stages)
                wanted.clear()  # no tracer outlives its trace
                return maps
            raise ValueError(f"{type(net).__name__} has no stage {stages[-1]}")

    return OfStages(**attributes(net))


class LastLayer(nn.Module):
    """A net's last, dense layer alone, on features computed by the rest of the net.

    Attributes:
        layer: its name in the net, so that it takes the whole net's variables.
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
