"""A net layer by layer, read from its traced program: geometry, cost and receptive field.

The receptive field of a unit is the part of the image that it can see. Along one axis the unit at
place i of a map sees the pixels ``first + i * jump`` to ``last + i * jump``, and

    convolution or pooling   first' = first - padding * jump
                             last'  = last + (dilation * (kernel - 1) - padding) * jump
                             jump'  = stride * jump

(Araujo, Norris and Sim 2019, "Computing receptive fields of convolutional neural networks"). Where
paths meet, the union counts, which is the largest path. What lies beyond the image is padding.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend import core

from deeper.kernels import cpu_dispatch
from deeper.models.initializers import shapes_of
from deeper.profile.macs import inner_programs, macs_of_equation


@dataclass(frozen=True)
class Field:
    """What a map's places see along one axis of the image.

    Attributes:
        first: first pixel that place 0 sees; negative in the padding.
        last: last pixel that place 0 sees.
        jump: pixels from one place to the next; 0 where there is one place, which sees all.
    """

    first: float
    last: float
    jump: float

    @property
    def size(self) -> int:
        """Pixels that a place sees."""
        return round(self.last - self.first) + 1

    @property
    def centre(self) -> float:
        """Middle of what place 0 sees, in pixels; 0 is the middle of the first pixel."""
        return (self.first + self.last) / 2

    def under(self, kernel: int, stride: int, padding: int, dilation: int = 1) -> "Field":
        """Return the field of what a window over this map sees."""
        return Field(
            self.first - padding * self.jump,
            self.last + (dilation * (kernel - 1) - padding) * self.jump,
            self.jump * stride,
        )

    def joined(self, other: "Field") -> "Field":
        """Return the union, where two paths meet."""
        return Field(
            min(self.first, other.first), max(self.last, other.last), max(self.jump, other.jump)
        )

    def whole(self, places: int) -> "Field":
        """Return what all places of a map see together."""
        return Field(self.first, self.last + (places - 1) * self.jump, 0.0)


@dataclass(frozen=True)
class Layer:
    """One layer.

    Attributes:
        name: path of the module, or of the one that it is called in.
        kind: conv, dense, pool or norm.
        kernel, stride, padding: rows x columns; padding is what lies before and after the rows,
            where they differ. Empty where the kind has none.
        output: shape for one image.
        parameters: trained values.
        macs: multiply-accumulates for one image.
        field: along the rows; None where the layer does not see the image.
        depth: layers with weights on the longest path up to here, this one included.
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


@dataclass(frozen=True)
class _Seen:
    """What is known of an array: fields by axis of the array, and the depth so far."""

    fields: tuple[tuple[int, Field], ...]
    depth: int


@cpu_dispatch.turned_off()
def layers_of(model: nn.Module, image_shape: Sequence[int]) -> list[Layer]:
    """Return a net's layers in the order in which they compute.

    Args:
        model: the net.
        image_shape: (height, width, channels).
    """
    # Two images, so that an axis of length one is never taken for the batch.
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
    variables = shapes_of(model, (image_shape[0], image_shape[1], image_shape[2]))
    program = jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False))(variables, images)
    walk = _Walk(_parameters(variables["params"]), type(model).__name__)
    weights = len(jax.tree.leaves(variables))
    start = Field(0, 0, 1)
    seen = [None] * weights + [_Seen(((1, start), (2, start)), 0)]
    walk.run(program.jaxpr, seen, "")
    return walk.layers


def seen_by_outputs(program: core.Jaxpr) -> list[tuple[dict[int, Field], int]]:
    """Return, of each of a program's outputs, its fields by axis, and its depth.

    Args:
        program: of images alone, (batch, height, width, channels).
    """
    start = Field(0, 0, 1)
    seen = _Walk({}, "").run(program, [_Seen(((1, start), (2, start)), 0)], "")
    return [({}, 0) if one is None else (dict(one.fields), one.depth) for one in seen]


def depth_of(layers: Sequence[Layer]) -> int:
    """Return the layers with weights on the longest path, which is how the papers count.

    Convolutions on shortcuts lie on a shorter path, BatchNorm is not counted.
    """
    return max((layer.depth for layer in layers), default=0)


