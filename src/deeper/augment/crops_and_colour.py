"""Random operations on batches of images: crops, flips, holes, light and blur.

Each operation satisfies `pipeline.Operation`. Images stay 8-bit integers until an operation
(`Lighting`) makes fractional values of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Num

from deeper.errors import UserError

Images = Num[Array, "batch height width channels"]  # uint8 or float32
Keys = Key[Array, " batch"]


def _fill(values: Sequence[float], images: Images) -> Array:
    """Return a colour on the scale 0 to 1 as one pixel (1, 1, channels) of the images' dtype."""
    if len(values) not in (1, images.shape[-1]):
        raise UserError(
            f"A fill of {len(values)} values for images of {images.shape[-1]} channels: give one "
            "value per channel, on the scale 0 to 1."
        )
    pixel = 255.0 * jnp.asarray(values, jnp.float32).reshape(1, 1, -1)
    return (jnp.round(pixel) if images.dtype == jnp.uint8 else pixel).astype(images.dtype)


@dataclass(frozen=True)
class RandomCrop:
    """Pad every side and cut out a window of the original size (He et al. 2015, section 4.2).

    Attributes:
        padding: pixels added on each side.
        mode: fill of the padding: zero, as in the paper, or reflect.
    """

    padding: int
    mode: Literal["zero", "reflect"] = "zero"

    def __post_init__(self):
        """Check the values."""
        if self.mode not in ("zero", "reflect"):
            raise UserError(f"RandomCrop's mode={self.mode} is unknown; choose zero or reflect.")
        if not self.padding >= 0:
            raise UserError(f"RandomCrop's padding={self.padding}: give 0 or more.")

    def __call__(self, keys: Keys, images: Images) -> Images:
        _, height, width, channels = images.shape
        p = self.padding
        mode = "constant" if self.mode == "zero" else "reflect"
        padded = jnp.pad(images, ((0, 0), (p, p), (p, p), (0, 0)), mode=mode)

        def crop(key, image):
            top, left = jax.random.randint(key, (2,), 0, 2 * p + 1)
            return jax.lax.dynamic_slice(image, (top, left, 0), (height, width, channels))

        return jax.vmap(crop)(keys, padded)


@dataclass(frozen=True)
class RandomResizedCrop:
    """Cut out a rectangle of random area and shape and resize it (Szegedy et al. 2014, section 6).

    Follows torchvision's RandomResizedCrop on Pillow images: up to ten draws, then the largest
    central rectangle; a triangle filter, horizontal before vertical, with rounding in between.

    Attributes:
        size: side of the result in pixels; None keeps the size of the images.
        scale: least and largest area as a share of the image.
        ratio: least and largest ratio of width to height.
        antialias: widen the filter where the crop is larger than the result.
    """

    size: int | None = None
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    antialias: bool = True

    def __post_init__(self):
        """Make tuples of lists, as a config gives them, and check the values."""
        object.__setattr__(self, "scale", tuple(self.scale))
        object.__setattr__(self, "ratio", tuple(self.ratio))
        if not 0 < self.scale[0] <= self.scale[1] <= 1 or not 0 < self.ratio[0] <= self.ratio[1]:
            raise UserError(
                f"RandomResizedCrop's scale={list(self.scale)} ratio={list(self.ratio)}: give two "
                "rising numbers above 0, the scale's at most 1."
            )

    def __call__(self, keys: Keys, images: Images) -> Images:
        height, width = images.shape[1:3]
        out = (self.size or height, self.size or width)

        def crop(key, image):
            fits, drawn = self.box(key, height, width)
            ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
            most_tall = round(min(height, width / ratio))
            most_wide = round(min(width, height * ratio))
            margins = (height - most_tall) // 2, (width - most_wide) // 2
            central = jnp.array((*margins, most_tall, most_wide))
            top, left, tall, wide = jnp.where(fits, jnp.stack(drawn), central)
            return resized_crop(image, top, left, tall, wide, out, self.antialias)

        return jax.vmap(crop)(keys, images)

    def box(self, key: Key[Array, ""], height: int, width: int) -> tuple[Array, tuple[Array, ...]]:
        """Draw a rectangle inside an image of the given height and width.

        Returns:
            Whether one of ten draws fits into the image, and its (top, left, height, width).
        """
        area_key, ratio_key, place_key = jax.random.split(key, 3)
        area = (
            height
            * width
            * jax.random.uniform(area_key, (10,), minval=self.scale[0], maxval=self.scale[1])
        )
        low, high = np.log(self.ratio)
        shape = jnp.exp(jax.random.uniform(ratio_key, (10,), minval=low, maxval=high))
        wide = jnp.round(jnp.sqrt(area * shape)).astype(jnp.int32)
        tall = jnp.round(jnp.sqrt(area / shape)).astype(jnp.int32)
        fits = (wide > 0) & (wide <= width) & (tall > 0) & (tall <= height)
        first = jnp.argmax(fits)
        tall, wide = tall[first], wide[first]
        down, right = jax.random.uniform(place_key, (2,))
        top = jnp.floor(down * (height - tall + 1)).astype(jnp.int32)
        left = jnp.floor(right * (width - wide + 1)).astype(jnp.int32)
        return fits.any(), (top, left, tall, wide)


