"""Methods of attribution: gradients, class activation maps, occlusion.

All take normalised images and the classes whose scores (logits) are attributed to their pixels.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from deeper.interpret.traced_net import LOGITS, Images, Rule, TracedNet

Classes = Int[Array, " batch"]
PixelMaps = Float[Array, "batch *places channels"]  # places: height and width, or length
Heat = Float[Array, "batch *places"]


def scores(
    net: TracedNet, images: Images, classes: Classes, **options: Any
) -> Float[Array, " batch"]:
    """Return each image's logit of its class."""
    logits = net(images, [LOGITS], **options)[LOGITS]
    return jnp.take_along_axis(logits, classes[:, None], axis=1)[:, 0]


def gradient(
    net: TracedNet, images: Images, classes: Classes, rule: Rule = "gradient"
) -> PixelMaps:
    """Return the class score's gradient by the pixels (Simonyan et al. 2013, arXiv:1312.6034).

    With the rule ``guided`` it is guided backpropagation (Springenberg et al. 2014), with
    ``deconvnet`` the class's projection to pixel space (Zeiler and Fergus 2013).
    """
    return jax.grad(lambda pixels: scores(net, pixels, classes, rule=rule).sum())(images)


# Methods that take many gradients loop in Python: XLA:CPU is slow at gradients of convolutions in
# compiled loops (see `kernels.cpu_dispatch`).


