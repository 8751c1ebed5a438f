"""Which layers belong to which stage of a net, read from the order in which they run."""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax

from deeper.errors import UserError
from deeper.kernels import cpu_dispatch
from deeper.models.example import Example, batch_of
from deeper.models.feature_maps import listening
from deeper.models.initializers import shapes_of

HIDDEN, HEAD = "hidden", "head"


@dataclass(frozen=True)
class Stages:
    """A net's layers (modules that it calls itself) by stage.

    Attributes:
        layers: stage -> layers with parameters, from the image on; the layers between the last
            stage and the last layer are ``hidden``, the last is ``head``.
        noise: a layer without parameters -> the layer with parameters that it stands in front of.
    """

    layers: dict[str, tuple[str, ...]]
    noise: dict[str, str]

    @property
    def names(self) -> list[str]:
        """Return the stages that a net can be cut off above."""
        return [name for name in self.layers if name not in (HIDDEN, HEAD)]

    @property
    def head(self) -> str:
        """Return the last layer's name."""
        return self.layers[HEAD][-1]

    def of(self, layer: str) -> str:
        """Return the stage of a layer."""
        return next(name for name, layers in self.layers.items() if layer in layers)


def stages_of(model: nn.Module, example: Example) -> Stages:
    """Trace a net once with shapes and note in which order its layers run and its stages end.

    Args:
        model: the net.
        example: shape and type of one input, see `models.example`.

    Raises:
        UserError: the net calls no Linen layers that have parameters.
    """
    variables = shapes_of(model, example)
    order: list[str] = []
    ends: dict[str, int] = {}

    def note(next_function: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        called = isinstance(module.parent, type(model)) and context.method_name == "__call__"
        if called and module.name not in order:
            order.append(module.name)
        return next_function(*args, **kwargs)

    def note_end(stage: str, maps: Any) -> None:
        del maps
        ends.setdefault(stage, len(order))

    heard = listening(model, note_end)

    def forward(variables: Any, inputs: Any) -> Any:
        key = jax.random.key(0)
        collections = ["batch_stats", "intermediates", "auxiliary"]
        return heard.apply(
            variables, inputs, train=True, rngs={"dropout": key}, mutable=collections
        )

    with cpu_dispatch.turned_off(), nn.intercept_methods(note):
        jax.eval_shape(forward, variables, batch_of(example, 2))

    with_parameters = [name for name in order if name in variables.get("params", {})]
    if not with_parameters:
        raise UserError(
            f"{type(model).__name__} calls no Flax Linen layer that has parameters, so that its "
            "stages are unknown."
        )
    noise = {}
    for place, name in enumerate(order):
        after = [other for other in order[place:] if other in with_parameters]
        if name not in with_parameters and after:
            noise[name] = after[0]
    found: dict[str, tuple[str, ...]] = {}
    begin = 0
    for stage, end in ends.items():
        found[stage] = tuple(name for name in order[begin:end] if name in with_parameters)
        begin = end
    rest = [name for name in order[begin:] if name in with_parameters]
    *hidden, head = rest or [with_parameters[-1]]
    if hidden:
        found[HIDDEN] = tuple(hidden)
    return Stages(found | {HEAD: (head,)}, noise)
