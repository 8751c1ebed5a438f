"""Dense layers at every window of a map that is larger than the map they were trained on.

The step inside a net in fully convolutional form, see `fully_convolutional`.
"""

import jax.numpy as jnp

from deeper.errors import UserError
from deeper.models import valid_region
from deeper.models.layers import Maps, Vectors


def windows(x: Maps, size: tuple[int, int]) -> Maps:
    """Cut every window out of the maps, one place apart.

    Args:
        x: the maps.
        size: rows and columns of a window.

    Returns:
        (batch * windows, rows, columns, channels), image by image.
    """
    rows, columns = size
    down, along = x.shape[1] - rows + 1, x.shape[2] - columns + 1
    if min(down, along) < 1:
        raise UserError(
            f"The images are too small: the dense layers look at maps of {rows}x{columns}, and get "
            f"{x.shape[1]}x{x.shape[2]}. Take larger images."
        )
    taps = [x[:, i : i + down, j : j + along] for i in range(rows) for j in range(columns)]
    return jnp.stack(taps, axis=3).reshape(-1, rows, columns, x.shape[3])


def mean_of_windows(scores: Vectors, x: Maps, size: tuple[int, int]) -> Vectors:
    """Return each image's mean over its windows.

    Args:
        scores: of all windows, in the order of `windows`.
        x: the maps that they were cut out of.
        size: rows and columns of a window.
    """
    down, along = x.shape[1] - size[0] + 1, x.shape[2] - size[1] + 1
    grid = scores.reshape(x.shape[0], down, along, -1)
    valid = valid_region.valid_size(x)
    if valid is None:
        return grid.mean((1, 2))
    rows, columns = (length - side + 1 for length, side in zip(valid, size, strict=True))
    return valid_region.mean_of_valid(grid, rows, columns)
