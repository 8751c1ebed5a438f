"""What experiments/robustness/golden.py and the tests of the corruptions share; NumPy alone."""

import numpy as np

NAMES = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)


def seed(name: str, severity: int) -> int:
    """Return the seed of ``numpy.random`` for one corruption."""
    return 10 * NAMES.index(name) + severity


def ice(number: int) -> np.ndarray:
    """Return a made-up frost picture (height, width, 3)."""
    height, width = 300 + 25 * number, 420 - 15 * number
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return ((x * x // (7 + number) + 3 * y * y // (11 + c) + x * y // 5) % 256).astype(np.uint8)


def windows(image: np.ndarray) -> np.ndarray:
    """Return what is kept of a result: all of a small one, nine windows of 8 pixels of others."""
    side = image.shape[0]
    if side < 64:
        return image
    begins = (0, side // 2 - 4, side - 8)
    return np.stack([image[y : y + 8, x : x + 8] for y in begins for x in begins])
