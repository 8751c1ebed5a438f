"""The strongest activations of a layer's channels, projected back to pixels by a deconvnet.

Zeiler and Fergus 2013, "Visualizing and understanding convolutional networks" (arXiv:1311.2901):
for a channel the nine strongest activations over a data set, at most one in an image. All other
activations of the layer are set to zero, and the maps go back through unpooling switches,
rectifiers and transposed filters.
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
        image: numbers of their images.
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
    """Return each channel's strongest places over a data set, in one pass.

    Memory holds one batch, and `TOP` places for each channel.

    Args:
        net: the net.
        layers: with maps.
        batches: numbers of the images, -1 for padding, and the images, normalised.
        progress: called with the images done.
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

    best = {
        layer: (np.full((n, TOP), -np.inf, np.float32), np.zeros((2, n, TOP), np.int64))
        for layer, n in channels.items()
    }
    done = 0
    for numbers, images in batches:
        is_image = numbers >= 0
        for layer, (values, places) in jax.tree.map(np.asarray, peaks(images)).items():
            values = np.concatenate([best[layer][0], values[is_image].T], axis=1)
            image = np.broadcast_to(numbers[is_image], (values.shape[0], int(is_image.sum())))
            new = np.stack([image, places[is_image].T])
            where = np.concatenate([best[layer][1], new], axis=2)
            order = np.argsort(-values, axis=1, kind="stable")[:, :TOP]
            best[layer] = (
                np.take_along_axis(values, order, axis=1),
                np.take_along_axis(where, order[None], axis=2),
            )
        done += int(is_image.sum())
        progress(done)
    strongest_of = {}
    for layer, (values, (image, place)) in best.items():
        row, column = np.divmod(place, net.shape(layer)[1])
        strongest_of[layer] = Strongest(values, image, row, column)
    return strongest_of


def project(
    net: TracedNet,
    images: Images,
    layer: str,
    channels: Int[Array, " batch"],
    rows: Int[Array, " batch"],
    columns: Int[Array, " batch"],
) -> Float[Array, "batch height width channels"]:
    """Return the projection of one activation of each image to its pixels.

    Args:
        net: the net.
        images: normalised.
        layer: with maps.
        channels: of each image's activation.
        rows: of each image's activation.
        columns: of each image's activation.
    """
    maps, project_back = jax.vjp(
        lambda pixels: net(pixels, [layer], rule="deconvnet")[layer], images
    )
    each = jnp.arange(len(images))
    alone = (
        jnp.zeros_like(maps)
        .at[each, rows, columns, channels]
        .set(maps[each, rows, columns, channels])
    )
    return project_back(alone)[0]
