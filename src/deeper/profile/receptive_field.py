"""Receptive fields: the part of the input on which a unit depends, computed operation by operation.

Along one axis of the input, the unit at position i of a map depends on the positions ``first + i *
jump`` to ``last + i * jump`` (pixels of an image, positions of a sequence), and

    convolution or pooling   first' = first - padding * jump
                             last'  = last + (dilation * (kernel - 1) - padding) * jump
                             jump'  = stride * jump

(Araujo, Norris and Sim 2019, "Computing receptive fields of convolutional neural networks"). Where
paths meet, the union is taken, which is the largest path. Positions outside of the input are
padding.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

# What depends on the input by a comparison alone, such as a mask of its padding, sees nothing.
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
WHOLE = -1  # stands for the axis in an array whose spatial axes were averaged or flattened away


@dataclass(frozen=True)
class Field:
    """The receptive field of a map along one axis of the input.

    Attributes:
        first: first pixel of the field of position 0; negative in the padding.
        last: last pixel of the field of position 0.
        jump: pixels from one position to the next; 0 for a single position with the complete field.
    """

    first: float
    last: float
    jump: float

    @property
    def size(self) -> int:
        """Size of the field in pixels."""
        return round(self.last - self.first) + 1

    @property
    def centre(self) -> float:
        """Centre of the field of position 0, in pixels; 0 is the centre of the first pixel."""
        return (self.first + self.last) / 2

    def span(self, place: int) -> tuple[int, int]:
        """Return the first and last pixel of the field of a position."""
        return round(self.first + place * self.jump), round(self.last + place * self.jump)

    def under(self, kernel: int, stride: int, padding: int, dilation: int = 1) -> "Field":
        """Return the field of a window's result over this map."""
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
        """Return the union of the fields of all positions of a map."""
        return Field(self.first, self.last + (places - 1) * self.jump, 0.0)


@dataclass(frozen=True)
class Known:
    """What is known of an array that depends on the input.

    Attributes:
        fields: (axis of the array, field along it), in the order of the axes.
        depth: layers with weights on the longest path up to it.
    """

    fields: tuple[tuple[int, Field], ...]
    depth: int


def of_input(axes: Iterable[int]) -> Known:
    """Return what is known of the input: the field of every position is itself."""
    return Known(tuple((axis, Field(0, 0, 1)) for axis in axes), 0)


def after_convolution(equation: Any, inputs: Known) -> Known:
    """Return what is known of a convolution's result."""
    p = equation.params
    numbers = p["dimension_numbers"]
    kernel = equation.invars[1].aval.shape
    fields = dict(inputs.fields)
    result = []
    for i, axis in enumerate(numbers.lhs_spec[2:]):
        field = fields.get(axis)
        if field is None:
            # An axis that was averaged away and came back has one place, which sees all.
            field = next((whole for _, whole in union([inputs])), None)
        if field is None:  # the input has no spatial axes
            continue
        field = replace(field, jump=field.jump / p["lhs_dilation"][i])
        window = (p["window_strides"][i], p["padding"][i][0], p["rhs_dilation"][i])
        size = kernel[numbers.rhs_spec[2 + i]]
        result.append((numbers.out_spec[2 + i], field.under(size, *window)))
    return Known(tuple(result), inputs.depth + 1)


