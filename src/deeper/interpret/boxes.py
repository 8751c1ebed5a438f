"""Draws boxes with names and scores on photographs."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageColor, ImageDraw, ImageFont

from deeper.plotting import COLOURS

LONGEST = 40  # characters of a name
DASH = 4  # pixels of the lines around true objects, drawn and left out in turn


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Return matplotlib's font, which has most of the world's letters and no markup."""
    path = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), size)


def draw_boxes(
    pixels: UInt8[np.ndarray, "height width 3"],
    boxes: Float[np.ndarray, "n 4"],
    labels: Int[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"] | None,
    class_names: Sequence[str],
    *,
    dashed: bool = False,
) -> UInt8[np.ndarray, "height width 3"]:
    """Return a photograph with boxes on it, the surest on top.

    Args:
        pixels: the photograph, which is not changed.
        boxes: x1, y1, x2, y2, x2 and y2 exclusive.
        labels: numbers of the classes; boxes of label -1 are not drawn.
        scores: 0 to 1; None for true objects, which have none.
        class_names: in the order of the labels. Whatever is in a name is drawn as it is, on one
            line.
        dashed: with dashed lines and without names, as of true objects beside detections.
    """
    picture = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
    canvas = ImageDraw.Draw(picture)
    height, width = pixels.shape[:2]
    shorter = min(height, width)
    line, font = max(1, round(shorter / 250)), _font(max(9, round(shorter / 32)))
    order = np.arange(len(boxes)) if scores is None else np.argsort(scores, kind="stable")
    for number in order.tolist():
        if labels[number] < 0 or not np.isfinite(boxes[number]).all():
            continue
        label = int(labels[number])
        x1, y1, x2, y2 = (float(value) for value in boxes[number])
        # Pillow's corners are pixels that are drawn.
        corners = (
            min(max(x1, 0.0), width - 1), min(max(y1, 0.0), height - 1),
            min(max(x2 - 1, 0.0), width - 1), min(max(y2 - 1, 0.0), height - 1),
        )  # fmt: skip
        if corners[2] < corners[0] or corners[3] < corners[1]:
            continue
        colour = COLOURS[label % len(COLOURS)]
        if dashed:
            _dashes(canvas, corners, colour, line)
            continue
        canvas.rectangle(corners, outline=colour, width=line)
        name = one_line(class_names[label])
        text = name if scores is None else f"{name} {float(scores[number]):.2f}"
        _label(canvas, corners[:2], text, colour, font, (width, height))
    return np.asarray(picture)


def one_line(name: str) -> str:
    """Return a name as it is drawn: on one line, without characters that are not shown."""
    shown = "".join(c if c.isprintable() else " " for c in str(name))
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 3]}..."


def _label(
    canvas: ImageDraw.ImageDraw,
    corner: tuple[float, float],
    text: str,
    colour: str,
    font: ImageFont.FreeTypeFont,
    size: tuple[int, int],
) -> None:
    """Write a text on a ground of the box's colour: above the corner, or below where no room is."""
    left, top, right, bottom = canvas.textbbox((0, 0), text, font=font)
    wide, tall = right - left + 2, bottom - top + 2
    x = max(0.0, min(corner[0], size[0] - wide))
    y = corner[1] - tall if corner[1] >= tall else corner[1]
    canvas.rectangle((x, y, x + wide, y + tall), fill=colour)
    red, green, blue = ImageColor.getrgb(colour)[:3]
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < 140
    canvas.text((x + 1 - left, y + 1 - top), text, fill="white" if dark else "black", font=font)


def _dashes(
    canvas: ImageDraw.ImageDraw,
    corners: tuple[float, float, float, float],
    colour: str,
    line: int,
) -> None:
    x1, y1, x2, y2 = corners
    step = DASH * line
    for x in np.arange(x1, x2 + 1, 2 * step):
        for y in (y1, y2):
            canvas.line((x, y, min(x + step, x2), y), fill=colour, width=line)
    for y in np.arange(y1, y2 + 1, 2 * step):
        for x in (x1, x2):
            canvas.line((x, y, x, min(y + step, y2)), fill=colour, width=line)


def sheet(
    pictures: Sequence[UInt8[np.ndarray, "height width 3"]], columns: int, space: int = 4
) -> UInt8[np.ndarray, "height width 3"]:
    """Return pictures in rows on one white page."""
    tall = max(one.shape[0] for one in pictures) + space
    wide = max(one.shape[1] for one in pictures) + space
    rows = -(-len(pictures) // columns)
    page = np.full((rows * tall, min(columns, len(pictures)) * wide, 3), 255, np.uint8)
    for number, one in enumerate(pictures):
        top, left = (number // columns) * tall, (number % columns) * wide
        page[top : top + one.shape[0], left : left + one.shape[1]] = one
    return page
