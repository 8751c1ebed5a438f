"""A contact sheet: augmented images of a data set, and every operation at several strengths."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from deeper.augment.crops_and_colour import (
    Blur,
    Cutout,
    Lighting,
    RandomCrop,
    RandomErasing,
    RandomResizedCrop,
)
from deeper.augment.mixing import CutMix, Mixup
from deeper.augment.op_table import COLOUR, KINDS, STRENGTHS
from deeper.augment.pillow_ops import transform
from deeper.augment.pipeline import augment
from deeper.plotting import SOFT, STYLE

Pictures = UInt8[np.ndarray, "n height width channels"]

# Operation -> strengths that are drawn, weak to strong; translations as shares of the image's side.
SHOWN = {
    "shear_x": (-0.3, -0.1, 0.1, 0.3, 0.99),
    "shear_y": (-0.3, -0.1, 0.1, 0.3, 0.99),
    "translate_x": (-0.3, -0.1, 0.1, 0.3, 0.45),
    "translate_y": (-0.3, -0.1, 0.1, 0.3, 0.45),
    "rotate": (-30.0, -9.0, 9.0, 30.0, 135.0),
    "scale": (0.5, 0.8, 1.25, 1.6, 2.0),
    "brightness": (0.1, 0.5, 0.73, 1.27, 1.9),
    "contrast": (0.1, 0.5, 0.73, 1.27, 1.9),
    "saturation": (0.0, 0.5, 0.73, 1.27, 1.9),
    "sharpness": (0.0, 0.5, 1.27, 1.9, 5.0),
    "hue": (-0.5, -0.1, 0.05, 0.1, 0.3),
    "posterize": (7.0, 6.0, 4.0, 2.0, 1.0),
    "solarize": (240.0, 180.0, 128.0, 64.0, 0.0),
    "solarize_add": (11.0, 33.0, 55.0, 77.0, 110.0),
    "autocontrast": (0.0,),
    "equalize": (0.0,),
    "invert": (0.0,),
    "greyscale": (0.0,),
}


def _others(picture: Pictures) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the operations that no policy draws from: name -> unit, strength -> operation."""
    side, channels = picture.shape[1], picture.shape[-1]
    grey = (0.5,) * channels

    def hole(size):
        return Cutout(size, grey)

    shown: dict[str, tuple[str, dict[str, Any]]] = {
        "random crop": ("padding", {str(p): RandomCrop(p) for p in (1, 2, 4, 8)}),
        "resized crop": (
            "least area",
            {f"{a:g}": RandomResizedCrop(scale=(a, 1.0)) for a in (0.64, 0.32, 0.16, 0.08)},
        ),
        "cutout": ("pixels", {str(n): hole(n) for n in (side // 8, side // 4, side // 2)}),
        "erasing": (
            "area",
            {f"{a:g}": RandomErasing(1.0, (a, a + 0.01)) for a in (0.02, 0.1, 0.2, 0.4)},
        ),
        "blur": ("deviation", {f"{d:g}": Blur(9, (d, d)) for d in (0.3, 0.6, 1.0, 2.0)}),
    }
    if channels == 3:
        shown["lighting"] = ("deviation", {f"{d:g}": Lighting(d) for d in (0.1, 0.5, 1.0)})
    return shown


COLUMNS = 5
STEPS = 11  # training steps whose augmented images are drawn


def sheet(operations: Sequence[Any], name: str, pictures: Pictures, out: Path) -> None:
    """Draw the contact sheet of an augmentation.

    Args:
        operations: the augmentation, as `conf/augment` lists it.
        name: title of the sheet.
        pictures: at least two images as stored. Each is a row of the upper part; the lower part
            shows the operations on the first.
        out: path of the PNG file.
    """
    with mpl.rc_context({**mpl.rcParamsDefault, **STYLE, "axes.grid": False, "backend": "agg"}):
        entries = [*_of_policies(pictures[0]), *_outside_policies(pictures[:2])]
        above, below = len(pictures), -(-len(entries) // 2)
        figure = Figure(figsize=(11.0, 0.95 * (above + below) + 1.1))
        FigureCanvasAgg(figure)
        heights = (above + 0.55, below + 0.55)
        halves: Any = figure.subfigures(2, 1, height_ratios=heights)
        top, bottom = halves
        _augmented(top, operations, name, pictures)
        _one_by_one(bottom, entries)
        figure.savefig(out, metadata={"Software": None})


class Entry(NamedTuple):
    """Images of one operation at several strengths.

    Attributes:
        name: name of the operation.
        unit: unit of its strength; empty if it has none.
        images: strength -> image.
    """

    name: str
    unit: str
    images: dict[str, np.ndarray]


def _of_policies(picture: np.ndarray) -> list[Entry]:
    """Return an entry for each operation that policies draw from."""
    shown = [kind for kind in SHOWN if kind not in COLOUR or picture.shape[-1] == 3]
    sides = {kind: picture.shape[1] if kind.startswith("translate") else 1.0 for kind in shown}
    flat = [(kind, strength * sides[kind]) for kind in shown for strength in SHOWN[kind]]
    numbers, strengths = zip(*((KINDS.index(kind), value) for kind, value in flat), strict=True)
    images = transform(
        jnp.array(numbers)[:, None],
        jnp.array(strengths, jnp.float32)[:, None],
        jnp.broadcast_to(jnp.asarray(picture), (len(flat), *picture.shape)),
        bilinear=picture.shape[0] < 64,
    )
    entries: dict[str, Entry] = {}
    for (kind, strength), image in zip(flat, np.asarray(images), strict=True):
        unit = "" if STRENGTHS[kind] == "none" else STRENGTHS[kind].split(" ")[0].rstrip(";,")
        entry = entries.setdefault(kind, Entry(kind, unit, {}))
        entry.images[f"{strength:.3g}" if unit else ""] = image
    return list(entries.values())


def _outside_policies(pictures: Pictures) -> list[Entry]:
    """Return an entry for each other operation, Mixup and CutMix among them."""
    rows, labels = jnp.arange(2), jnp.arange(2)

    def augmented(operation: Any, step: int) -> np.ndarray:
        key = jax.random.fold_in(jax.random.key(1), step)
        images, _ = augment((operation,), key, rows, jnp.asarray(pictures), labels)
        return np.asarray(images[0], np.float32)

    entries = [
        Entry(
            name,
            unit,
            {title: augmented(op, n) for n, (title, op) in enumerate(by_strength.items())},
        )
        for name, (unit, by_strength) in _others(pictures).items()
    ]
    for name, mixing in (("mixup", Mixup), ("cutmix", CutMix)):
        images = {" " * n: augmented(mixing(1.0, 1.0, True, 2), n) for n in range(COLUMNS)}
        entries.append(Entry(name, "", images))
    return entries


def _augmented(figure: Any, operations: Sequence[Any], name: str, pictures: Pictures) -> None:
    """Draw each picture as stored and as augmented in `STEPS` training steps."""
    rows, labels = jnp.arange(len(pictures)), jnp.arange(len(pictures))
    columns: list[np.ndarray] = [pictures.astype(np.float32)]
    apply = jax.jit(lambda key: augment(operations, key, rows, jnp.asarray(pictures), labels)[0])
    for step in range(STEPS):
        images = apply(jax.random.fold_in(jax.random.key(0), step))
        columns.append(np.asarray(images, np.float32))
    panels = figure.subplots(len(pictures), len(columns), squeeze=False)
    figure.subplots_adjust(0.005, 0.01, 0.995, 1.0 - 0.55 / (len(pictures) + 0.55), 0.04, 0.04)
    figure.suptitle(f"{name}: as stored, then as trained on", x=0.01, ha="left", fontsize=11)
    for row, axes_of_row in enumerate(panels):
        for axes, images_of_step in zip(axes_of_row, columns, strict=True):
            _picture(axes, images_of_step[row])


def _one_by_one(figure: Any, entries: Sequence[Entry]) -> None:
    """Draw each operation at several strengths, two operations per row."""
    rows = -(-len(entries) // 2)
    panels = figure.subplots(rows, 2 * (COLUMNS + 1), squeeze=False)
    figure.subplots_adjust(0.005, 0.01, 0.995, 1.0 - 0.55 / (rows + 0.55), 0.04, 0.22)
    figure.suptitle("Every operation by its strength", x=0.01, ha="left", fontsize=11)
    for axes in panels.flat:
        axes.axis("off")
    for number, entry in enumerate(entries):
        first, *others = panels[number % rows][(number // rows) * (COLUMNS + 1) :]
        look: Any = {"ha": "right", "transform": first.transAxes}
        first.text(0.93, 0.5, entry.name, va="bottom", fontsize=8, fontweight="bold", **look)
        first.text(0.93, 0.45, entry.unit, va="top", fontsize=7, color=SOFT, **look)
        for axes, (title, image) in zip(others, entry.images.items(), strict=False):
            _picture(axes, image)
            axes.set_title(title, fontsize=7, pad=1.5, fontweight="normal", loc="center")


def _picture(axes: Axes, image: np.ndarray) -> None:
    axes.axis("off")
    values = np.clip(image, 0, 255).astype(np.uint8)
    if values.shape[-1] == 1:
        axes.imshow(values[..., 0], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    else:
        axes.imshow(values, interpolation="nearest")