def resized_crop(
    image: Num[Array, "height width channels"],
    top: Array,
    left: Array,
    tall: Array,
    wide: Array,
    out: tuple[int, int],
    antialias: bool,
) -> Num[Array, "out_height out_width channels"]:
    """Resize a rectangle of an image to ``out``, reading no pixel outside the rectangle."""

    def weights(start, length, size, total):
        scale = length / size
        reach = jnp.maximum(scale, 1.0) if antialias else 1.0
        centre = start + (jnp.arange(size)[:, None] + 0.5) * scale
        places = jnp.arange(total)[None]
        near = jnp.maximum(0.0, 1.0 - jnp.abs(places + 0.5 - centre) / reach)
        near *= (places >= start) & (places < start + length)
        return near / near.sum(axis=1, keepdims=True)

    def rounded(values):
        if image.dtype != jnp.uint8:
            return values
        return jnp.clip(jnp.floor(values + 0.5), 0.0, 255.0)

    height, width, _ = image.shape
    exact = jax.lax.Precision.HIGHEST
    across, down = weights(left, wide, out[1], width), weights(top, tall, out[0], height)
    values = image.astype(jnp.float32)
    values = rounded(jnp.einsum("xw,hwc->hxc", across, values, precision=exact))
    values = rounded(jnp.einsum("yh,hxc->yxc", down, values, precision=exact))
    return values.astype(image.dtype)


@dataclass(frozen=True)
class Flip:
    """Mirror left and right with probability 0.5 (Krizhevsky et al. 2012, section 4.1)."""

    def __call__(self, keys: Keys, images: Images) -> Images:
        mirrored = jax.vmap(jax.random.bernoulli)(keys)
        return jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


@dataclass(frozen=True)
class Cutout:
    """Fill one square whose centre is anywhere in the image (DeVries and Taylor 2017).

    The square is clipped at the border, as in the paper.

    Attributes:
        size: side of the square in pixels.
        fill: colour of the square, one value per channel on the scale 0 to 1. The paper writes
            zeros into normalised images, which is the data set's mean.
    """

    size: int
    fill: tuple[float, ...]

    def __post_init__(self):
        """Make a tuple of a list, as a config gives it."""
        object.__setattr__(self, "fill", tuple(self.fill))

    def __call__(self, keys: Keys, images: Images) -> Images:
        _, height, width, _ = images.shape

        def covered(key):
            row_key, column_key = jax.random.split(key)
            top = jax.random.randint(row_key, (), 0, height) - self.size // 2
            left = jax.random.randint(column_key, (), 0, width) - self.size // 2
            return _rectangle((top, left, self.size, self.size), height, width)

        return jnp.where(jax.vmap(covered)(keys)[..., None], _fill(self.fill, images)[None], images)


@dataclass(frozen=True)
class RandomErasing:
    """Overwrite a rectangle that lies inside the image (Zhong et al. 2017, arXiv:1708.04896).

    Attributes:
        probability: share of the images that are erased, 0.5 in the paper.
        scale: least and largest area as a share of the image, 0.02 to 0.4 in the paper.
        ratio: least and largest ratio of height to width, 0.3 to 3.3 in the paper.
        fill: one value per channel on the scale 0 to 1; if empty, every pixel is random, which is
            the best variant of the paper.
    """

    probability: float = 0.5
    scale: tuple[float, float] = (0.02, 0.4)
    ratio: tuple[float, float] = (0.3, 1 / 0.3)
    fill: tuple[float, ...] = ()

    def __post_init__(self):
        """Make tuples of lists, as a config gives them, and check the values."""
        for name in ("scale", "ratio", "fill"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not 0 <= self.probability <= 1 or not 0 < self.scale[0] <= self.scale[1] < 1:
            raise UserError(
                f"RandomErasing's probability={self.probability:g} scale={list(self.scale)}: give "
                "shares from 0 to 1."
            )

    def __call__(self, keys: Keys, images: Images) -> Images:
        _, height, width, _ = images.shape

        def erase(key, image):
            chance, box_key, noise = jax.random.split(key, 3)
            fits, box = RandomResizedCrop(None, self.scale, self.ratio).box(box_key, height, width)
            used = fits & (jax.random.uniform(chance) < self.probability)
            inside = used & _rectangle(box, height, width)
            pixels = jax.random.randint(noise, image.shape, 0, 256).astype(image.dtype)
            fill = _fill(self.fill, images) if self.fill else pixels
            return jnp.where(inside[..., None], fill, image)

        return jax.vmap(erase)(keys, images)


def _rectangle(box: tuple[Array | int, ...], height: int, width: int) -> Array:
    """Return a mask (height, width) of the pixels inside a box (top, left, height, width)."""
    top, left, tall, wide = box
    rows, columns = jnp.arange(height), jnp.arange(width)
    inside_rows = (rows >= top) & (rows < top + tall)
    inside_columns = (columns >= left) & (columns < left + wide)
    return inside_rows[:, None] & inside_columns[None, :]


# Of the covariance of ImageNet's colours, for pixels on the scale 0 to 1: square roots of the
# eigenvalues, and the eigenvectors as columns (facebook/fb.resnet.torch, datasets/imagenet.lua).
EIGENVALUES = (0.2175, 0.0188, 0.0045)
EIGENVECTORS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)


