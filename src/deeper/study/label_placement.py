"""Places the labels of a figure without overlaps."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

# Candidate positions of a label at its point, best first: offset in points, alignments.
POSITIONS = (
    ((0, 7), "center", "bottom"),
    ((0, -7), "center", "top"),
    ((8, 0), "left", "center"),
    ((-8, 0), "right", "center"),
    ((6, 6), "left", "bottom"),
    ((6, -6), "left", "top"),
    ((-6, 6), "right", "bottom"),
    ((-6, -6), "right", "top"),
)


def spread(heights: Sequence[float], gap: float, lowest: float) -> list[float]:
    """Return heights close to the given ones, at least ``gap`` apart and not below ``lowest``."""
    order = np.argsort(heights, kind="stable")
    placed = [float(heights[i]) for i in order]
    for _ in range(50):
        for low in range(len(placed) - 1):
            overlap = gap - (placed[low + 1] - placed[low])
            if overlap > 0:
                placed[low] -= overlap / 2
                placed[low + 1] += overlap / 2
    floor = lowest
    for place, height in enumerate(placed):
        placed[place] = max(height, floor)
        floor = placed[place] + gap
    out = [0.0] * len(placed)
    for position, value in zip(order, placed, strict=True):
        out[position] = value
    return out


def place_beside(
    axes: Axes,
    points: Sequence[tuple[float, float, str, str]],
    taken: Sequence[Annotation],
) -> None:
    """Label points, avoiding overlaps with points, lines and other labels.

    Args:
        axes: with its limits set.
        points: x, y, label and colour of each.
        taken: labels that are already in the axes.
    """
    figure: Any = axes.figure
    figure.draw_without_rendering()  # computes the layout
    boxes = [annotation.get_window_extent() for annotation in taken]
    lines = [axes.transData.transform(line.get_xydata()) for line in axes.lines]
    centres = [axes.transData.transform((x, y)) for x, y, *_ in points]
    dots = [Bbox.from_extents(x - 6, y - 6, x + 6, y + 6) for x, y in centres]
    for (x, y, text, colour), its_dot in zip(points, dots, strict=True):
        best: tuple[int, Annotation] | None = None
        for offset, horizontal, vertical in POSITIONS:
            label = axes.annotate(
                text, (x, y), offset, textcoords="offset points", ha=horizontal, va=vertical,
                fontsize=9, color=colour,
            )  # fmt: skip
            box = label.get_window_extent()
            cost = 4 * sum(box.overlaps(other) for other in boxes)
            cost += 4 * sum(box.overlaps(dot) for dot in dots if dot is not its_dot)
            cost += sum(_crosses(line, box) for line in lines)
            cost += 8 * (not _within(box, axes.bbox))
            if best is None or cost < best[0]:
                if best is not None:
                    best[1].remove()
                best = (cost, label)
            else:
                label.remove()
        if best is not None:
            boxes.append(best[1].get_window_extent())


def _crosses(line: np.ndarray, box: Bbox) -> bool:
    """Return whether a line through points (n, 2) passes through a box."""
    steps = np.linspace(0.0, 1.0, 40)[:, None]
    return any(
        bool(box.count_contains(start + (stop - start) * steps))
        for start, stop in itertools.pairwise(line)
    )


def _within(box: Bbox, outer: Bbox) -> bool:
    return box.x0 >= outer.x0 and box.y0 >= outer.y0 and box.x1 <= outer.x1 and box.y1 <= outer.y1
