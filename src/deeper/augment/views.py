"""Several views of an image at evaluation, whose answers are averaged."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Num

from deeper.errors import UserError

Images = Num[Array, "batch height width channels"]
Views = Callable[[Images], Num[Array, "views batch height width channels"]]

PROTOCOLS = {
    "none": "1-crop, images as stored",
    "flip": "images as stored and mirrored, probabilities averaged",
    "ten_crop": "10-crop: corners and centre of the image with {padding} pixels of zeros on each "
    "side, as they are and mirrored, probabilities averaged",
}


def views(name: str, padding: int, size: tuple[int, int] | None = None) -> Views | None:
    """Return what makes the views of a batch, or None for the images as they are.

    Args:
        name: none, flip, or ten_crop (Krizhevsky et al. 2012, section 4.1: corners and centre,
            mirrored too; there of 256 pixels, here of the image and its padding).
        padding: pixels of zeros on each side that the ten crops are cut from.
        size: (height, width) of the ten crops where the images are larger; nothing is padded then.
    """
    if name not in PROTOCOLS:
        raise UserError(f"views={name} is unknown; choose {', '.join(PROTOCOLS)}.")
    if name == "none":
        return None
    if name == "flip":
        return mirrored_too
    if size is None and padding < 1:
        raise UserError(f"padding={padding}: with views=ten_crop give at least 1.")

    def ten(images: Images) -> Num[Array, "views batch height width channels"]:
        height, width = size or images.shape[1:3]
        border = ((0, 0), (padding, padding), (padding, padding), (0, 0))
        wide = jnp.pad(images, border) if size is None else images
        down, along = wide.shape[1] - height, wide.shape[2] - width
        corners = ((0, 0), (0, along), (down, 0), (down, along), (down // 2, along // 2))
        crops = [wide[:, y : y + height, x : x + width] for y, x in corners]
        return jnp.concatenate([mirrored_too(crop) for crop in crops])

    return ten


def mirrored_too(images: Images) -> Num[Array, "two batch height width channels"]:
    """Return images as they are, and mirrored left and right."""
    return jnp.stack([images, images[:, :, ::-1]])