@dataclass(frozen=True)
class Lighting:
    """Shift all pixels along ImageNet's principal colours (Krizhevsky et al. 2012, section 4.1).

    Attributes:
        std: standard deviation of the shift, in standard deviations of each principal colour; 0.1
            in the paper.
    """

    std: float = 0.1

    def __call__(self, keys: Keys, images: Images) -> Float[Array, "batch height width channels"]:
        if images.shape[-1] != 3:
            raise UserError("Lighting shifts red, green and blue: it needs images of 3 channels.")

        def shift(key):
            amounts = self.std * jax.random.normal(key, (3,)) * jnp.array(EIGENVALUES)
            return 255.0 * (jnp.array(EIGENVECTORS) * amounts[None]).sum(axis=1)

        return images.astype(jnp.float32) + jax.vmap(shift)(keys)[:, None, None]


@dataclass(frozen=True)
class Blur:
    """Smooth with a Gaussian of random width, as torchvision's GaussianBlur.

    Attributes:
        kernel: number of taps, odd.
        sigma: least and largest standard deviation in pixels.
        probability: share of the images that are blurred; 0.5 in SimCLR (Chen et al. 2020,
            appendix A).
    """

    kernel: int
    sigma: tuple[float, float] = (0.1, 2.0)
    probability: float = 1.0

    def __post_init__(self):
        """Make a tuple of a list, as a config gives it, and check the values."""
        object.__setattr__(self, "sigma", tuple(self.sigma))
        if not self.kernel >= 1 or self.kernel % 2 == 0:
            raise UserError(f"Blur's kernel={self.kernel}: give an odd number of taps.")
        if not 0 < self.sigma[0] <= self.sigma[1] or not 0 <= self.probability <= 1:
            raise UserError(
                f"Blur's sigma={list(self.sigma)} probability={self.probability:g}: give two "
                "rising widths above 0, and a share from 0 to 1."
            )

    def __call__(self, keys: Keys, images: Images) -> Images:
        chances, sizes = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
        sigmas = jax.vmap(
            lambda key: jax.random.uniform(key, minval=self.sigma[0], maxval=self.sigma[1])
        )(sizes)
        used = jax.vmap(jax.random.uniform)(chances) < self.probability
        return jnp.where(used[:, None, None, None], blurred(images, sigmas, self.kernel), images)


def blurred(images: Images, sigmas: Float[Array, " batch"], kernel: int) -> Images:
    """Smooth each image with a Gaussian of its own width, reflecting the border.

    Args:
        images: uint8 (rounded on return) or float32.
        sigmas: standard deviations in pixels.
        kernel: number of taps, odd.
    """
    reach = kernel // 2
    taps = jnp.exp(-0.5 * (jnp.arange(-reach, reach + 1)[None] / sigmas[:, None]) ** 2)
    taps /= taps.sum(axis=1, keepdims=True)
    height, width = images.shape[1:3]
    border = ((0, 0), (reach, reach), (reach, reach), (0, 0))
    values = jnp.pad(images.astype(jnp.float32), border, mode="reflect")
    weights = taps.T[..., None, None, None]  # taps, batch, 1, 1, 1
    down = jnp.stack([weights[i] * values[:, i : i + height] for i in range(kernel)]).sum(axis=0)
    across = jnp.stack([weights[i] * down[:, :, i : i + width] for i in range(kernel)]).sum(axis=0)
    return (jnp.round(across) if images.dtype == jnp.uint8 else across).astype(images.dtype)
