"""The layers of a net, from its traced program: geometry, cost, depth, receptive field."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend import core

from deeper.kernels import cpu_dispatch
from deeper.models.example import Example, batch_of, spatial_axes
from deeper.models.initializers import shapes_of
from deeper.profile import receptive_field
from deeper.profile.macs import inner_programs, macs_of_equation
from deeper.profile.receptive_field import Field, Known


@dataclass(frozen=True)
class Layer:
    """One layer.

    Attributes:
        name: path of the module, or of the module that calls it.
        kind: conv, dense, embedding, pool or norm.
        kernel, stride, padding: by axis, such as 3x3; padding before and after the first axis if
            they differ. Empty for kinds without them.
        output: shape for one example.
        parameters: trained values.
        macs: multiply-accumulates for one example.
        field: receptive field along the first spatial axis (rows, positions); None if the input has
            none, or the layer does not depend on it.
        depth: number of convolutions and dense layers on the longest path up to and including this
            layer.
    """

    name: str
    kind: str
    kernel: str
    stride: str
    padding: str
    output: tuple[int, ...]
    parameters: int
    macs: int
    field: Field | None
    depth: int


@cpu_dispatch.turned_off()
def layers_of(model: nn.Module, example: Example) -> list[Layer]:
    """Return a net's layers in order of execution.

    Args:
        model: the net.
        example: shape and type of one input, see `models.example`.
    """
    batch = batch_of(example, 2)  # so that an axis of length one is not mistaken for the batch
    variables = shapes_of(model, example)
    program = jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False))(variables, batch)
    walk = _Walk(_parameters(variables["params"]), type(model).__name__)
    weights = len(jax.tree.leaves(variables))
    inputs = receptive_field.of_input(spatial_axes(batch))
    walk.run(program.jaxpr, [None] * weights + [inputs], "")
    return walk.layers


def fields_and_depths(program: core.Jaxpr) -> list[tuple[dict[int, Field], int]]:
    """Return the receptive fields by axis and the depth of each output of a program.

    Args:
        program: program whose only input is a batch; variables are constants.
    """
    inputs = receptive_field.of_input(spatial_axes(program.invars[0].aval))
    outputs = _Walk({}, "").run(program, [inputs], "")
    return [({}, 0) if known is None else (dict(known.fields), known.depth) for known in outputs]


def depth_of(layers: Sequence[Layer]) -> int:
    """Return the number of layers with weights on the longest path, as counted in the papers.

    Convolutions on shortcuts are on a shorter path; BatchNorm is not counted.
    """
    return max((layer.depth for layer in layers), default=0)


def _parameters(params: Any) -> dict[str, int]:
    """Return the number of parameters of each module with own parameters."""
    counts: dict[str, int] = {}
    for path, leaf in jax.tree.leaves_with_path(params):
        name = "/".join(str(entry.key) for entry in path[:-1])
        counts[name] = counts.get(name, 0) + math.prod(leaf.shape)
    return counts


class _Walk:
    """Goes through the equations of a program and collects its layers.

    Args:
        parameters: path of a module -> number of its own parameters.
        root: class name of the net, which is in every path.
    """

    def __init__(self, parameters: dict[str, int], root: str):
        self.layers: list[Layer] = []
        self._not_met = dict(parameters)
        self._modules = set(parameters)
        self._root = root

    def run(self, jaxpr: core.Jaxpr, arguments: Sequence[Known | None], scope: str) -> list[Any]:
        """Return the fields and depths of a program's results, given those of its arguments."""
        known: dict[Any, Known | None] = dict(zip(jaxpr.invars, arguments))

        def look(variable: Any) -> Known | None:
            return None if isinstance(variable, core.Literal) else known.get(variable)

        for equation in jaxpr.eqns:
            stack = str(equation.source_info.name_stack)
            path = "/".join(part for part in (scope, stack) if part)
            operands = [look(variable) for variable in equation.invars]
            known.update(zip(equation.outvars, self._equation(equation, operands, path)))
        return [look(variable) for variable in jaxpr.outvars]

    def _equation(self, equation: Any, operands: list[Known | None], path: str) -> list[Any]:
        """Return the fields and depths of an equation's results."""
        programs = inner_programs(equation)
        if programs:
            constants = len(operands) - len(programs[0].invars)
            results = self.run(programs[0], operands[max(0, constants) :], path)
            return (results + [None] * len(equation.outvars))[: len(equation.outvars)]
        name = equation.primitive.name
        module = self._module(path)
        if name == "conv_general_dilated" and operands[0] is not None:
            return [self._convolution(equation, operands[0], module)]
        if name == "dot_general":
            return [self._dense(equation, operands, module)]
        if name.startswith("reduce_window") and operands[0] is not None:
            return [self._window(equation, operands[0], module)]
        # Elementwise operations.
        result = receptive_field.after_other(equation, operands)
        if result is not None and module in self._not_met:
            if name == "gather" and operands[0] is None:  # rows of a table, by tokens
                self._add(module, "embedding", equation, result)
            elif name != "select_n" and jnp.issubdtype(
                equation.outvars[0].aval.dtype, jnp.inexact
            ):  # a selection fills padding ahead of the layer itself
                self._add(module, "norm", equation, result)
        return [result] * len(equation.outvars)

    def _module(self, path: str) -> str:
        """Return the module of a name stack such as ``ResNet/stage1/block1/conv1``."""
        parts = [part.split("(")[-1].rstrip(")") for part in path.split("/")]
        # A method that is not a layer appears in the stack as ``block1._shortcut``.
        parts = [part for part in parts if part and part != self._root and "." not in part]
        for end in range(len(parts), 0, -1):
            for begin in range(end):
                if "/".join(parts[begin:end]) in self._modules:
                    return "/".join(parts[begin:end])
        return "/".join(parts)

    def _add(
        self,
        module: str,
        kind: str,
        equation: Any,
        known: Known,
        *,
        window: tuple[str, str, str] = ("", "", ""),
        macs: int = 0,
    ) -> None:
        """Append a layer to the table; its window is (kernel, stride, padding)."""
        fields = dict(known.fields)
        self.layers.append(
            Layer(
                module,
                kind,
                *window,
                output=tuple(equation.outvars[0].aval.shape[1:]),
                parameters=self._not_met.pop(module, 0),
                macs=macs // 2,  # the program has two examples
                field=next(iter(fields.values()), None),
                depth=known.depth,
            )
        )

    def _convolution(self, equation: Any, inputs: Known, module: str) -> Known:
        p = equation.params
        sides = [equation.invars[1].aval.shape[a] for a in p["dimension_numbers"].rhs_spec[2:]]
        window = (_joined(sides), _joined(p["window_strides"]), _padding(p["padding"]))
        known = receptive_field.after_convolution(equation, inputs)
        macs = macs_of_equation(equation)
        self._add(module, "conv", equation, known, window=window, macs=macs)
        return known

    def _dense(self, equation: Any, operands: list[Known | None], module: str) -> Known | None:
        known = receptive_field.after_dot(equation, operands)
        if known is not None:
            self._add(module, "dense", equation, known, macs=macs_of_equation(equation))
        return known

    def _window(self, equation: Any, inputs: Known, module: str) -> Known:
        p = equation.params
        size, stride, padding = p["window_dimensions"], p["window_strides"], p["padding"]
        known = receptive_field.after_window(equation, inputs)
        axes = [axis for axis, _ in known.fields if axis >= 0]
        if any(size[axis] > 1 for axis in axes):
            window = (
                _joined([size[axis] for axis in axes]),
                _joined([stride[axis] for axis in axes]),
                _padding([padding[axis] for axis in axes]),
            )
            self._add(module or "pool", "pool", equation, known, window=window)
        return known


def _joined(values: Sequence[int]) -> str:
    """Return numbers by axis, such as 3x3."""
    return "x".join(map(str, values))


def _padding(pairs: Sequence[tuple[int, int]]) -> str:
    """Return the padding of all sides, or that before and after the first axis."""
    low, high = pairs[0]
    return str(low) if all(pair == (low, low) for pair in pairs) else f"{low},{high}"
