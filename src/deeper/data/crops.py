"""The random crops of the papers, and the central crop of evaluation.

A crop is a box in the pixels of the photograph, with fractional coordinates, and whether it is
mirrored. `cut_into` resizes the content of the box to the input size of the net in one step.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from deeper.errors import UserError

Pixels = UInt8[np.ndarray, "height width channels"]


FILTERS = {  # of Pillow
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# How far each filter reads, in pixels of the result.
REACH = {"bilinear": 1.0, "bicubic": 2.0, "lanczos": 3.0}


class Box(NamedTuple):
    """Integer pixels of a photograph: rows top to bottom - 1, columns left to right - 1."""

    top: int
    left: int
    bottom: int
    right: int


class Crop(NamedTuple):
    """A box in a photograph, in its pixels.

    Attributes:
        top: first row.
        left: first column.
        height: number of rows.
        width: number of columns.
        mirrored: exchange left and right.
        crop_first: crop, then resize; otherwise resize, then crop, which lets the filter read
            pixels outside the box.
    """

    top: float
    left: float
    height: float
    width: float
    mirrored: bool
    crop_first: bool = False

    def box(self, size: tuple[int, int], out: tuple[int, int], reach: float = 1.0) -> Box:
        """Return the pixels that resizing the crop to ``out`` reads.

        Args:
            size: (height, width) of the photograph.
            out: (height, width) of the result.
            reach: of the filter, see `REACH`.
        """
        bottom, right = self.top + self.height, self.left + self.width
        if self.crop_first:
            return Box(round(self.top), round(self.left), round(bottom), round(right))
        down = reach * max(self.height / out[0], 1.0)
        along = reach * max(self.width / out[1], 1.0)
        return Box(
            max(math.floor(self.top - down), 0),
            max(math.floor(self.left - along), 0),
            min(math.ceil(bottom + down), size[0]),
            min(math.ceil(right + along), size[1]),
        )


Draw = Callable[[np.random.Generator, tuple[int, int], tuple[int, int]], Crop]


def inception(rng: np.random.Generator, size: tuple[int, int], out: tuple[int, int]) -> Crop:
    """Draw 8 to 100 % of the area at an aspect ratio of 3/4 to 4/3.

    Szegedy et al. 2014 (arXiv:1409.4842, section 6). As in torchvision's RandomResizedCrop, the
    ratio is uniform in its logarithm, coordinates are integers, and after ten draws that do not fit
    the largest central crop is taken.

    Args:
        rng: random generator of the example.
        size: (height, width) of the photograph.
        out: (height, width) of the net's input; unused here.
    """
    del out
    height, width = size
    for _ in range(10):
        area = height * width * rng.uniform(0.08, 1.0)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
            return _crop_first(top, left, h, w, bool(rng.integers(2)))
    w, h = width, height
    if width / height < 3 / 4:
        h = round(width / (3 / 4))
    elif width / height > 4 / 3:
        w = round(height * (4 / 3))
    return _crop_first((height - h) // 2, (width - w) // 2, h, w, bool(rng.integers(2)))


def _crop_first(top: int, left: int, height: int, width: int, mirrored: bool) -> Crop:
    return Crop(float(top), float(left), float(height), float(width), mirrored, crop_first=True)


def vgg(rng: np.random.Generator, size: tuple[int, int], out: tuple[int, int]) -> Crop:
    """Resize the shorter side to a random length of 256 to 512, then crop at random.

    Simonyan and Zisserman 2014 (arXiv:1409.1556, section 3.1, scale jittering).
    """
    return _of_scale(rng, size, out, int(rng.integers(256, 513)))


def resnet(rng: np.random.Generator, size: tuple[int, int], out: tuple[int, int]) -> Crop:
    """Resize the shorter side to a random length of 256 to 480, then crop at random.

    He et al. 2015 (arXiv:1512.03385, section 3.4).
    """
    return _of_scale(rng, size, out, int(rng.integers(256, 481)))


def alexnet(rng: np.random.Generator, size: tuple[int, int], out: tuple[int, int]) -> Crop:
    """Resize the shorter side to 256, take the central square, then crop it at random.

    Krizhevsky et al. 2012, sections 2 and 4.1.
    """
    height, width = size
    side = min(height, width)
    inner = _of_scale(rng, (side, side), out, 256)
    return inner._replace(
        top=inner.top + (height - side) // 2, left=inner.left + (width - side) // 2
    )


DRAWS: dict[str, Draw] = {"inception": inception, "vgg": vgg, "resnet": resnet, "alexnet": alexnet}


def draw_of(name: str) -> Draw:
    """Return a random crop by its name in `DRAWS`.

    Raises:
        UserError: the name is unknown.
    """
    if name not in DRAWS:
        raise UserError(f"data.crop={name} is unknown; choose {', '.join(DRAWS)} or middle.")
    return DRAWS[name]


def _of_scale(
    rng: np.random.Generator, size: tuple[int, int], out: tuple[int, int], shorter: int
) -> Crop:
    """Crop ``out`` pixels at random from a photograph resized to the shorter side ``shorter``.

    ``shorter`` is stated for an input of 224 pixels, and scales with the size of the input.
    """
    scale = shorter / 224 * min(out) / min(size)
    h, w = min(out[0] / scale, size[0]), min(out[1] / scale, size[1])
    top, left = rng.uniform(0, size[0] - h), rng.uniform(0, size[1] - w)
    return Crop(top, left, h, w, bool(rng.integers(2)))


def middle(size: tuple[int, int], out: tuple[int, int], shorter: int) -> Crop:
    """Return the central ``out`` pixels of a photograph resized to the shorter side ``shorter``.

    As in torchvision (Resize and CenterCrop), sizes are truncated to integers and positions are
    rounded. If a crop that is not square does not fit into the resized photograph, the photograph
    is resized, keeping its aspect ratio, so that the crop just fits.

    Raises:
        UserError: the shorter side is less than that of the crop.
    """
    height, width = size
    if min(out) > shorter:
        raise UserError(f"data.shorter_side={shorter} is less than the net's {min(out)} pixels.")
    if height <= width:
        resized = shorter, int(shorter * width / height)
    else:
        resized = int(shorter * height / width), shorter
    if resized[0] < out[0] or resized[1] < out[1]:
        if out[0] * width >= out[1] * height:
            resized = out[0], max(int(out[0] * width / height), out[1])
        else:
            resized = max(int(out[1] * height / width), out[0]), out[1]
    top, left = round((resized[0] - out[0]) / 2.0), round((resized[1] - out[1]) / 2.0)
    down, along = height / resized[0], width / resized[1]
    return Crop(top * down, left * along, out[0] * down, out[1] * along, False)


def cut_into(
    image: Pixels,
    pixels: Pixels,
    crop: Crop,
    box: Box,
    antialias: bool | Literal["fast"],
    interpolation: str = "bilinear",
) -> None:
    """Resize the content of a crop into an array.

    Args:
        image: output array, contiguous.
        pixels: pixels of the photograph in ``box``.
        crop: the crop, in pixels of the photograph.
        box: the pixels that are read, from `Crop.box`.
        antialias: widen the filter when shrinking: with True by Pillow's code, as in torchvision;
            with "fast" by that of cykooz-resizer, whose results are within one grey level of
            Pillow's; with False interpolate between four pixels, by OpenCV.
        interpolation: a name in `FILTERS`; with ``antialias`` other than True bilinear alone.
    """
    out = image.shape[:2]
    top, left = (0.0, 0.0) if crop.crop_first else (crop.top - box.top, crop.left - box.left)
    bottom, right = top + crop.height, left + crop.width
    height, width = pixels.shape[:2]
    within = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
    if antialias == "fast":
        found = _resized_fast(pixels, within, out)
        if not crop.mirrored:
            image[:] = found
            return
        for channel in range(image.shape[2]):  # a quarter of the time of all at once
            image[..., channel] = found[:, ::-1, channel]
        return
    if antialias:
        picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        picture = picture.resize(out[::-1], FILTERS[interpolation], box=within)
        if crop.mirrored:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        image[:] = np.asarray(picture).reshape(image.shape)
        return
    cv2 = opencv()
    if crop.crop_first:
        cv2.resize(pixels, out[::-1], dst=image, interpolation=cv2.INTER_LINEAR)
    else:
        down, along = crop.height / out[0], crop.width / out[1]
        places = np.array(
            [[along, 0, left + along / 2 - 0.5], [0, down, top + down / 2 - 0.5]], np.float64
        )
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        cv2.warpAffine(
            pixels, places, out[::-1], dst=image, flags=how, borderMode=cv2.BORDER_REPLICATE
        )
    if crop.mirrored:
        cv2.flip(image, 1, dst=image)


def _resized_fast(
    pixels: Pixels, within: tuple[float, float, float, float], out: tuple[int, int]
) -> Pixels:
    """Resize a box (left, top, right, bottom) by cykooz-resizer's bilinear convolution."""
    fast = resizer()
    (height, width, channels), (left, top, right, bottom) = pixels.shape, within
    kind = fast.PixelType.U8 if channels == 1 else fast.PixelType.U8x3
    result = fast.ImageData(out[1], out[0], kind)
    options = fast.ResizeOptions(
        resize_alg=fast.ResizeAlg.convolution(fast.FilterType.bilinear),
        crop_box=fast.CropBox(left, top, right - left, bottom - top),
        use_alpha=False,
    )
    # One for each call: two threads may not use one at a time.
    fast.Resizer().resize(fast.ImageData(width, height, kind, pixels.tobytes()), result, options)
    return np.frombuffer(result.get_buffer(), np.uint8).reshape(*out, channels)


@lru_cache
def resizer() -> Any:
    """Return the module cykooz_resizer, an optional dependency.

    Raises:
        UserError: it is not installed.
    """
    try:
        import cykooz_resizer
    except ImportError as error:
        raise UserError(
            "data.antialias=fast needs cykooz-resizer: run scripts/setup resizer, or "
            "pip install cykooz-resizer."
        ) from error
    return cykooz_resizer


@lru_cache
def opencv() -> Any:
    """Return the module cv2 (OpenCV), an optional dependency.

    Raises:
        UserError: it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise UserError(
            "data.antialias=false needs OpenCV: run scripts/setup opencv, or "
            "pip install opencv-python-headless."
        ) from error
    cv2.setNumThreads(1)  # photographs are already processed in parallel
    return cv2
