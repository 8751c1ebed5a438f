"""Methods of attribution: gradients, class activation maps, occlusion.

All take inputs as the net takes them (normalised images; sequences with channels, such as one-hot
letters or a waveform) and the classes whose scores (logits) are attributed to them. Inputs may have
any number of spatial axes. The baseline of integrated gradients, and what occlusion puts in the
place of what it hides, is zero, which is the mean of normalised images.
"""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, Int32, Key

from deeper.interpret.traced_net import LOGITS, Images, Rule, TracedNet

Inputs = Float[Array, "batch *space channels"]
Classes = Int[Array, " batch"]
PixelMaps = Float[Array, "batch *space channels"]
Heat = Float[Array, "batch *space"]
Progress = Callable[[int, int], None]  # steps done, steps


def _untold(done: int, total: int) -> None:
    """Tell nobody how far it is."""


def space_of(values: Any) -> tuple[int, ...]:
    """Return the axes between the first and the last: rows and columns, or positions."""
    return tuple(range(1, values.ndim - 1))


def scores(
    net: TracedNet, inputs: Inputs, classes: Classes, **options: Any
) -> Float[Array, " batch"]:
    """Return each input's logit of its class."""
    logits = net(inputs, [LOGITS], **options)[LOGITS]
    return jnp.take_along_axis(logits, classes[:, None], axis=1)[:, 0]


def gradient(
    net: TracedNet, inputs: Inputs, classes: Classes, rule: Rule = "gradient"
) -> PixelMaps:
    """Return the class score's gradient by the inputs (Simonyan et al. 2013, arXiv:1312.6034).

    With the rule ``guided`` it is guided backpropagation (Springenberg et al. 2014), with
    ``deconvnet`` the class's projection to pixel space (Zeiler and Fergus 2013).
    """
    return jax.grad(lambda values: scores(net, values, classes, rule=rule).sum())(inputs)


# Methods that take many gradients loop in Python: XLA:CPU is slow at gradients of convolutions in
# compiled loops (see `kernels.cpu_dispatch`).


def _slope(net: TracedNet, share: Any, inputs: Inputs, classes: Classes) -> PixelMaps:
    return gradient(net, share * inputs, classes)


class Integral(NamedTuple):
    """Integrated gradients, and how well they add up.

    Attributes:
        maps: values by pixel and channel.
        gaps: how far a map's sum is from the difference of the scores at both ends of the line, as
            a share of that difference (completeness, proposition 1 of the paper).
        steps: of the midpoint rule.
    """

    maps: PixelMaps
    gaps: Float32[np.ndarray, " batch"]
    steps: Int32[np.ndarray, " batch"]


STEPS, MOST_STEPS = 64, 576  # of integrated gradients: at first, and at most (64 x 3 x 3)
GAP = 0.01  # that is small enough


def integrated_gradients(
    net: TracedNet,
    inputs: Inputs,
    classes: Classes,
    steps: int = STEPS,
    most_steps: int = MOST_STEPS,
    progress: Progress = _untold,
) -> Integral:
    """Return the mean gradient along the line from zero, times the inputs.

    Sundararajan, Taly and Yan 2017 (arXiv:1703.01365), equation 1, by the midpoint rule. A map adds
    up to the difference of the scores at both ends. An input whose map misses it by more than `GAP`
    gets three times as many steps, of which a third are known, until it does not or ``most_steps``
    is reached.

    Args:
        net: the net.
        inputs: as the net takes them.
        classes: whose score.
        steps: of the midpoint rule at first.
        most_steps: at most.
        progress: called with (steps done, steps).
    """
    slope = partial(net.run, _slope)
    zeros = jnp.zeros_like(inputs)
    rise = np.asarray(net.run(scores, inputs, classes) - net.run(scores, zeros, classes))

    def gap(total: Any, steps: int, which: Any) -> Float32[np.ndarray, " some"]:
        sums = np.asarray(inputs[which] * total / steps, np.float64).reshape(len(total), -1).sum(1)
        return np.abs(sums - rise[which]) / np.maximum(np.abs(rise[which]), 1e-12)

    total = zeros
    for step in range(steps):
        total += slope((step + 0.5) / steps, inputs, classes)
        progress(step + 1, steps)
    every = np.arange(len(inputs))
    gaps, taken = gap(total, steps, every), np.full(len(inputs), steps)
    maps = inputs * total / steps
    for number in np.flatnonzero(gaps > GAP):
        # One input at a time: few are left, and all have one shape, so that one program serves.
        which = slice(number, number + 1)
        of_one, count = total[which], steps
        while gaps[number] > GAP and count * 3 <= most_steps:
            count *= 3
            for step in range(count):
                if step % 3 != 1:  # these were taken: the middle of each third
                    of_one += slope((step + 0.5) / count, inputs[which], classes[which])
                progress(step + 1, count)
            gaps[number], taken[number] = gap(of_one, count, which)[0], count
        maps = maps.at[number].set((inputs[which] * of_one / count)[0])
    return Integral(maps, gaps.astype(np.float32), taken.astype(np.int32))


def _noisy(
    net: TracedNet, sample: Any, inputs: Inputs, classes: Classes, key: Any, scale: Any
) -> PixelMaps:
    grain = jax.random.normal(jax.random.fold_in(key, sample), inputs.shape)
    if inputs.ndim == 3:  # a sequence is as long as it was
        grain = jnp.where((inputs != 0).any(axis=2, keepdims=True), grain, 0)
    return gradient(net, inputs + scale * grain, classes)


