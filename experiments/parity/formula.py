"""Weights, statistics and images that both sides compute with numpy, with equal bits.

Value i of the array with torchvision's name NAME is computed from a 32-bit hash of (i, NAME, seed):
h = i * 2654435761 + crc32(NAME) + 40503 * seed, twice h = (h ^ h >> 16) * 73244475, then
h ^ h >> 16 (all modulo 2^32), and u = 2 h / 2^32 - 1, uniform in -1 to 1. Then

    kernels             u * sqrt(6 / fan in)    He's variance, so that signals keep their size
    BatchNorm's weight  0.2 (1 + 0.2 u)
    BatchNorm's bias    +1 or -1, u's sign; always +1 where a sum may follow (bn2, bn3, downsample;
                        of RegNet f.c and proj)
    other biases        0.1 u
    running mean        0.1 u
    running variance    1 + 0.5 u
    images              2 u

With these values of BatchNorm the inputs of the rectifiers are five standard deviations away from
zero, where rounding would decide whether a gradient passes. README.md shows the effect.
"""

import zlib
from collections.abc import Collection

import numpy as np

SUMMED = ("bn2", "bn3", "downsample", ".f.c.1", ".proj.1")  # in names of BatchNorm's biases


def fill_all(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """Return all arrays of a net."""
    norms = {
        name.removesuffix("running_mean") + "bias" for name in shapes if "running_mean" in name
    }
    return {name: fill(name, shape, seed, norms) for name, shape in shapes.items()}


def fill(
    name: str, shape: tuple[int, ...], seed: int, norms_biases: Collection[str] = ()
) -> np.ndarray:
    """Return the array of a torchvision name, in PyTorch's layout, float32.

    Args:
        name: name in torchvision's state dict.
        shape: shape in PyTorch.
        seed: seed of the hash.
        norms_biases: names of BatchNorm's biases.
    """
    u = _uniform(name, int(np.prod(shape)), seed).reshape(shape)
    if name == "images":
        return np.float32(2 * u)
    if name in norms_biases:
        positive = (u > 0) | any(part in name for part in SUMMED)
        return np.float32(np.where(positive, 1.0, -1.0))
    if name.endswith(("running_mean", "bias")):
        return np.float32(0.1 * u)
    if name.endswith("running_var"):
        return np.float32(1 + 0.5 * u)
    if len(shape) == 1:
        return np.float32(0.2 * (1 + 0.2 * u))
    return np.float32(u * np.sqrt(6 / np.prod(shape[1:])))


def _uniform(name: str, count: int, seed: int) -> np.ndarray:
    offset = (zlib.crc32(name.encode()) + 40503 * seed) % 2**32
    h = np.arange(count, dtype=np.uint32) * np.uint32(2654435761) + np.uint32(offset)
    for _ in range(2):
        h = (h ^ (h >> np.uint32(16))) * np.uint32(73244475)
    h ^= h >> np.uint32(16)
    return h / 2.0**31 - 1.0
