"""A net and the images that it is shown."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int32, UInt8

from deeper.interpret.drawing import Picture
from deeper.interpret.features import Stored
from deeper.interpret.traced_net import TracedNet

Labels = Int32[np.ndarray, " n"]
Progress = Callable[[str, int, int], None]  # what, steps done, steps
BATCH = 200


@dataclass(frozen=True)
class Subject:
    """A net and the images that it is shown.

    Attributes:
        title: what the sheets call it.
        model: the net, its blocks written out.
        variables: params and batch_stats.
        images: as stored.
        labels: true classes; the net's own answers where nobody knows them.
        names: of the images, such as their files.
        class_names: in the order of the labels.
        mean: of the data set by channel, 0 to 1; what padding is.
        normalise: stored images -> what the net takes.
        progress: called with (what, steps done, steps).
        training: images, and their classes, that the net was trained on.
        states: step of training -> reads the variables that were kept at it.
    """

    title: str
    model: nn.Module
    variables: Any
    images: UInt8[np.ndarray, "n height width channels"]
    labels: Labels
    names: Sequence[str]
    class_names: Sequence[str]
    mean: Sequence[float]
    normalise: Callable[[Any], Any]
    progress: Progress
    training: tuple[Stored, Labels] | None = None
    states: Mapping[int, Callable[[], Any]] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (height, width, channels)."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    @cached_property
    def net(self) -> TracedNet:
        """Return the net, its layers within reach."""
        return TracedNet(self.model, self.variables, self.shape)

    def first(self, n: int) -> tuple[list[Picture], Any, Any]:
        """Return the first images: as pictures, normalised, and their classes."""
        some = np.asarray(self.images[:n])
        return list(some / 255.0), self.normalise(jnp.asarray(some)), jnp.asarray(self.labels[:n])

    def batches(self) -> Iterator[tuple[np.ndarray, Any]]:
        """Yield numbers of all images, -1 for padding, and the images, normalised."""
        for numbers in batches_of(len(self.images)):
            is_image = numbers < len(self.images)
            stored = np.asarray(self.images[np.where(is_image, numbers, 0)])
            yield np.where(is_image, numbers, -1), self.normalise(jnp.asarray(stored))


def batches_of(count: int) -> Iterator[np.ndarray]:
    """Yield numbers from 0, a batch at a time; the last goes on beyond the count."""
    for begin in range(0, count, BATCH):
        yield np.arange(begin, begin + BATCH)
