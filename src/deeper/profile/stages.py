"""Which layers belong to which stage of a net, read from the order in which they run."""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax

from deeper.errors import UserError
from deeper.kernels import cpu_dispatch
from deeper.models.example import Example, batch_of
from deeper.models.feature_maps import with_stage_hook
from deeper.models.initializers import shapes_of

HIDDEN, HEAD = "hidden", "head"


@dataclass(frozen=True)
class Stages:
    """A net's layers (modules that it calls itself) by stage.

    Attributes:
        layers: stage -> layers with parameters, in the order in which they run; the layers between
            the last stage and the last layer are ``hidden``, the last is ``head``.
        noise: parameter-free layer (dropout) -> the next layer with parameters.
    """

    layers: dict[str, tuple[str, ...]]
    noise: dict[str, str]

    @property
    def names(self) -> list[str]:
        """Names of the stages above which the net can be cut off."""
        return [name for name in self.layers if name not in (HIDDEN, HEAD)]

    @property
    def head(self) -> str:
        """The last layer's name."""
        return self.layers[HEAD][-1]

    def of(self, layer: str) -> str:
        """Return the stage of a layer."""
        return next(name for name, layers in self.layers.items() if layer in layers)


def stages_of(model: nn.Module, example: Example) -> Stages:
    """Trace a net once, with shapes alone, and record when its layers run and its stages end.

    Args:
        model: the net.
        example: shape and type of one input, see `models.example`.

    Raises:
        UserError: the net calls no Linen layers that have parameters.
    """
    variables = shapes_of(model, example)
    order: list[str] = []  # of the layers
    ends: dict[str, int] = {}  # stage -> layers that ran before its end

    def record_layer(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        is_layer = isinstance(module.parent, type(model)) and context.method_name == "__call__"
        if is_layer and module.name not in order:
            order.append(module.name)
        return call(*args, **kwargs)

    def record_end(stage: str, maps: Any) -> None:
        del maps
        ends.setdefault(stage, len(order))

    hooked = with_stage_hook(model, record_end)

    def forward(variables: Any, inputs: Any) -> Any:
        key = jax.random.key(0)
        collections = ["batch_stats", "intermediates", "auxiliary"]
        return hooked.apply(
            variables, inputs, train=True, rngs={"dropout": key}, mutable=collections
        )

    with cpu_dispatch.turned_off(), nn.intercept_methods(record_layer):
        jax.eval_shape(forward, variables, batch_of(example, 2))

    with_parameters = [name for name in order if name in variables.get("params", {})]
    if not with_parameters:
        raise UserError(
            f"{type(model).__name__} calls no Flax Linen layer that has parameters, so that its "
            "stages are unknown."
        )
    return _by_stage(order, ends, with_parameters)


def _by_stage(order: list[str], ends: dict[str, int], with_parameters: list[str]) -> Stages:
    """Divide the layers at the ends of the stages."""
    noise = {}
    for place, name in enumerate(order):
        later = [other for other in order[place:] if other in with_parameters]
        if name not in with_parameters and later:
            noise[name] = later[0]
    layers: dict[str, tuple[str, ...]] = {}
    begin = 0
    for stage, end in ends.items():
        layers[stage] = tuple(name for name in order[begin:end] if name in with_parameters)
        begin = end
    rest = [name for name in order[begin:] if name in with_parameters]
    *hidden, head = rest or [with_parameters[-1]]
    if hidden:
        layers[HIDDEN] = tuple(hidden)
    return Stages(layers | {HEAD: (head,)}, noise)
