"""How far maps of attribution can be trusted, in numbers.

- Insertion and deletion (Petsiuk, Das and Saenko 2018, arXiv:1806.07421): the class's probability
  as places are shown, or hidden, in the order of the map. The better the map, the larger the area
  under the first curve and the smaller that under the second.
- The pointing game (Zhang et al. 2016, arXiv:1608.00507): does a map's maximum lie on the object?
  Without boxes around objects it is played on mosaics of images of different classes, as by Böhle,
  Fritz and Schiele 2021 (arXiv:2104.00032).
- The sanity check (Adebayo et al. 2018, arXiv:1810.03292, section 3.1): how like is a map to that
  of the same net with layers initialised anew, from the answer down? A map that stays the same
  does not show what the net has learned.

Inputs may have any number of spatial axes.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int

from deeper.interpret.attribution_methods import Classes, Heat, Inputs, Progress
from deeper.interpret.traced_net import LOGITS, TracedNet

STEPS = 64  # of the curves; Petsiuk et al. take as many as an image has rows
BLUR_TAPS, BLUR_WIDTH = 11, 5.0  # pixels; of the blurred image that insertion begins with


class Curves(NamedTuple):
    """The class's probability as places are shown or hidden.

    Attributes:
        shares: of the places, from 0 to 1, (steps + 1,).
        probabilities: (n, steps + 1).
        areas: under each curve, by the trapezoidal rule, (n,).
    """

    shares: Float32[np.ndarray, " steps"]
    probabilities: Float32[np.ndarray, "n steps"]
    areas: Float32[np.ndarray, " n"]


def deletion(
    net: TracedNet,
    inputs: Inputs,
    classes: Classes,
    maps: Heat,
    steps: int = STEPS,
    progress: Progress = lambda done, total: None,
) -> Curves:
    """Return the probability as the places are set to zero, those of the largest values first.

    Args:
        net: the net.
        inputs: as the net takes them; zero is the mean of normalised images.
        classes: whose probability.
        maps: a value a place, (n, *space); of equal values the first place comes first.
        steps: of the curve.
        progress: called with (steps done, steps).
    """
    return _curves(net, inputs, jnp.zeros_like(inputs), classes, maps, steps, progress)


def insertion(
    net: TracedNet,
    inputs: Inputs,
    classes: Classes,
    maps: Heat,
    steps: int = STEPS,
    progress: Progress = lambda done, total: None,
) -> Curves:
    """Return the probability as places of the blurred inputs are set to what they were.

    Args:
        net: the net.
        inputs: as the net takes them.
        classes: whose probability.
        maps: a value a place, (n, *space).
        steps: of the curve.
        progress: called with (steps done, steps).
    """
    return _curves(net, blurred(inputs), inputs, classes, maps, steps, progress)


def _curves(
    net: TracedNet,
    before: Inputs,
    after: Inputs,
    classes: Classes,
    maps: Heat,
    steps: int,
    progress: Progress,
) -> Curves:
    flat = -np.asarray(maps).reshape(len(maps), -1)
    order = np.argsort(flat, axis=1, kind="stable")
    ranks = jnp.asarray(np.argsort(order, axis=1).reshape(maps.shape), jnp.int32)
    exchanged = np.round(np.linspace(0, flat.shape[1], steps + 1)).astype(np.int32)
    curve = []
    for step, count in enumerate(exchanged):
        curve.append(np.asarray(net.run(_exchanged, count, ranks, before, after, classes)))
        progress(step, steps)
    shares = (exchanged / flat.shape[1]).astype(np.float32)
    probabilities = np.stack(curve, axis=1)
    return Curves(shares, probabilities, np.trapezoid(probabilities, shares, axis=1))


def _exchanged(
    net: TracedNet,
    count: Int[Array, ""],
    ranks: Int[Array, " batch *space"],
    before: Inputs,
    after: Inputs,
    classes: Classes,
) -> Float[Array, " batch"]:
    shown = jnp.where((ranks < count)[..., None], after, before)
    shares = jax.nn.softmax(net(shown, [LOGITS])[LOGITS])
    return jnp.take_along_axis(shares, classes[:, None], axis=1)[:, 0]


def blurred(inputs: Inputs) -> Inputs:
    """Return inputs blurred along each spatial axis by a Gaussian; zeros lie beyond the border."""
    places = np.arange(BLUR_TAPS) - BLUR_TAPS // 2
    weights = np.exp(-0.5 * (places / BLUR_WIDTH) ** 2)
    weights /= weights.sum()
    for axis in range(1, inputs.ndim - 1):
        sides = [(BLUR_TAPS // 2,) * 2 if a == axis else (0, 0) for a in range(inputs.ndim)]
        wide = jnp.pad(inputs, sides)
        size = inputs.shape[axis]
        parts = [
            float(weight) * jax.lax.slice_in_dim(wide, tap, tap + size, axis=axis)
            for tap, weight in enumerate(weights)
        ]
        inputs = sum(parts[1:], parts[0])
    return inputs


def pointing(
    maps: Float[np.ndarray, " n *space"], inside: Bool[np.ndarray, " n *space"]
) -> tuple[Bool[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
    """Return whether each map's maximum lies on the object, and the share of the map that does.

    A map without positive values points nowhere: it misses, with a share of 0.

    Args:
        maps: a value a place; what is below zero does not count.
        inside: the places of the object.
    """
    count = len(maps)
    flat = np.maximum(np.asarray(maps, np.float32), 0.0).reshape(count, -1)
    on_object = np.asarray(inside).reshape(count, -1)
    total = flat.sum(axis=1)
    hits = on_object[np.arange(count), flat.argmax(axis=1)] & (total > 0)
    shares = np.where(on_object, flat, 0.0).sum(axis=1) / np.where(total > 0, total, 1.0)
    return hits, shares.astype(np.float32)


def cells_of(space: Sequence[int]) -> int:
    """Return how many inputs a mosaic has: two along each axis."""
    return 2 ** len(space)


def mosaics(
    inputs: Inputs, groups: Int[np.ndarray, "mosaics cells"], *, same_size: bool
) -> tuple[Inputs, Bool[np.ndarray, "mosaics cells *space"]]:
    """Put inputs beside each other, two along each spatial axis.

    Args:
        inputs: as the net takes them.
        groups: which of them each mosaic is made of.
        same_size: a mosaic has the size of one input, in which each is half as large; otherwise
            it is twice as large.

    Returns:
        The mosaics, and where in each mosaic each of its inputs lies.
    """
    space = inputs.shape[1:-1]
    parts = inputs
    if same_size:
        halves = [size // 2 for size in space]
        parts = jax.image.resize(inputs, (len(inputs), *halves, inputs.shape[-1]), "linear")
    size = parts.shape[1:-1]
    whole = space if same_size else tuple(2 * side for side in space)
    drawn = np.zeros((len(groups), *whole, inputs.shape[-1]), np.float32)
    inside = np.zeros((*groups.shape, *whole), bool)
    for cell, corner in enumerate(itertools.product((0, 1), repeat=len(space))):
        place: Any = [slice(at * side, (at + 1) * side) for at, side in zip(corner, size)]
        drawn[:, *place] = np.asarray(parts)[groups[:, cell]]
        inside[:, cell, *place] = True
    return jnp.asarray(drawn), inside


def groups_of_classes(
    labels: Int[np.ndarray, " n"], count: int, cells: int, seed: int = 0
) -> Int[np.ndarray, "count cells"]:
    """Return which inputs to put together: each group of inputs of different classes, at random.

    Args:
        labels: of the inputs; ``cells`` different ones at least.
        count: of groups.
        cells: inputs in each.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    members = {label: np.flatnonzero(labels == label) for label in np.unique(labels)}
    return np.array(
        [
            [rng.choice(members[label]) for label in rng.choice([*members], cells, replace=False)]
            for _ in range(count)
        ]
    )


