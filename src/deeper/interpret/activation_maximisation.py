"""Images that a class or a channel answers most strongly to, found by climbing its gradient."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from deeper.augment.crops_and_colour import blurred
from deeper.interpret.traced_net import LOGITS, Images, TracedNet

RATE, DECAY = 1.0, 0.01
BLUR_EVERY, BLUR_WIDTH, BLUR_TAPS = 4, 0.5, 3
JITTER = 2  # pixels


def maximise(
    net: TracedNet,
    layer: str,
    units: Int[Array, " batch"],
    key: Key[Array, ""],
    image_shape: tuple[int, int, int],
    *,
    steps: int = 256,
    regularised: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Images:
    """Return an image a unit, normalised.

    The unit's activation (of a channel the mean over its map) is climbed from faint noise by steps
    of one norm. The regularisers are those of Yosinski et al. 2015 (arXiv:1506.06579), L2 decay and
    a Gaussian blur every few steps, and the jitter of Mordvintsev et al. 2015 (Inceptionism).

    Args:
        net: the net.
        layer: with maps, or ``logits``.
        units: channels or classes.
        key: of the noise and the jitter.
        image_shape: (height, width, channels).
        steps: of the climb.
        regularised: without, it finds the high frequencies that a net answers to as well.
        progress: told of (steps done, steps).
    """
    spatial = layer != LOGITS and net.has_maps(layer)

    def activation(images):
        found = net(images, [layer])[layer]
        values = found.mean((1, 2)) if spatial else found
        return jnp.take_along_axis(values, units[:, None], axis=1).sum()

    @jax.jit
    def climb(number, images):
        shift = jnp.zeros(2, jnp.int32)
        if regularised:
            random = jax.random.fold_in(key, number)
            shift = jax.random.randint(random, (2,), -JITTER, JITTER + 1)
        moved = jnp.roll(images, shift, axis=(1, 2))
        slope = jnp.roll(jax.grad(activation)(moved), -shift, axis=(1, 2))
        size = jnp.sqrt((slope**2).sum(axis=(1, 2, 3), keepdims=True))
        images = images + RATE * slope / jnp.maximum(size, 1e-12)
        if not regularised:
            return images
        images = (1.0 - DECAY) * images
        smooth = blurred(images, jnp.full(len(images), BLUR_WIDTH), BLUR_TAPS)
        return jnp.where(number % BLUR_EVERY == BLUR_EVERY - 1, smooth, images)

    noise = jax.random.normal(jax.random.fold_in(key, steps), (len(units), *image_shape))
    images: Float[Array, "batch height width channels"] = 0.1 * noise
    for number in range(steps):
        images = climb(jnp.int32(number), images)
        progress(number + 1, steps)
    return images
