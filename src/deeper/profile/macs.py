"""Parameters, multiply-accumulates and training memory of a net, read from its traced program.

The net is only traced with shapes, without compilation or computation, so this works for any net,
including a user's own.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import flax.linen as nn
import jax
from jax.extend import core

from deeper.kernels import cpu_dispatch
from deeper.models.example import Example, batch_of
from deeper.models.layers import DATA_AXIS


@dataclass(frozen=True)
class Summary:
    """Totals of a net.

    Attributes:
        parameters: number of trained values.
        macs: multiply-accumulates of one example's forward pass, in convolutions and dense layers.
        count_residuals: counts `residual_bytes`.
    """

    parameters: int
    macs: int
    count_residuals: Callable[[], int] = field(repr=False, compare=False)

    @cached_property
    def residual_bytes(self) -> int:
        """Bytes of activations that one example's forward pass stores for the backward pass, with
        the formulations of `deeper.kernels`; counted when first asked for, since the backward pass
        takes longer to trace than all the rest.
        """
        return self.count_residuals()


def summarise(model: nn.Module, example: Example) -> Summary:
    """Count a net's parameters, multiply-accumulates and stored activations.

    Args:
        model: the net.
        example: shape and type of one input, see `models.example`.
    """
    inputs = batch_of(example, 1)
    rngs = {name: jax.random.key(0) for name in ("params", "dropout")}
    variables = jax.eval_shape(lambda x: model.init(rngs, x, train=False), inputs)
    variables = nn.meta.unbox(variables)
    with cpu_dispatch.turned_off():
        forward = jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False))(variables, inputs)

    return Summary(
        parameters=_trained_count(model, variables["params"]),
        macs=macs_of(forward.jaxpr),
        count_residuals=lambda: _residual_bytes(model, example, variables),
    )


def _residual_bytes(model: nn.Module, example: Example, variables: dict[str, Any]) -> int:
    """Return the bytes that one example's forward pass stores for the backward pass."""
    rest = {name: tree for name, tree in variables.items() if name != "params"}

    def residuals(params, rest, x):
        def loss(params):
            outputs, _ = model.apply(
                {"params": params, **rest},
                x,
                train=True,
                rngs={"dropout": jax.random.key(0)},
                mutable=["batch_stats", "auxiliary"],
            )
            return sum(leaf.sum() for leaf in jax.tree.leaves(outputs))

        return jax.vjp(loss, params)[1]

    # The difference leaves out what does not depend on the batch, such as kernels in another type.
    # One example would be degenerate for BatchNorm in the smallest nets; it may use the data axis.
    traced = jax.make_jaxpr(residuals, axis_env=[(DATA_AXIS, 1)])
    with cpu_dispatch.turned_on():
        two, three = (
            _kept_bytes(traced(variables["params"], rest, batch_of(example, count)).jaxpr)
            for count in (2, 3)
        )
    return three - two


def parameter_count(params: Any) -> int:
    """Return the number of values in a tree of parameters."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def _trained_count(model: nn.Module, params: Any) -> int:
    """Return the number of values that train; a net's method `fixed` names those that do not."""
    fixed = getattr(model, "fixed", None)
    return sum(
        math.prod(leaf.shape)
        for path, leaf in jax.tree.leaves_with_path(params)
        if fixed is None or not fixed(tuple(part.key for part in path))
    )


def _kept_bytes(program: core.Jaxpr) -> int:
    """Return the bytes of a program's results, but for those that repeat one number."""
    equations: list[Any] = program.eqns
    results: list[Any] = program.outvars
    repeated = {
        variable
        for equation in equations
        if equation.primitive.name == "broadcast_in_dim" and not equation.invars[0].aval.shape
        for variable in equation.outvars
    }
    kept = [v.aval for v in results if not isinstance(v, core.Literal) and v not in repeated]
    return sum(math.prod(aval.shape) * aval.dtype.itemsize for aval in kept)


def macs_of(jaxpr: core.Jaxpr) -> int:
    """Add up the multiply-accumulates of a traced program's convolutions and dot products.

    A loop counts as often as it runs; of alternatives the costliest counts.
    """
    total = 0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name in ("conv_general_dilated", "dot_general"):
            total += macs_of_equation(equation)
        elif name == "cond":
            total += max(macs_of(branch.jaxpr) for branch in equation.params["branches"])
        else:
            times = equation.params["length"] if name == "scan" else 1
            total += times * sum(macs_of(inner) for inner in inner_programs(equation))
    return total


def macs_of_equation(equation: Any) -> int:
    """Return the multiply-accumulates of a convolution or dot product."""
    convolution = equation.primitive.name == "conv_general_dilated"
    return _convolution_macs(equation) if convolution else _dot_macs(equation)


def inner_programs(equation: Any) -> list[core.Jaxpr]:
    """Return the programs inside an equation: of a custom derivative only the function itself."""
    params = equation.params
    if "call_jaxpr" in params:
        values = [params["call_jaxpr"]]
    else:
        values = list(jax.tree.leaves(list(params.values()), is_leaf=_is_jaxpr))
    return [getattr(v, "jaxpr", v) for v in values if _is_jaxpr(v)]


def _is_jaxpr(value: Any) -> bool:
    return isinstance(value, core.Jaxpr | core.ClosedJaxpr)


def _convolution_macs(equation: Any) -> int:
    """Output elements times kernel height, width and input channels of a group."""
    kernel = equation.invars[1].aval.shape
    out_channel_axis = equation.params["dimension_numbers"].rhs_spec[0]
    return math.prod(equation.outvars[0].aval.shape) * (
        math.prod(kernel) // kernel[out_channel_axis]
    )


def _dot_macs(equation: Any) -> int:
    """Output elements times the length of the contracted axes."""
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return math.prod(equation.outvars[0].aval.shape) * math.prod(left[i] for i in contracted)