def layers_from_the_top(net: TracedNet) -> list[str]:
    """Return the layers and stages that the net calls itself and that have weights, last first."""
    parts = net.variables["params"]
    place = {name.split("/")[0]: number for number, name in enumerate(net.layers)}
    return sorted(parts, key=lambda name: -place.get(name.removesuffix("_out"), -1))


def cascade(
    net: TracedNet, fresh: Mapping[str, Any], layers: Sequence[str]
) -> Iterator[tuple[str, TracedNet]]:
    """Yield the net with ever more of its layers initialised anew: the first, the first two, ...

    Args:
        net: trained.
        fresh: its variables as initialised.
        layers: from `layers_from_the_top`.
    """
    now = {kind: dict(of_kind) for kind, of_kind in net.variables.items()}
    for layer in layers:
        for kind, of_kind in now.items():
            if layer in of_kind:
                of_kind[layer] = fresh[kind][layer]
        yield layer, net.with_variables({kind: dict(of_kind) for kind, of_kind in now.items()})


def likeness(
    one: Float[np.ndarray, "n ..."], other: Float[np.ndarray, "n ..."]
) -> Float[np.ndarray, " n"]:
    """Return Spearman's correlation of the magnitudes of two maps; NaN where one is constant."""
    from scipy.stats import rankdata  # takes half a second to import

    flat = (np.abs(np.asarray(values)).reshape(len(values), -1) for values in (one, other))
    ranks = [rankdata(values, axis=1) for values in flat]
    centred = [values - values.mean(axis=1, keepdims=True) for values in ranks]
    scale = np.sqrt(np.prod([(values**2).sum(axis=1) for values in centred], axis=0))
    along = (centred[0] * centred[1]).sum(axis=1)
    return np.divide(along, scale, out=np.full(len(scale), np.nan), where=scale > 0)
