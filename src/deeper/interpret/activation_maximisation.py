"""Images that maximise the activation of a class or a channel, by gradient ascent."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from deeper.augment.crops_and_colour import blurred
from deeper.interpret.traced_net import LOGITS, Images, TracedNet

STEP_SIZE, DECAY = 1.0, 0.01  # norm of a step; share of the image that L2 decay removes
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
    """Return an image for each unit, normalised.

    Gradient ascent on the unit's activation (for a channel the mean over its map) from faint noise,
    by steps of equal norm. The regularisers are those of Yosinski et al. 2015 (arXiv:1506.06579),
    L2 decay and a Gaussian blur every few steps, and the jitter of Mordvintsev et al. 2015
    (Inceptionism).

    Args:
        net: the net.
        layer: with maps, or ``logits``.
        units: channels or classes.
        key: of the noise and the jitter.
        image_shape: (height, width, channels).
        steps: of the ascent.
        regularised: whether there are regularisers; without, high frequencies dominate the images.
        progress: called with (steps done, steps).
    """
    spatial = layer != LOGITS and net.has_maps(layer)

    def activation(images):
        outputs = net(images, [layer])[layer]
        values = outputs.mean((1, 2)) if spatial else outputs
        return jnp.take_along_axis(values, units[:, None], axis=1).sum()

    @jax.jit
    def ascend(number, images):
        shift = jnp.zeros(2, jnp.int32)
        if regularised:
            random = jax.random.fold_in(key, number)
            shift = jax.random.randint(random, (2,), -JITTER, JITTER + 1)
        moved = jnp.roll(images, shift, axis=(1, 2))
        gradient = jnp.roll(jax.grad(activation)(moved), -shift, axis=(1, 2))
        norm = jnp.sqrt((gradient**2).sum(axis=(1, 2, 3), keepdims=True))
        images = images + STEP_SIZE * gradient / jnp.maximum(norm, 1e-12)
        if not regularised:
            return images
        images = (1.0 - DECAY) * images
        smooth = blurred(images, jnp.full(len(images), BLUR_WIDTH), BLUR_TAPS)
        return jnp.where(number % BLUR_EVERY == BLUR_EVERY - 1, smooth, images)

    noise = jax.random.normal(jax.random.fold_in(key, steps), (len(units), *image_shape))
    images: Float[Array, "batch height width channels"] = 0.1 * noise
    for number in range(steps):
        images = ascend(jnp.int32(number), images)
        progress(number + 1, steps)
    return images