def _parameters(params: Any) -> dict[str, int]:
    """Return the trained values of each module that has some of its own."""
    counts: dict[str, int] = {}
    for path, leaf in jax.tree.leaves_with_path(params):
        name = "/".join(str(entry.key) for entry in path[:-1])
        counts[name] = counts.get(name, 0) + math.prod(leaf.shape)
    return counts


class _Walk:
    """Goes through a program, equation by equation."""

    def __init__(self, parameters: dict[str, int], root: str):
        self.layers: list[Layer] = []
        self._left = dict(parameters)  # of modules not met yet
        self._known = set(parameters)
        self._root = root

    def run(self, jaxpr: core.Jaxpr, seen: list[_Seen | None], scope: str) -> list[_Seen | None]:
        """Return what is known of the program's results, given what is known of its arguments."""
        known: dict[Any, _Seen | None] = dict(zip(jaxpr.invars, seen))

        def look(variable: Any) -> _Seen | None:
            return None if isinstance(variable, core.Literal) else known.get(variable)

        for equation in jaxpr.eqns:
            stack = str(equation.source_info.name_stack)
            path = "/".join(part for part in (scope, stack) if part)
            given = [look(variable) for variable in equation.invars]
            results = self._equation(equation, given, path)
            known.update(zip(equation.outvars, results))
        return [look(variable) for variable in jaxpr.outvars]

    def _equation(self, equation: Any, given: list[_Seen | None], path: str) -> list[_Seen | None]:
        programs = inner_programs(equation)
        if programs:
            consts = len(given) - len(programs[0].invars)
            outs = self.run(programs[0], given[max(0, consts) :], path)
            return (outs + [None] * len(equation.outvars))[: len(equation.outvars)]
        name = equation.primitive.name
        module = self._module(path)
        if name == "conv_general_dilated" and given[0] is not None:
            return [self._convolution(equation, given[0], module)]
        if name == "dot_general":
            return [self._dense(equation, given, module)]
        if name.startswith("reduce_window") and given[0] is not None:
            return [self._window(equation, given[0], module)]
        # Elementwise arithmetic and the like. A module with parameters of its own: a norm.
        result = _carried(equation, given)
        if module in self._left and result is not None:
            self._add(module, "norm", equation, result)
        return [result] * len(equation.outvars)

    def _module(self, path: str) -> str:
        """Return the module of a name stack such as ``ResNet/stage1/block1/conv1``."""
        parts = [part.split("(")[-1].rstrip(")") for part in path.split("/")]
        # A method that is no layer of its own is in the stack as ``block1._shortcut``.
        parts = [part for part in parts if part and part != self._root and "." not in part]
        for end in range(len(parts), 0, -1):
            for begin in range(end):
                if "/".join(parts[begin:end]) in self._known:
                    return "/".join(parts[begin:end])
        return "/".join(parts)

    def _add(
        self,
        module: str,
        kind: str,
        equation: Any,
        seen: _Seen,
        kernel: str = "",
        stride: str = "",
        padding: str = "",
        macs: int = 0,
    ) -> None:
        fields = dict(seen.fields)
        self.layers.append(
            Layer(
                name=module,
                kind=kind,
                kernel=kernel,
                stride=stride,
                padding=padding,
                output=tuple(equation.outvars[0].aval.shape[1:]),
                parameters=self._left.pop(module, 0),
                macs=macs // 2,  # two images
                field=next(iter(fields.values()), None),
                depth=seen.depth,
            )
        )

    def _convolution(self, equation: Any, given: _Seen, module: str) -> _Seen:
        p = equation.params
        numbers = p["dimension_numbers"]
        kernel = [equation.invars[1].aval.shape[axis] for axis in numbers.rhs_spec[2:]]
        fields = dict(given.fields)
        result = []
        for i, axis in enumerate(numbers.lhs_spec[2:]):
            # An axis that was averaged away and came back has one place, which sees all.
            field, spread = fields.get(axis) or _joined([given])[0][1], p["lhs_dilation"][i]
            field = replace(field, jump=field.jump / spread)
            window = (kernel[i], p["window_strides"][i], p["padding"][i][0], p["rhs_dilation"][i])
            result.append((numbers.out_spec[2 + i], field.under(*window)))
        seen = _Seen(tuple(result), given.depth + 1)
        shown = (_pair(kernel), _pair(p["window_strides"]), _padding(p["padding"]))
        self._add(module, "conv", equation, seen, *shown, macs=macs_of_equation(equation))
        return seen

    def _dense(self, equation: Any, given: list[_Seen | None], module: str) -> _Seen | None:
        met = [seen for seen in given if seen is not None]
        if not met:
            return None
        field = _joined(seen for seen in met)
        seen = _Seen(field, max(s.depth for s in met) + 1)
        self._add(module, "dense", equation, seen, macs=macs_of_equation(equation))
        return seen

    def _window(self, equation: Any, given: _Seen, module: str) -> _Seen:
        p = equation.params
        size, stride = p["window_dimensions"], p["window_strides"]
        fields = tuple(
            (axis, field.under(size[axis], stride[axis], p["padding"][axis][0]))
            for axis, field in given.fields
        )
        seen = replace(given, fields=fields)
        spatial = [axis for axis, _ in fields]
        if any(size[axis] > 1 for axis in spatial):
            shown = (
                _pair([size[a] for a in spatial]),
                _pair([stride[a] for a in spatial]),
                _padding([p["padding"][a] for a in spatial]),
            )
            self._add(module or "pool", "pool", equation, seen, *shown)
        return seen


