"""JPEG on the device against Pillow, to the bit."""

import io

import jax
import numpy as np
import pytest
from PIL import Image

from deeper.augment.jpeg import jpeg


def by_pillow(image, quality):
    file = io.BytesIO()
    Image.fromarray(image.squeeze()).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).reshape(image.shape)


def picture(height, width, channels):
    """Return smooth colours with edges and noise."""
    random = np.random.default_rng(height * width)
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([120 + 90 * np.sin(x / 5 + k) * np.cos(y / 7 - k) for k in range(channels)])
    smooth[:, height // 3 :, : width // 2] *= 0.4
    noisy = smooth.transpose(1, 2, 0) + random.normal(0, 12, (height, width, channels))
    return np.clip(noisy, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("shape", "quality"),
    [((28, 28, 1), 40), ((28, 28, 3), 85), ((37, 51, 3), 7), ((48, 64, 3), 50)],
)
def test_the_device_compresses_as_pillow_does_to_the_bit(shape, quality):
    image = picture(*shape)
    ours = jax.jit(jpeg, static_argnums=1)(image, quality)
    np.testing.assert_array_equal(np.asarray(ours), by_pillow(image, quality))
