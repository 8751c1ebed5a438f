"""What a file of weights tells of its net."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Shapes = Mapping[str, Sequence[int]]  # name -> shape of the array


@dataclass(frozen=True)
class Architecture:
    """A net as a file of weights tells it.

    Attributes:
        name: torchvision's or timm's name where it has one.
        overrides: of a config, ``model=`` first.
        classes: outputs of the head; None where the file has no head.
        channels: of the images.
        pool_size: side of the map that dense layers behind maps take; None without such layers.
        timm: timm's name, where it differs.
    """

    name: str
    overrides: tuple[str, ...]
    classes: int | None
    channels: int
    pool_size: int | None = None
    timm: str | None = None


def classes_of(shapes: Shapes, head: str) -> int | None:
    """Return the outputs of a head; None where the file has none.

    Args:
        shapes: torchvision's name -> shape.
        head: prefix of the last layer.
    """
    weight = shapes.get(f"{head}.weight")
    return None if weight is None else weight[0]


def count(shapes: Shapes, name: str) -> int:
    """Return how many arrays there are of a name with ``{}`` for a number from 1 on, or from 0."""
    first = 0 if name.format(0) in shapes else 1
    number = first
    while name.format(number) in shapes:
        number += 1
    return number - first