def after_dot(equation: Any, operands: Sequence[Known | None]) -> Known | None:
    """Return what is known of a dot product's result; None where no operand sees the input.

    Batch axes and free axes stay; an axis that is summed over is seen whole.
    """
    sizes = [len(variable.aval.shape) for variable in equation.invars]
    (contracted, shared) = equation.params["dimension_numbers"]
    moved: list[tuple[int, Field]] = []
    depths = []
    for side, known in enumerate(operands):
        if known is None:
            continue
        depths.append(known.depth)
        free = [a for a in range(sizes[side]) if a not in (*contracted[side], *shared[side])]
        # The result has the shared axes first, then those of the left, then of the right operand.
        before = sizes[0] - len(contracted[0]) if side else len(shared[0])
        place = {axis: number for number, axis in enumerate(shared[side])}
        place |= {axis: before + number for number, axis in enumerate(free)}
        for axis, field in known.fields:
            if axis in place:
                moved.append((place[axis], field))
            else:
                moved.append(
                    (
                        WHOLE,
                        field if axis < 0 else field.whole(equation.invars[side].aval.shape[axis]),
                    )
                )
    if not depths:
        return None
    return Known(_by_axis(_without_map(moved, equation)), max(depths) + 1)


def after_window(equation: Any, inputs: Known) -> Known:
    """Return what is known of pooling's result."""
    p = equation.params
    size, stride, padding = p["window_dimensions"], p["window_strides"], p["padding"]
    fields = (
        (axis, field if axis < 0 else field.under(size[axis], stride[axis], padding[axis][0]))
        for axis, field in inputs.fields
    )
    return replace(inputs, fields=tuple(fields))


def after_other(equation: Any, operands: Sequence[Known | None]) -> Known | None:
    """Return what is known of the result of an operation without weights.

    None where no operand depends on the input, or only a comparison does.
    """
    if equation.primitive.name in COMPARISONS:
        return None
    known = [(variable, k) for variable, k in zip(equation.invars, operands) if k is not None]
    if not known:
        return None
    parts = [_moved(equation, variable.aval.shape, k) for variable, k in known]
    fields = dict(_by_axis([pair for part in parts for pair in part]))
    if equation.primitive.name == "concatenate":
        axis = equation.params["dimension"]
        along = [dict(part)[axis] for part in parts if axis in dict(part)]
        if len(along) > 1:  # cells of a map, side by side
            fields[axis] = replace(along[0], jump=along[1].first - along[0].first)
    return Known(tuple(sorted(fields.items())), max(k.depth for _, k in known))


def union(known: Iterable[Known]) -> tuple[tuple[int, Field], ...]:
    """Return the union of all fields, for an array that has lost its axes; empty if none."""
    return _by_axis([(WHOLE, field) for k in known for _, field in k.fields])


def _by_axis(pairs: Sequence[tuple[int, Field]]) -> tuple[tuple[int, Field], ...]:
    """Join the fields that belong to the same axis."""
    fields: dict[int, Field] = {}
    for axis, field in pairs:
        fields[axis] = fields[axis].joined(field) if axis in fields else field
    return tuple(sorted(fields.items()))


def _without_map(moved: list[tuple[int, Field]], equation: Any) -> list[tuple[int, Field]]:
    """Where nothing of a map is left, put all fields on the one axis that stands for it."""
    if equation.outvars[0].aval.ndim <= 2 and any(axis < 0 for axis, _ in moved):
        return [(WHOLE, field) for _, field in moved]
    return moved


def _moved(equation: Any, shape: tuple[int, ...], known: Known) -> list[tuple[int, Field]]:
    """Return one operand's fields by axis of the result.

    Args:
        equation: any but a convolution, dot product or window.
        shape: shape of the operand.
        known: what is known of the operand.
    """
    p, name = equation.params, equation.primitive.name
    out = equation.outvars[0].aval.shape
    moved = []
    for axis, field in known.fields:
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
            moved.append((WHOLE, field.whole(shape[axis])))
        elif name.startswith(("reduce", "arg")) and "axes" in p:
            moved.append((axis - sum(a < axis for a in p["axes"]), field))
        elif out == shape or (len(out) == len(shape) and out[axis] == shape[axis]):
            moved.append((axis, field))
        elif name in ("reshape", "squeeze") and shape[axis] > 1 and shape[axis] in out:
            moved.append((out.index(shape[axis]), field))
        else:
            moved.append((WHOLE, field.whole(shape[axis])))
    return _without_map(moved, equation)