def _joined(seen: Any) -> tuple[tuple[int, Field], ...]:
    """Return the union of all fields, for an array that has lost its axes."""
    fields = [field for one in seen for _, field in one.fields]
    if not fields:
        return ()
    union = fields[0]
    for field in fields[1:]:
        union = union.joined(field)
    return ((-1, union),)


def _carried(equation: Any, given: list[_Seen | None]) -> _Seen | None:
    """Return what an equation without weights lets through."""
    met = [(variable, seen) for variable, seen in zip(equation.invars, given) if seen is not None]
    if not met:
        return None
    depth = max(seen.depth for _, seen in met)
    parts = [_moved(equation, variable.aval.shape, seen) for variable, seen in met]
    fields: dict[int, Field] = {}
    for part in parts:
        for axis, field in part:
            fields[axis] = fields[axis].joined(field) if axis in fields else field
    if equation.primitive.name == "concatenate":
        axis = equation.params["dimension"]
        along = [dict(part)[axis] for part in parts if axis in dict(part)]
        if len(along) > 1:  # cells of a map, side by side
            fields[axis] = replace(along[0], jump=along[1].first - along[0].first)
    return _Seen(tuple(sorted(fields.items())), depth)


def _moved(equation: Any, shape: tuple[int, ...], seen: _Seen) -> list[tuple[int, Field]]:
    """Return one operand's fields by axis of the result."""
    p, name = equation.params, equation.primitive.name
    out = equation.outvars[0].aval.shape
    moved = []
    for axis, field in seen.fields:
        if axis < 0:
            moved.append((axis, field))
        elif name == "transpose":
            moved.append((p["permutation"].index(axis), field))
        elif name == "broadcast_in_dim":
            moved.append((p["broadcast_dimensions"][axis], field))
        elif name == "slice":
            stride = (p["strides"] or (1,) * len(shape))[axis]
            shift = p["start_indices"][axis] * field.jump
            moved.append(
                (axis, Field(field.first + shift, field.last + shift, field.jump * stride))
            )
        elif name == "pad":
            low, _, inside = p["padding_config"][axis]
            jump = field.jump / (inside + 1)
            moved.append((axis, Field(field.first - low * jump, field.last - low * jump, jump)))
        elif name.startswith(("reduce", "arg")) and axis in p.get("axes", ()):
            moved.append((-1, field.whole(shape[axis])))
        elif name.startswith(("reduce", "arg")) and "axes" in p:
            moved.append((axis - sum(a < axis for a in p["axes"]), field))
        elif out == shape or (len(out) == len(shape) and out[axis] == shape[axis]):
            moved.append((axis, field))
        elif name in ("reshape", "squeeze") and shape[axis] > 1 and shape[axis] in out:
            moved.append((out.index(shape[axis]), field))
        else:
            moved.append((-1, field.whole(shape[axis])))
    if len(out) <= 2 and any(axis < 0 for axis, _ in moved):  # nothing of the map is left
        moved = [(-1, field) for _, field in moved]
    return moved


def _pair(values: Sequence[int]) -> str:
    return "x".join(map(str, values))


def _padding(pairs: Sequence[tuple[int, int]]) -> str:
    low, high = pairs[0]
    return str(low) if all(pair == (low, low) for pair in pairs) else f"{low},{high}"
