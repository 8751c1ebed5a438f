"""Initial parameters, drawn on the host, without compiling the net.

``jax.jit(model.init)`` of a deep net compiles for a minute, and without ``jit`` it runs the whole
forward pass. Here parameters are traced for their shapes only; each carries its initialiser, which
draws with NumPy, seeded by (seed, path). So the values depend neither on the platform nor on the
order of the layers nor on how they are run (scan, remat).
"""

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from deeper.models.example import Example, batch_of

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Constant:
    """All values are the same.

    Attributes:
        value: that value.
    """

    value: float

    def draw(self, rng: np.random.Generator, shape: Shape) -> np.ndarray:
        """Return an array, float32."""
        del rng
        return np.full(shape, self.value, np.float32)


@dataclass(frozen=True)
class Normal:
    """Gaussian of mean zero.

    Attributes:
        std: standard deviation.
    """

    std: float

    def draw(self, rng: np.random.Generator, shape: Shape) -> np.ndarray:
        """Return an array, float32."""
        return self.std * rng.standard_normal(shape, np.float32)


@dataclass(frozen=True)
class TruncatedNormal:
    """Gaussian of mean zero, drawn again beyond two standard deviations.

    Attributes:
        std: standard deviation before the truncation.
    """

    std: float

    def draw(self, rng: np.random.Generator, shape: Shape) -> np.ndarray:
        """Return an array, float32."""
        values = rng.standard_normal(shape, np.float32)
        while (outside := np.abs(values) > 2.0).any():
            values[outside] = rng.standard_normal(int(outside.sum()), np.float32)
        return np.float32(self.std) * values


@dataclass(frozen=True)
class HeNormal:
    """Gaussian of variance 2 / fan (He et al. 2015, "Delving deep into rectifiers", eq. 10, 14).

    Attributes:
        fan: "in" keeps the forward pass's variance, "out" the backward pass's (torchvision's).
    """

    fan: str

    def draw(self, rng: np.random.Generator, shape: Shape) -> np.ndarray:
        """Return an array, float32."""
        receptive = math.prod(shape[:-2])
        fan = receptive * (shape[-2] if self.fan == "in" else shape[-1])
        return np.float32(math.sqrt(2.0 / fan)) * rng.standard_normal(shape, np.float32)


@dataclass(frozen=True)
class Orthonormal:
    """Orthonormal rows or columns, as large as `HeNormal("out")` (Saxe et al. 2013, eq. 10).

    The kernel is a matrix of (receptive field * inputs) x outputs. It is the first step of LSUV
    (Mishkin and Matas 2016, arXiv:1511.06422); the second, unit variance of every layer's outputs
    on a batch, is what BatchNorm does to every batch.
    """

    def draw(self, rng: np.random.Generator, shape: Shape) -> np.ndarray:
        """Return an array, float32."""
        rows, columns = math.prod(shape[:-1]), shape[-1]
        left, _, right = np.linalg.svd(rng.standard_normal((rows, columns)), full_matrices=False)
        matrix = left @ right
        deviation = math.sqrt(2.0 / (math.prod(shape[:-2]) * columns))
        size = deviation / math.sqrt((matrix**2).mean())
        return (size * matrix).astype(np.float32).reshape(shape)


@dataclass(frozen=True)
class FanInUniform:
    """Uniform within 1 / sqrt(fan in) of zero: PyTorch's default, after LeCun et al. 1998.

    Attributes:
        fan_in: inputs of one output; for a bias those of its layer.
        gain: factor of the bound.
    """

    fan_in: int
    gain: float = 1.0

    def draw(self, rng: np.random.Generator, shape: Shape) -> np.ndarray:
        """Return an array, float32."""
        bound = self.gain / math.sqrt(self.fan_in)
        return rng.uniform(-bound, bound, shape).astype(np.float32)


@dataclass(frozen=True)
class Uniform:
    """Uniform within a bound of zero.

    Attributes:
        bound: largest absolute value.
    """

    bound: float

    def draw(self, rng: np.random.Generator, shape: Shape) -> np.ndarray:
        """Return an array, float32."""
        return rng.uniform(-self.bound, self.bound, shape).astype(np.float32)


Rule = Constant | Normal | TruncatedNormal | HeNormal | Orthonormal | FanInUniform | Uniform
ZEROS, ONES = Constant(0.0), Constant(1.0)


class Ruled(flax.struct.PyTreeNode, nn.meta.AxisMetadata):
    """A parameter with the rule that draws it, as a box that Flax opens where the layer uses it."""

    value: Any
    rule: Rule = flax.struct.field(pytree_node=False)

    def unbox(self) -> Any:
        """Return the parameter."""
        return self.value

    def replace_boxed(self, val: Any) -> "Ruled":
        """Return the box around another value."""
        return self.replace(value=val)

    def add_axis(self, index: int, params: dict[Any, Any]) -> "Ruled":
        """A lifted transform adds an axis: the rule stays."""
        del index, params
        return self

    def remove_axis(self, index: int, params: dict[Any, Any]) -> "Ruled":
        """A lifted transform removes an axis: the rule stays."""
        del index, params
        return self


def by(rule: Rule) -> Callable[..., Any]:
    """Return a Flax initialiser that leaves the drawing to `initialise`."""

    def initialiser(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Ruled:
        del key
        return Ruled(jnp.zeros(shape, dtype), rule)

    return initialiser


def initialise(model: nn.Module, seed: int, example: Example) -> dict[str, Any]:
    """Return a net's initial variables as float32 numpy arrays.

    Parameters of stock Flax layers are drawn by Flax, which takes longer; those of this package's
    layers by their rules, also where a net has both.

    Args:
        model: the net.
        seed: of the draw.
        example: shape and type of one input, see `models.example`.
    """
    leaves, structure = jax.tree.flatten_with_path(_traced(model, example), is_leaf=_is_boxed)
    by_flax: dict[str, np.ndarray] = {}
    if not all(isinstance(leaf, Ruled) for _, leaf in leaves):
        keys = {"params": jax.random.key(seed), "dropout": jax.random.key(seed)}
        lazy = nn.meta.unbox(model.lazy_init(keys, batch_of(example, 1), train=False))
        by_flax = {_name(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(lazy)}
    drawn = []
    for path, leaf in leaves:
        name = _name(path)
        if not isinstance(leaf, Ruled):
            drawn.append(by_flax[name])
            continue
        rng = np.random.Generator(np.random.Philox(key=[seed, zlib.crc32(name.encode())]))
        drawn.append(leaf.rule.draw(rng, leaf.value.shape))
    return jax.tree.unflatten(structure, drawn)


def _is_boxed(node: Any) -> bool:
    return isinstance(node, nn.meta.AxisMetadata)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def shapes_of(model: nn.Module, example: Example) -> dict[str, Any]:
    """Return the shapes and types of a net's variables."""
    return nn.meta.unbox(_traced(model, example))


def _traced(model: nn.Module, example: Example) -> dict[str, Any]:
    """Trace ``model.init`` with shapes alone; our layers' parameters come out as `Ruled`."""

    def init(inputs: jax.Array) -> dict[str, Any]:
        key = jax.random.key(0)  # made inside the trace, so that not even this is compiled
        return dict(model.init({"params": key, "dropout": key}, inputs, train=False))

    return jax.eval_shape(init, batch_of(example, 1))
