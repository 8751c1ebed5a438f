"""Nets in fully convolutional form, which answer for images of any size.

Simonyan and Zisserman 2014 (arXiv:1409.1556), section 3.2: "the fully-connected layers are first
converted to convolutional layers (the first FC layer to a 7 x 7 conv. layer, the last two FC layers
to 1 x 1 conv. layers). The resulting fully-convolutional net is then applied to the whole
(uncropped) image. [...] the class score map is spatially averaged". So the dense layers look at
every window of the last map that is as large as the map that they were trained on, and the scores
in front of the softmax are averaged.

A net that ends in the mean over each map and one dense layer is that as it is: the dense layer is
linear, so its answer to the mean is the mean of its answers at all places.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Array, Float, Int32

from deeper.errors import UserError
from deeper.kernels import cpu_dispatch
from deeper.models import valid_region
from deeper.models.example import batch_of
from deeper.models.initializers import shapes_of
from deeper.models.vgg import VGG

MORE = 64  # pixels: of two sizes that far apart no layer of a net has maps of the same size


def over_whole_images(net: nn.Module, image_shape: Sequence[int]) -> nn.Module:
    """Return a net, of the same variables, that answers for images of any size.

    Args:
        net: follows the package's contract.
        image_shape: (height, width, channels) of the images that it was trained on.

    Raises:
        UserError: it has no such form.
    """
    height, width, channels = image_shape
    if not hasattr(net, "window"):
        if not fits(net, (height, width, channels), (height + MORE, width + MORE, channels)):
            raise UserError(
                f"{type(net).__name__} cannot see images whole: its dense layers take maps of one "
                "size. Choose protocol=1crop or 10crop."
            )
        return net
    if isinstance(net, VGG) and min(height, width) < 32:
        raise UserError(
            f"A VGG net for {height}x{width} pixels leaves out its last pooling and cannot see "
            "larger images whole. Choose protocol=1crop or 10crop."
        )
    return net.clone(window=_last_map(net, (height, width, channels)))


def answer(
    net: nn.Module,
    variables: Any,
    images: Float[Array, "batch height width channels"],
    sizes: Int32[Array, "batch 2"],
) -> Float[Array, "batch classes"]:
    """Return logits of images that may be smaller than their array; see `valid_region`.

    Args:
        net: from `over_whole_images`; if it is not `of_our_layers`, images fill their array.
        variables: params and batch_stats.
        images: normalised, each in the upper left.
        sizes: (height, width) of each, seven eighths of the array's at least.
    """
    if not of_our_layers(net):
        return net.apply(variables, images, train=False)  # type: ignore[return-value]
    with valid_region.images_of((images.shape[1], images.shape[2]), sizes):
        return net.apply(variables, images, train=False)  # type: ignore[return-value]


def of_our_layers(net: nn.Module) -> bool:
    """Return whether a net is one of this package's, whose layers know of `valid_region`."""
    own = [one for one in type(net).__mro__ if issubclass(one, nn.Module) and one is not nn.Module]
    return all(one.__module__.startswith("deeper.models.") for one in own)


def fits(net: nn.Module, one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    """Return whether images of two shapes need the same variables."""
    return _sizes(net, one) == _sizes(net, other)


def _sizes(net: nn.Module, image_shape: tuple[int, int, int]) -> Any:
    return jax.tree.map(lambda leaf: leaf.shape, shapes_of(net, image_shape))


def _last_map(net: nn.Module, image_shape: tuple[int, int, int]) -> tuple[int, int]:
    """Return the size of the last stage's map."""
    stages: dict[str, tuple[int, int]] = {}

    def forward(variables: Any, images: Any) -> None:
        _, kept = net.apply(variables, images, train=False, mutable=["intermediates"])
        # Read inside the trace, where they are in the order in which the net sowed them.
        stages.update((name, maps.shape[1:3]) for name, (maps,) in kept["intermediates"].items())

    with cpu_dispatch.turned_off():
        jax.eval_shape(forward, shapes_of(net, image_shape), batch_of(image_shape, 1))
    return list(stages.values())[-1]