def integrated_gradients(
    net: TracedNet,
    images: Images,
    classes: Classes,
    steps: int = 64,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PixelMaps:
    """Return the mean gradient along the line from the mean image, times the difference to it.

    Sundararajan, Taly and Yan 2017 (arXiv:1703.01365), equation 1, by the midpoint rule. The map
    adds up to the difference of the scores at both ends.

    Args:
        net: the net.
        images: normalised.
        classes: whose score.
        steps: of the midpoint rule.
        progress: called with (steps done, steps).
    """
    slope = jax.jit(lambda share: gradient(net, share * images, classes))
    total = jnp.zeros_like(images)
    for step in range(steps):
        total += slope((step + 0.5) / steps)
        progress(step + 1, steps)
    return images * total / steps


def smooth_grad(
    net: TracedNet,
    images: Images,
    classes: Classes,
    key: Key[Array, ""],
    *,
    samples: int = 50,
    noise: float = 0.15,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PixelMaps:
    """Return the mean gradient at noisy copies (Smilkov et al. 2017, arXiv:1706.03825).

    Args:
        net: the net.
        images: normalised.
        classes: whose score.
        key: of the noise.
        samples: copies; 50 in the paper.
        noise: standard deviation as a share of each image's range; 0.1 to 0.2 in the paper.
        progress: called with (samples done, samples).
    """
    axes = tuple(range(1, images.ndim))
    spread = images.max(axes, keepdims=True) - images.min(axes, keepdims=True)

    @jax.jit
    def at(sample):
        grain = jax.random.normal(jax.random.fold_in(key, sample), images.shape)
        if images.ndim == 3:  # a sequence is as long as it was
            grain = jnp.where((images != 0).any(axis=2, keepdims=True), grain, 0)
        return gradient(net, images + noise * spread * grain, classes)

    total = jnp.zeros_like(images)
    for sample in range(samples):
        total += at(sample)
        progress(sample + 1, samples)
    return total / samples


def _maps_and_gradients(
    net: TracedNet, images: Images, classes: Classes, layer: str
) -> tuple[Array, Array]:
    """Return a layer's maps, and the class scores' gradient by them."""
    shape = (len(images), *net.shape(layer, spatial=True))

    def score(added):
        outputs = net(images, [layer, LOGITS], added={layer: added})
        of_class = jnp.take_along_axis(outputs[LOGITS], classes[:, None], axis=1)
        return of_class.sum(), outputs[layer]

    gradients, maps = jax.grad(score, has_aux=True)(jnp.zeros(shape))
    return maps, gradients


def grad_cam(net: TracedNet, images: Images, classes: Classes, layer: str) -> Heat:
    """Return Grad-CAM on a layer's grid (Selvaraju et al. 2016, arXiv:1610.02391, section 3)."""
    maps, gradients = _maps_and_gradients(net, images, classes, layer)
    weights = gradients.mean(axis=tuple(range(1, gradients.ndim - 1)), keepdims=True)
    return jnp.maximum((weights * maps).sum(axis=-1), 0.0)


def grad_cam_plus_plus(net: TracedNet, images: Images, classes: Classes, layer: str) -> Heat:
    """Return Grad-CAM++ on a layer's grid (Chattopadhay et al. 2017, arXiv:1710.11063, eq. 19).

    As in the paper the score is the exponential of the logit, so that all derivatives are powers
    of the first.
    """
    maps, gradients = _maps_and_gradients(net, images, classes, layer)
    places = tuple(range(1, maps.ndim - 1))
    total = maps.sum(axis=places, keepdims=True)
    divisor = 2.0 * gradients**2 + total * gradients**3
    alpha = jnp.where(divisor != 0.0, gradients**2 / jnp.where(divisor != 0.0, divisor, 1.0), 0.0)
    weights = (alpha * jnp.maximum(gradients, 0.0)).sum(axis=places, keepdims=True)
    return jnp.maximum((weights * maps).sum(axis=-1), 0.0)


def occlusion(
    net: TracedNet,
    images: Images,
    classes: Classes,
    *,
    side: int,
    stride: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Float[Array, "batch rows columns"]:
    """Return the class's probability with a grey square over each place in turn.

    Zeiler and Fergus 2013, figure 6 (d). The square is the data set's mean colour, zero in
    normalised images; its centres stand ``stride`` pixels apart, over the whole image.

    Args:
        net: the net.
        images: normalised.
        classes: whose probability.
        side: of the square, in pixels.
        stride: pixels from one place to the next.
        progress: called with (places done, places).
    """
    height, width = images.shape[1:3]
    rows, columns = jnp.arange(0, height, stride), jnp.arange(0, width, stride)
    y, x = jnp.arange(height)[:, None], jnp.arange(width)[None]

    @jax.jit
    def row_of(row):
        def probability(column):
            top, left = row - side // 2, column - side // 2
            covered = (y >= top) & (y < top + side) & (x >= left) & (x < left + side)
            occluded = jnp.where(covered[None, :, :, None], 0.0, images)
            logits = net(occluded, [LOGITS])[LOGITS]
            shares = jax.nn.softmax(logits)
            return jnp.take_along_axis(shares, classes[:, None], axis=1)[:, 0]

        return jax.lax.map(probability, columns)

    by_row = []
    for number, row in enumerate(rows):
        by_row.append(row_of(row))
        progress((number + 1) * len(columns), len(rows) * len(columns))
    return jnp.moveaxis(jnp.stack(by_row), 2, 0)


def occlusion_of_sequences(
    net: TracedNet,
    sequences: Float[Array, "batch length channels"],
    classes: Classes,
    *,
    side: int,
    stride: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Float[Array, "batch places"]:
    """Return the class's probability with zeros over a few positions around each place in turn.

    Args:
        net: the net.
        sequences: as the net takes them; zeros are no token, or silence.
        classes: whose probability.
        side: positions that are covered at a time.
        stride: positions from the middle of one cover to that of the next. Each place is the middle
            of as many positions, so that a map is enlarged to the sequence by repetition or
            linearly, as a picture's.
        progress: called with (places done, places).
    """
    length = sequences.shape[1]
    positions = jnp.arange(length)
    places = range(stride // 2, length, stride)

    @jax.jit
    def at(place):
        first = place - side // 2
        covered = (positions >= first) & (positions < first + side)
        occluded = jnp.where(covered[None, :, None], 0.0, sequences)
        shares = jax.nn.softmax(net(occluded, [LOGITS])[LOGITS])
        return jnp.take_along_axis(shares, classes[:, None], axis=1)[:, 0]

    found = []
    for number, place in enumerate(places, 1):
        found.append(at(place))
        progress(number, len(places))
    return jnp.stack(found, axis=1)


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
