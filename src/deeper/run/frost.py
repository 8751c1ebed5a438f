"""The frost pictures of ImageNet-C, read from a directory of the user's.

They are frost1.png to frost3.png and frost4.jpg to frost6.jpg of
https://github.com/hendrycks/robustness (ImageNet-C/create_c); the package ``imagecorruptions`` has
the same. Where the pictures come from and under which licence is not said there, so that they are
no part of `deeper`.
"""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from deeper.augment.corruption_tables import FROST_SCALE
from deeper.augment.corruptions import LUMA, Pictures
from deeper.errors import UserError

FILES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")  # of six


def frost_pictures(directory: Path, strengths: str, shape: tuple[int, ...]) -> Pictures:
    """Read the pictures, in the size in which images of a data set are covered by them.

    Args:
        directory: has FILES.
        strengths: the data set whose strengths images get.
        shape: (height, width, channels) of the images.

    Raises:
        UserError: a picture is missing, damaged, or no larger than the images.
    """
    found = []
    for name in FILES:
        try:
            with Image.open(directory / name) as file:
                pixels = resized(np.asarray(file.convert("RGB")), FROST_SCALE[strengths])
        except (OSError, UnidentifiedImageError) as error:
            raise UserError(
                f"frost={directory}: {name} cannot be read ({type(error).__name__}). Give the "
                "directory of frost1.png to frost6.jpg, ImageNet-C/create_c of "
                "https://github.com/hendrycks/robustness."
            ) from error
        if pixels.shape[0] <= shape[0] or pixels.shape[1] <= shape[1]:
            raise UserError(
                f"frost={directory}: {name} covers {pixels.shape[0]}x{pixels.shape[1]} pixels, and "
                f"the images have {shape[0]}x{shape[1]}; leave frost out."
            )
        if shape[2] == 1:
            pixels = (pixels @ np.array(LUMA) + 0.5).astype(np.uint8)[..., None]
        found.append(pixels)
    largest = np.max([pixels.shape for pixels in found], axis=0)
    whole = np.zeros((len(found), *largest), np.uint8)
    for place, pixels in zip(whole, found, strict=True):
        place[: pixels.shape[0], : pixels.shape[1]] = pixels
    return Pictures(whole, np.array([pixels.shape[:2] for pixels in found], np.int32))


def resized(
    picture: UInt8[np.ndarray, "height width channels"], scale: float
) -> UInt8[np.ndarray, "lower narrower channels"]:
    """Return a picture made smaller as OpenCV does: linear between two pixels, in 1/2048."""
    if scale == 1:
        return picture
    rows, columns = (_between(side, scale) for side in picture.shape[:2])
    pixels = np.einsum("ih,hwc->iwc", rows, picture.astype(float))
    return (np.einsum("jw,iwc->ijc", columns, pixels) + 0.5).astype(np.uint8)


def _between(side: int, scale: float) -> np.ndarray:
    new = int(np.rint(side * scale))
    at = (np.arange(new) + 0.5) / scale - 0.5
    first = np.floor(at).astype(int)
    share = np.rint((at - first) * 2048) / 2048
    matrix = np.zeros((new, side))
    for place, weight in ((first, 1 - share), (first + 1, share)):
        matrix[np.arange(new), np.clip(place, 0, side - 1)] += weight
    return matrix