def smooth_grad(
    net: TracedNet,
    inputs: Inputs,
    classes: Classes,
    key: Key[Array, ""],
    *,
    samples: int = 50,
    noise: float = 0.15,
    progress: Progress = _untold,
) -> PixelMaps:
    """Return the mean gradient at noisy copies (Smilkov et al. 2017, arXiv:1706.03825).

    Args:
        net: the net.
        inputs: as the net takes them.
        classes: whose score.
        key: of the noise.
        samples: copies; 50 in the paper.
        noise: standard deviation as a share of each input's range; 0.1 to 0.2 in the paper.
        progress: called with (samples done, samples).
    """
    axes = tuple(range(1, inputs.ndim))
    spread = inputs.max(axes, keepdims=True) - inputs.min(axes, keepdims=True)
    total = jnp.zeros_like(inputs)
    for sample in range(samples):
        total += net.run(_noisy, sample, inputs, classes, key, noise * spread)
        progress(sample + 1, samples)
    return total / samples


def _maps_and_gradients(
    net: TracedNet, inputs: Inputs, classes: Classes, layer: str
) -> tuple[Array, Array]:
    """Return a layer's maps, and the class scores' gradient by them."""
    shape = (len(inputs), *net.shape(layer, spatial=True))

    def score(added):
        outputs = net(inputs, [layer, LOGITS], added={layer: added})
        of_class = jnp.take_along_axis(outputs[LOGITS], classes[:, None], axis=1)
        return of_class.sum(), outputs[layer]

    gradients, maps = jax.grad(score, has_aux=True)(jnp.zeros(shape))
    return maps, gradients


def grad_cam(net: TracedNet, inputs: Inputs, classes: Classes, layer: str) -> Heat:
    """Return Grad-CAM on a layer's grid (Selvaraju et al. 2016, arXiv:1610.02391, section 3)."""
    maps, gradients = _maps_and_gradients(net, inputs, classes, layer)
    weights = gradients.mean(axis=space_of(maps), keepdims=True)
    return jnp.maximum((weights * maps).sum(axis=-1), 0.0)


def grad_cam_plus_plus(net: TracedNet, inputs: Inputs, classes: Classes, layer: str) -> Heat:
    """Return Grad-CAM++ on a layer's grid (Chattopadhay et al. 2017, arXiv:1710.11063, eq. 19).

    As in the paper the score is the exponential of the logit, so that all derivatives are powers
    of the first.
    """
    maps, gradients = _maps_and_gradients(net, inputs, classes, layer)
    total = maps.sum(axis=space_of(maps), keepdims=True)
    divisor = 2.0 * gradients**2 + total * gradients**3
    alpha = jnp.where(divisor != 0.0, gradients**2 / jnp.where(divisor != 0.0, divisor, 1.0), 0.0)
    weights = (alpha * jnp.maximum(gradients, 0.0)).sum(axis=space_of(maps), keepdims=True)
    return jnp.maximum((weights * maps).sum(axis=-1), 0.0)


def occlusion(
    net: TracedNet,
    inputs: Inputs,
    classes: Classes,
    *,
    side: int,
    stride: int,
    progress: Progress = _untold,
) -> Heat:
    """Return the class's probability with each place hidden in turn, on a grid of the places.

    Zeiler and Fergus 2013, figure 6 (d). A square of zeros (a stretch of a sequence), which is the
    data set's mean colour, hides the place; its centres stand ``stride`` pixels apart, over the
    whole input.

    Args:
        net: the net.
        inputs: as the net takes them.
        classes: whose probability.
        side: of the square, in pixels.
        stride: pixels from one place to the next.
        progress: called with (places done, places).
    """
    grid = [np.arange(0, size, stride) for size in inputs.shape[1:-1]]
    by_row = []
    for number, row in enumerate(grid[0]):
        by_row.append(net.run(_hidden_row, row, inputs, classes, side=side, stride=stride))
        progress((number + 1) * len(by_row[0]), len(grid[0]) * len(by_row[0]))
    places = tuple(len(axis) for axis in grid)
    return jnp.moveaxis(jnp.stack(by_row), 2, 0).reshape(len(inputs), *places)


def _hidden_row(
    net: TracedNet, row: Any, inputs: Inputs, classes: Classes, *, side: int, stride: int
) -> Float[Array, "places batch"]:
    """Return the probability with a square around each place of a row."""
    space = inputs.shape[1:-1]
    coordinates = np.indices(space)
    rest = [range(0, size, stride) for size in space[1:]]
    places = np.array([*itertools.product(*rest)], np.int32)  # (places, axes but the first)

    def probability(place: Any) -> Any:
        begins = jnp.concatenate([row[None], place]) - side // 2
        hidden = jnp.ones(space, bool)
        for at, begin in zip(coordinates, begins):
            hidden &= (at >= begin) & (at < begin + side)
        logits = net(jnp.where(hidden[None, ..., None], 0.0, inputs), [LOGITS])[LOGITS]
        return jnp.take_along_axis(jax.nn.softmax(logits), classes[:, None], axis=1)[:, 0]

    return jax.lax.map(probability, jnp.asarray(places))


def effective_field(net: TracedNet, images: Images, layer: str) -> Float[Array, "height width"]:
    """Return how strongly the middle of a layer's maps depends on each pixel.

    Luo et al. 2016 (arXiv:1701.04128), section 4: the gradient of the middle place's sum over
    channels; here the root of its mean square over images and channels.
    """
    height, width, _ = net.shape(layer, spatial=True)

    def middle(pixels):
        return net(pixels, [layer])[layer][:, height // 2, width // 2].sum()

    gradients = jax.grad(middle)(images)
    return jnp.sqrt((gradients**2).mean(axis=(0, 3)))
