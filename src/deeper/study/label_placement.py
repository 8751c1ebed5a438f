"""Places the labels of a figure without overlaps."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.text import Annotation
from matplotlib.textpath import TextPath
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
FAR = 2.6, 4.2  # times these offsets, with a line to the point, where there is no room beside it
PLACE = {"left": 0.0, "center": -0.5, "right": -1.0, "bottom": 0.0, "top": -1.0}
FONT = 9
GAP = 2.0  # points between a label and what is beside it
SWEEPS = 4


@dataclass(frozen=True)
class _Candidate:
    """A position of a label: offset in points, alignments, box in pixels, and what it costs."""

    offset: tuple[float, float]
    horizontal: str
    vertical: str
    far: bool
    box: Bbox
    cost: float


def width_of(text: str, size: float = 10, weight: str = "bold") -> float:
    """Return the width of a text in points."""
    if not text.strip():  # TextPath fails without a glyph
        return 0.0
    path = TextPath((0, 0), text, size=size, prop=FontProperties(weight=weight))
    return float(path.get_extents().width)


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
    fixed = [annotation.get_window_extent() for annotation in taken]
    lines = [axes.transData.transform(line.get_xydata()) for line in axes.lines]
    centres = [axes.transData.transform((x, y)) for x, y, *_ in points]
    dots = [Bbox.from_extents(x - 6, y - 6, x + 6, y + 6) for x, y in centres]
    pixels = figure.dpi / 72
    candidates = []
    for number, (_, _, text, _) in enumerate(points):
        size = (width_of(text, FONT, "normal") * pixels, 1.15 * FONT * pixels)
        others = [dot for place, dot in enumerate(dots) if place != number]
        candidates.append(
            [
                _weighed(candidate, axes, centres[number], others, fixed, lines)
                for candidate in _candidates(centres[number], size, pixels)
            ]
        )
    chosen = [0] * len(points)
    for _ in range(SWEEPS):  # each label moves to where it is best beside the others
        before = list(chosen)
        for number, own in enumerate(candidates):
            boxes = [
                candidates[place][choice].box
                for place, choice in enumerate(chosen)
                if place != number
            ]
            costs = [one.cost + 4 * sum(one.box.overlaps(box) for box in boxes) for one in own]
            chosen[number] = int(np.argmin(costs))
        if chosen == before:
            break
    for (x, y, text, colour), own, choice in zip(points, candidates, chosen, strict=True):
        best = own[choice]
        line = {"arrowstyle": "-", "color": colour, "lw": 0.7, "shrinkA": 0, "shrinkB": 3}
        axes.annotate(
            text, (x, y), best.offset, textcoords="offset points", ha=best.horizontal,
            va=best.vertical, fontsize=FONT, color=colour, arrowprops=line if best.far else None,
        )  # fmt: skip


def _candidates(
    centre: np.ndarray, size: tuple[float, float], pixels: float
) -> Iterator[_Candidate]:
    """Yield the positions of a label, nearer ones first; a farther one costs more."""
    gap = GAP * pixels
    for rank, times in enumerate((1.0, *FAR)):
        for offset, horizontal, vertical in POSITIONS:
            moved = (times * offset[0], times * offset[1])
            left = centre[0] + moved[0] * pixels + PLACE[horizontal] * size[0]
            bottom = centre[1] + moved[1] * pixels + PLACE[vertical] * size[1]
            box = Bbox.from_extents(
                left - gap, bottom - gap, left + size[0] + gap, bottom + size[1] + gap
            )
            yield _Candidate(moved, horizontal, vertical, rank > 0, box, 1.5 * rank)


def _weighed(
    candidate: _Candidate,
    axes: Axes,
    centre: np.ndarray,
    dots: Sequence[Bbox],
    labels: Sequence[Bbox],
    lines: Sequence[np.ndarray],
) -> _Candidate:
    """Return a position with the cost of what the label, and the line to its point, lie on."""
    box, cost = candidate.box, candidate.cost
    cost += 4 * sum(box.overlaps(other) for other in (*dots, *labels))
    cost += sum(_crosses(line, box) for line in lines)
    cost += 8 * (not _within(box, axes.bbox))
    if candidate.far:
        middle = np.array([(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2])
        leader = np.stack([centre, middle])
        cost += 2 * sum(_crosses(leader, other) for other in (*dots, *labels))
    return replace(candidate, cost=cost)


def _crosses(line: np.ndarray, box: Bbox) -> bool:
    """Return whether a line through points (n, 2) passes through a box."""
    steps = np.linspace(0.0, 1.0, 40)[:, None]
    return any(
        bool(box.count_contains(start + (stop - start) * steps))
        for start, stop in itertools.pairwise(line)
    )


def _within(box: Bbox, outer: Bbox) -> bool:
    return box.x0 >= outer.x0 and box.y0 >= outer.y0 and box.x1 <= outer.x1 and box.y1 <= outer.y1
