"""What a layer's channels look for: their strongest places, projected back to pixels.

Zeiler and Fergus 2013, "Visualizing and understanding convolutional networks" (arXiv:1311.2901):
for a channel the nine strongest activations of a data set, one an image, each alone in its map,
sent back through unpooling switches, rectification and transposed filters.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from deeper.interpret.traced_net import Images, TracedNet

TOP = 9


@dataclass(frozen=True)
class Strongest:
    """The strongest places of every channel of a layer, the strongest first.

    Attributes:
        activation: (channels, TOP); minus infinity where there were fewer images.
        image: their numbers.
        row, column: places on the layer's maps.
    """

    activation: Float[np.ndarray, "channels top"]
    image: Int[np.ndarray, "channels top"]
    row: Int[np.ndarray, "channels top"]
    column: Int[np.ndarray, "channels top"]

    def channels(self, n: int) -> Int[np.ndarray, " n"]:
        """Return the n channels with the largest mean activation over their strongest places."""
        means = np.where(np.isfinite(self.activation), self.activation, 0.0).mean(axis=1)
        return np.argsort(-means, kind="stable")[:n]


def strongest(
    net: TracedNet,
    layers: Iterable[str],
    batches: Iterable[tuple[Int[np.ndarray, " batch"], Images]],
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Strongest]:
    """Go through a data set once and remember each channel's strongest places.

    Memory holds one batch and `TOP` places a channel, whatever the size of the data set.

    Args:
        net: the net.
        layers: with maps.
        batches: numbers of the images, -1 for padding, and the images, normalised.
        progress: told of the images done.
    """
    layers = list(layers)
    channels = {layer: net.shape(layer, spatial=True)[-1] for layer in layers}

    @jax.jit
    def peaks(images):
        out = {}
        for layer, maps in net(images, layers).items():
            flat = maps.reshape(len(maps), -1, maps.shape[-1])
            places = flat.argmax(axis=1)
            out[layer] = jnp.take_along_axis(flat, places[:, None], axis=1)[:, 0], places
        return out

    kept = {
        layer: (np.full((n, TOP), -np.inf, np.float32), np.zeros((2, n, TOP), np.int64))
        for layer, n in channels.items()
    }
    done = 0
    for numbers, images in batches:
        found = jax.tree.map(np.asarray, peaks(images))
        real = numbers >= 0
        for layer, (values, places) in found.items():
            values = np.concatenate([kept[layer][0], values[real].T], axis=1)
            who = np.broadcast_to(numbers[real], (values.shape[0], int(real.sum())))
            facts = np.concatenate([kept[layer][1], np.stack([who, places[real].T])], axis=2)
            best = np.argsort(-values, axis=1, kind="stable")[:, :TOP]
            kept[layer] = (
                np.take_along_axis(values, best, axis=1),
                np.take_along_axis(facts, best[None], axis=2),
            )
        done += int(real.sum())
        progress(done)
    out = {}
    for layer, (values, (image, place)) in kept.items():
        row, column = np.divmod(place, net.shape(layer)[1])
        out[layer] = Strongest(values, image, row, column)
    return out


def project(
    net: TracedNet,
    images: Images,
    layer: str,
    channels: Int[Array, " batch"],
    rows: Int[Array, " batch"],
    columns: Int[Array, " batch"],
) -> Float[Array, "batch height width channels"]:
    """Return one activation an image, projected back to its pixels.

    Args:
        net: the net.
        images: normalised.
        layer: with maps.
        channels: of each image's activation.
        rows: likewise its place.
        columns: likewise.
    """
    maps, back = jax.vjp(lambda pixels: net(pixels, [layer], rule="deconvnet")[layer], images)
    each = jnp.arange(len(images))
    alone = (
        jnp.zeros_like(maps)
        .at[each, rows, columns, channels]
        .set(maps[each, rows, columns, channels])
    )
    return back(alone)[0]
