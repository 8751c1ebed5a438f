"""Attribution of examples that are known by columns: a split's, or what a reader made of files."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from deeper.interpret.attribution import Attribution, attribute

if TYPE_CHECKING:
    from deeper.run.run import Net


def attribute_columns(
    net: "Net",
    columns: Mapping[str, np.ndarray],
    names: Sequence[str],
    method: str,
    *,
    layer: str | None = None,
    classes: Sequence[int] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Attribution:
    """Return which parts of some examples a class's score comes from.

    Args:
        net: a run's.
        columns: name -> values (n, ...), as the run's data set stores them; the first one is what
            the net's reader, if there is one, can write out.
        names: of the examples.
        method: of attribution.
        layer: of Grad-CAM's maps.
        classes: whose score, one for each example or one for all; by default the net's own answers.
        progress: called with (steps done, steps).
    """
    inputs = np.asarray(net.inputs(columns))
    spell = getattr(net.reader, "symbols", None)
    symbols = None
    if spell is not None and inputs.ndim < 4:  # of a picture, such as a spectrogram, there are none
        symbols = [spell(row) for row in next(iter(columns.values()))]
    return attribute(
        net.model,
        net.variables,
        inputs,
        method=method,
        layer=layer,
        classes=classes,
        class_names=net.class_names,
        names=names,
        symbols=symbols,
        probabilities=net.probabilities,
        progress=progress,
    )
