"""Test-time augmentation: several views of an image, over which predictions are averaged."""

import jax.numpy as jnp
from jaxtyping import Array, Num

Images = Num[Array, "batch height width channels"]


def mirrored_too(images: Images) -> Num[Array, "2 batch height width channels"]:
    """Stack the images and their mirror images (left and right exchanged)."""
    return jnp.stack([images, images[:, :, ::-1]])


def ten_crops(
    images: Images, size: tuple[int, int]
) -> Num[Array, "10 batch height width channels"]:
    """Cut out the four corners and the centre, and add the mirror image of each.

    Krizhevsky et al. 2012, section 4.1: "extracting five 224 x 224 patches (the four corner patches
    and the center patch) as well as their horizontal reflections (hence ten patches in all), and
    averaging the predictions made by the network's softmax layer on the ten patches".

    Args:
        images: images at least as large as the crops.
        size: (height, width) of the crops, in pixels.
    """
    height, width = size
    down, along = images.shape[1] - height, images.shape[2] - width
    corners = ((0, 0), (0, along), (down, 0), (down, along), (down // 2, along // 2))
    crops = [images[:, y : y + height, x : x + width] for y, x in corners]
    return jnp.concatenate([mirrored_too(crop) for crop in crops])


def on_zeros(images: Images, padding: int) -> Images:
    """Pad each side of the images with ``padding`` pixels of zeros."""
    return jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
