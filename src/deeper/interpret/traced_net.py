"""Any net with access to its layers: outputs read and changed, rectifiers given another gradient.

The net is traced to its program (jaxpr), which is run equation by equation. Where it takes the
larger of a value and zero, it rectifies, and the gradient rule there is exchanged; so this works
for any net, however its code names its rectifiers. Pooling needs no rule of its own: the gradient
of a maximum goes to the place that held it, which is the unpooling through switches of Zeiler and
Fergus 2013.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jaxtyping import Array, Float

from deeper.errors import UserError
from deeper.kernels import cpu_dispatch
from deeper.models.example import Example, batch_of, spatial_axes
from deeper.profile.layer_table import fields_and_depths
from deeper.profile.macs import inner_programs
from deeper.profile.receptive_field import Field

Images = Float[Array, "batch height width channels"]
Maps = Float[Array, "batch ..."]
Rule = Literal["gradient", "guided", "deconvnet"]
LOGITS = "logits"


def _gradient_below(rule: Rule, was_positive: Array, gradient: Array) -> Array:
    """Return the gradient with respect to a rectifier's input.

    Backpropagation passes it on where the input was positive; a deconvnet where the gradient is
    (Zeiler and Fergus 2013, section 2.1); guided backpropagation where both are (Springenberg et
    al. 2014, arXiv:1412.6806, section 3.4).
    """
    if rule == "gradient":
        return gradient * was_positive
    rectified = jnp.maximum(gradient, 0)
    return rectified if rule == "deconvnet" else rectified * was_positive


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def rectify(rule: Rule, x: Array) -> Array:
    """Return the larger of x and zero, differentiated by a rule."""
    del rule
    return jnp.maximum(x, 0)


def _forward(rule: Rule, x: Array) -> tuple[Array, Array]:
    return rectify(rule, x), (x > 0).astype(x.dtype)


def _backward(rule: Rule, was_positive: Array, gradient: Array) -> tuple[Array]:
    return (_gradient_below(rule, was_positive, gradient),)


rectify.defvjp(_forward, _backward)


def listed(names: Sequence[str]) -> str:
    """Return layers' names for a message: all that the net calls, and one of those inside them."""
    called = dict.fromkeys(name.removesuffix("_out") for name in names if "/" not in name)
    inner = next((name for name in names if "/" in name), None)
    return ", ".join(called) + (f", and what they are made of, such as {inner}" if inner else "")


def unrolled(model: Any) -> Any:
    """Return a net that calls its blocks one by one, without scan and remat; same numbers."""
    return model.clone(scan=False, remat=False) if hasattr(model, "scan") else model


