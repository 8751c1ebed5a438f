"""The arithmetic of one layer: output size, parameters, cost, compared with a dense layer.

After Dumoulin and Visin 2016, "A guide to convolution arithmetic for deep learning"
(arXiv:1603.07285). Sizes are (height, width).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from deeper.errors import UserError

KINDS = ("conv", "pool", "transposed")


@dataclass(frozen=True)
class Geometry:
    """The geometry of a window that moves over a map.

    Attributes:
        kind: conv, pool (no weights) or transposed (a convolution's gradient with respect to its
            input, used to enlarge maps).
        height, width, channels: of the input.
        kernel: side of the square window.
        stride: step of the window in positions; for transposed, spacing of the spread input.
        padding: zeros on each side; for transposed, those of the convolution whose gradient it is.
        dilation: distance of the window's taps.
        features: output channels; the input's for pooling.
        groups: independent groups of channels.
        bias: whether each feature has a bias.

    Raises:
        UserError: the layer does not exist.
    """

    kind: str
    height: int
    width: int
    channels: int
    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    features: int = 1
    groups: int = 1
    bias: bool = True

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"kind={self.kind} is unknown; choose one of {', '.join(KINDS)}.")
        for name in ("height", "width", "channels", "kernel", "stride", "dilation", "features"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)}: give at least 1.")
        if self.padding < 0:
            raise UserError(f"padding={self.padding}: give at least 0.")
        if self.groups < 1 or self.channels % self.groups or self.features % self.groups:
            raise UserError(
                f"groups={self.groups} must divide the {self.channels} input and "
                f"{self.features} output channels."
            )
        if self.kind == "transposed":
            if min(self.output[:2]) < 1:
                raise UserError(
                    f"padding={self.padding} cuts everything off: the result would be "
                    f"{self.output[0]}x{self.output[1]}."
                )
        elif self.extent > min(self.height, self.width) + 2 * self.padding:
            taps = f", {self.extent} with dilation {self.dilation}" if self.dilation > 1 else ""
            raise UserError(
                f"A {self.kernel}x{self.kernel} window{taps} does not fit into a "
                f"{self.height}x{self.width} map with padding {self.padding}: take a smaller "
                "kernel or dilation, or more padding."
            )

    @property
    def extent(self) -> int:
        """Positions that the window spans: dilation * (kernel - 1) + 1."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def output(self) -> tuple[int, int, int]:
        """Height, width and channels of the result.

        conv, pool: floor((size + 2 padding - extent) / stride) + 1 (relationship 14);
        transposed: stride (size - 1) + extent - 2 padding (relationship 13).
        """
        sizes = []
        for size in (self.height, self.width):
            if self.kind == "transposed":
                sizes.append(self.stride * (size - 1) + self.extent - 2 * self.padding)
            else:
                sizes.append((size + 2 * self.padding - self.extent) // self.stride + 1)
        return sizes[0], sizes[1], self.channels if self.kind == "pool" else self.features

    @property
    def unseen(self) -> tuple[int, int]:
        """Rows and columns at the end that no window covers, including padding."""
        if self.kind == "transposed":
            return 0, 0
        rows, columns = (
            (size + 2 * self.padding - self.extent) % self.stride
            for size in (self.height, self.width)
        )
        return rows, columns

    @property
    def parameters(self) -> int:
        """kernel^2 * (channels / groups) * features, plus one bias per feature; none for
        pooling.
        """
        if self.kind == "pool":
            return 0
        weights = self.kernel**2 * (self.channels // self.groups) * self.features
        return weights + (self.features if self.bias else 0)

    @property
    def macs(self) -> int:
        """Multiply-accumulates: positions of the result (transposed: of the input) times taps."""
        if self.kind == "pool":
            return 0
        height, width = self.output[:2]
        if self.kind == "transposed":
            height, width = self.height, self.width
        taps = self.kernel**2 * (self.channels // self.groups)
        return height * width * taps * self.features

    @property
    def dense_parameters(self) -> int:
        """Parameters of a dense layer from the whole input to ``features`` units."""
        inputs = self.height * self.width * self.channels
        return inputs * self.features + (self.features if self.bias else 0)

    def window(self, row: int, column: int) -> list[tuple[int, int]]:
        """Return the positions under the window for one position of the result.

        For conv and pool they are positions of the input; for transposed, positions of the result
        to which the input at (row, column) contributes. Positions in the padding are negative or
        too large.
        """
        top = row * self.stride - self.padding
        left = column * self.stride - self.padding
        taps = range(0, self.extent, self.dilation)
        return [(top + i, left + j) for i in taps for j in taps]


def apply(
    geometry: Geometry, x: Float[np.ndarray, "height width"], kernel: Float[np.ndarray, "k k"]
) -> Float[np.ndarray, "rows columns"]:
    """Compute the layer on one channel, position by position.

    Pooling takes the largest value; padding is zero in a convolution and ignored in pooling.
    """
    rows, columns, _ = geometry.output
    y = np.full((rows, columns), -np.inf if geometry.kind == "pool" else 0.0)
    transposed = geometry.kind == "transposed"
    height, width = (geometry.height, geometry.width) if transposed else (rows, columns)
    limits = (rows, columns) if transposed else (geometry.height, geometry.width)
    for row in range(height):
        for column in range(width):
            for number, (i, j) in enumerate(geometry.window(row, column)):
                if not (0 <= i < limits[0] and 0 <= j < limits[1]):
                    continue
                weight = kernel.flat[number]
                if transposed:
                    y[i, j] += weight * x[row, column]
                elif geometry.kind == "pool":
                    y[row, column] = max(y[row, column], x[i, j])
                else:
                    y[row, column] += weight * x[i, j]
    return y