class TracedNet:
    """A net with its variables.

    Args:
        model: any net that follows the package's contract.
        variables: params and batch_stats.
        example: shape and type of one input, see `models.example`.
        train: normalise by each batch's own statistics, and drop out, as training does.

    Attributes:
        model: the net, `unrolled`.
        variables: params and batch_stats.
        shapes: layer -> its shape for one example, in the order in which layers compute.
        fields: layer with maps -> what its places see along each spatial axis (rows, columns).
        depths: layer -> layers with weights on the longest path up to it.
    """

    def __init__(
        self,
        model: nn.Module,
        variables: Any,
        example: Example,
        *,
        train: bool = False,
    ):
        self.model, self.variables, self._train = unrolled(model), variables, train
        self._compiled: dict[Any, Callable[..., Any]] = {}
        self._sown: set[str] = set()
        batch = batch_of(example, 2)
        self._spatial = spatial_axes(batch)
        program, shapes = self._traced(batch)
        made = [variable for equation in program.jaxpr.eqns for variable in equation.outvars]
        place: dict[Any, int] = {variable: number for number, variable in enumerate(made)}
        seen = fields_and_depths(program.jaxpr)
        outputs = zip(shapes.items(), program.jaxpr.outvars, seen, strict=True)
        ordered = sorted(outputs, key=lambda output: place.get(output[1], -1))
        self.shapes = {name: leaf.shape[1:] for (name, leaf), _, _ in ordered}
        self.depths = {name: depth for (name, _), _, (_, depth) in ordered}
        self.fields: dict[str, tuple[Field, ...]] = {
            name: tuple(fields[axis] for axis in self._spatial)
            for (name, _), _, (fields, _) in ordered
            if self.has_maps(name) and all(axis in fields for axis in self._spatial)
        }

    def with_variables(self, variables: Any) -> "TracedNet":
        """Return the same net with others of its variables; what is compiled serves both."""
        other = copy.copy(self)
        other.variables = variables
        return other

    def run(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Return ``function(net, *arguments, **options)``, compiled once for their shapes.

        Args:
            function: of this net, defined at the top of a module, by which the program is known.
            *arguments: arrays.
            **options: values that can be hashed; another value makes another program.
        """
        key = (function, *sorted(options.items()))
        if key not in self._compiled:
            self._compiled[key] = jax.jit(
                lambda variables, *given: function(
                    self.with_variables(variables), *given, **options
                )
            )
        return self._compiled[key](self.variables, *arguments)

    @property
    def layers(self) -> list[str]:
        """Return the names of all layers, in the order in which they compute."""
        return list(self.shapes)

    @property
    def trunk(self) -> list[str]:
        """Return for each depth the last layer to compute there, which is after paths have met."""
        last: dict[int, str] = {}
        for name, depth in self.depths.items():
            if depth and depth >= max(last, default=0):
                last[depth] = name
        return list(last.values())

    @property
    def stages(self) -> list[str]:
        """Return what a net sows at its stages' ends, in the order in which they compute.

        Of a net that sows nothing: the last maps of each size.

        Raises:
            UserError: the net sows nothing and has no maps.
        """
        maps = self.maps
        sown = [name for name in maps or self.layers if name in self._sown]
        if not maps and not sown:
            raise UserError("This net has no maps, only layers that see all of the input.")
        by_size = {self.shapes[name][:-1]: name for name in maps}
        return sown or list(by_size.values())

    @property
    def maps(self) -> list[str]:
        """Return the layers with maps, in the order in which they compute."""
        return [name for name in self.layers if self.has_maps(name)]

    def has_maps(self, layer: str) -> bool:
        """Tell whether a layer's output has the input's spatial axes, and channels."""
        return bool(self._spatial) and len(self.shapes[layer]) == len(self._spatial) + 1

    def shape(self, layer: str, *, spatial: bool = False) -> tuple[int, ...]:
        """Return a layer's shape for one example.

        Raises:
            UserError: there is no such layer, or maps are asked for and it has none.
        """
        if layer not in self.shapes:
            raise UserError(f"There is no layer {layer}; there are {listed(self.layers)}.")
        shape = self.shapes[layer]
        if spatial and not self.has_maps(layer):
            raise UserError(
                f"The layer {layer} has no maps, only {shape[0]} values; take one of "
                f"{listed(self.maps)}."
            )
        return shape

    def layer_with_maps(self, name: str | None) -> str:
        """Return a layer's or stage's full name, of the last stage where none is given.

        Raises:
            UserError: there is no such layer, or it has no maps.
        """
        if name is None:
            return self.stages[-1]
        full = f"{name}_out" if f"{name}_out" in self.shapes else name
        self.shape(full, spatial=True)
        return full

    def _traced(self, images: Any) -> tuple[core.ClosedJaxpr, dict[str, Any]]:
        with cpu_dispatch.turned_off():
            return jax.make_jaxpr(self._plain, return_shape=True)(images)

    def _plain(self, images: Images) -> dict[str, Maps]:
        """Return every layer's output, the logits last."""
        logits, captured = self.model.apply(
            self.variables,
            images,
            train=self._train,
            rngs={"dropout": jax.random.key(0)} if self._train else None,
            capture_intermediates=True,
            mutable=["intermediates", *(["batch_stats", "auxiliary"] if self._train else [])],
        )
        outputs: dict[str, Maps] = {}
        for path, leaf in jax.tree.leaves_with_path(captured["intermediates"]):
            keys = [entry.key for entry in path if hasattr(entry, "key")]
            name = "/".join(key for key in keys if key != "__call__")
            if name and hasattr(leaf, "shape"):
                outputs[name] = leaf
                if keys[-1] != "__call__":
                    self._sown.add(name)
        return outputs | {LOGITS: logits}

    def __call__(
        self,
        images: Images,
        layers: Sequence[str],
        *,
        rule: Rule = "gradient",
        added: Mapping[str, Array] | None = None,
    ) -> dict[str, Maps]:
        """Return some layers' outputs.

        Args:
            images: normalised.
            layers: their names; ``logits`` is the last.
            rule: by which the rectifiers are differentiated.
            added: layer -> array that is added to its output, and so seen by later layers.
        """
        program, shapes = self._traced(images)
        names = list(shapes)
        outputs = dict(zip(names, program.jaxpr.outvars, strict=True))
        changes = {outputs[name]: value for name, value in (added or {}).items()}
        values = _run(program.jaxpr, program.consts, [images], rule, changes)
        return {name: value for name, value in zip(names, values, strict=True) if name in layers}


def _run(
    program: core.Jaxpr,
    constants: Sequence[Array],
    arguments: Sequence[Array],
    rule: Rule,
    changes: Mapping[Any, Array],
) -> list[Array]:
    """Run a program with another rule for its rectifiers."""
    known: dict[Any, Array] = dict(zip(program.constvars, constants, strict=True))
    known |= dict(zip(program.invars, arguments, strict=True))

    def look(variable: Any) -> Any:
        return variable.val if isinstance(variable, core.Literal) else known[variable]

    for equation in program.eqns:
        values = [look(variable) for variable in equation.invars]
        rectified = _rectified(equation)
        if rectified is not None:
            results = [rectify(rule, values[rectified])]
        elif (inner := _program_with_rectifiers(equation)) is not None:
            results = _run(inner, (), values[-len(inner.invars) :], rule, {})
        else:
            parameters = equation.primitive.get_bind_params(equation.params)
            results = equation.primitive.bind(*values, **parameters)
            results = results if equation.primitive.multiple_results else [results]
        for variable, value in zip(equation.outvars, results, strict=True):
            known[variable] = value + changes[variable] if variable in changes else value
    return [look(variable) for variable in program.outvars]


def _rectified(equation: Any) -> int | None:
    """Return the number of the operand that an equation rectifies; None if it rectifies none."""
    if equation.primitive.name != "max":
        return None
    zeros = [isinstance(v, core.Literal) and not np.any(v.val) for v in equation.invars]
    return None if sum(zeros) != 1 else zeros.index(False)


def _program_with_rectifiers(equation: Any) -> core.Jaxpr | None:
    """Return an equation's inner program if it has a rectifier, else None."""
    if equation.primitive.name in ("scan", "while", "cond"):
        return None  # not entered: nets are unrolled before they are traced
    for inner in inner_programs(equation):
        for eqn in inner.eqns:
            if _rectified(eqn) is not None or _program_with_rectifiers(eqn) is not None:
                return inner
    return None
