"""Figures of what one net sees: filters, activations, fields, attribution (see `deeper see`)."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from deeper.errors import UserError
from deeper.interpret import activation_maximisation, attribution_methods, deconvnet, drawing
from deeper.interpret.attribution import METHODS, compute, one_value_a_pixel
from deeper.interpret.subject import Subject
from deeper.interpret.traced_net import LOGITS
from deeper.profile.layer_table import layers_of

SCALE = 8  # screen pixels for each pixel of an image that a box is drawn on
BOX = (0.84, 0.37, 0.0)


def plain(layer: str) -> str:
    """Return a layer's name as sheets show it."""
    return layer.removesuffix("_out")


def filters(subject: Subject, out: Path) -> None:
    """Draw the first convolution's filters, the largest weight white or black."""
    first = next(layer for layer in layers_of(subject.model, subject.shape) if layer.kind == "conv")
    node = subject.variables["params"]
    for part in first.name.split("/"):
        node = node[part]
    kernel = np.moveaxis(np.asarray(node["kernel"]), -1, 0)
    if kernel.shape[-1] not in (1, 3):
        kernel = kernel.mean(axis=-1, keepdims=True)
    largest = np.abs(kernel).max()
    pictures = [0.5 + 0.5 * one / largest for one in kernel]
    across = min(16, len(pictures))
    blank = np.ones_like(pictures[0])
    pictures += [blank] * (-len(pictures) % across)
    rows = [pictures[i : i + across] for i in range(0, len(pictures), across)]
    title = f"{subject.title}: filters of {first.name}"
    drawing.grid_sheet(title, rows, [""] * across, out)


def activations(subject: Subject, layer: str | None, n: int, out: Path) -> None:
    """Draw the strongest maps of a layer beside each image."""
    net = subject.net
    name = net.layer_with_maps(layer)
    pictures, images, _ = subject.first(n)
    maps = np.asarray(net(images, [name])[name])
    shown = min(10, maps.shape[-1])
    rows, headings = [], ["image", *(f"{i}." for i in range(1, shown + 1))]
    for picture, one in zip(pictures, maps, strict=True):
        order = np.argsort(-one.max(axis=(0, 1)), kind="stable")[:shown]
        rows.append([picture, *(one[..., c : c + 1] / max(one.max(), 1e-12) for c in order)])
    title = f"{subject.title}: {plain(name)}, the strongest maps of each image"
    drawing.grid_sheet(title, rows, headings, out, heat=[False] + [True] * shown)


def fields(subject: Subject, n: int, out: Path) -> None:
    """Draw what the middle of each stage's maps can see, and what it does look at."""
    net = subject.net
    (picture,) = subject.first(1)[0]
    _, images, _ = subject.first(n)
    rows, headings = [], []
    for name in net.stages:
        seen = net.fields.get(name)
        if seen is None:
            continue
        height, width, _ = net.shape(name)
        box = [axis.span(size // 2) for axis, size in zip(seen, (height, width), strict=True)]
        effective = np.asarray(attribution_methods.effective_field(net, images, name))[..., None]
        rows.append((_boxed(picture, box), effective / max(effective.max(), 1e-12)))
        headings.append(f"{plain(name)}: {seen[0].size}")
    title = f"{subject.title}: pixels that the middle of a map can see, and does"
    boxes, heats = zip(*rows, strict=True)
    drawing.grid_sheet(title, [boxes, heats], headings, out, heat_rows=[False, True])


def deconvnet_stages(subject: Subject, layers: Sequence[str], channels: int, out: Path) -> None:
    """Draw the strongest places of each layer's strongest channels, and their projections.

    Both are cut to the layer's receptive field, as in Zeiler and Fergus 2013, figure 2.
    """
    net = subject.net
    total = len(subject.images)
    found = deconvnet.strongest(
        net, layers, subject.batches(), lambda done: subject.progress("search", done, total)
    )
    sheet: dict[str, list[drawing.Channel]] = {}
    steps = sum(min(channels, net.shape(layer)[-1]) for layer in layers)
    for layer in layers:
        places = found[layer]

        @jax.jit
        def project(images: Any, channel: Any, rows: Any, columns: Any, layer: str = layer) -> Any:
            which = jnp.full(len(images), channel)
            return deconvnet.project(net, images, layer, which, rows, columns)

        drawn = sheet.setdefault(plain(layer), [])
        for channel in places.channels(channels):
            image, row, column = places.image[channel], places.row[channel], places.column[channel]
            shown = np.asarray(subject.images[image])
            back = np.asarray(project(subject.normalise(jnp.asarray(shown)), channel, row, column))
            seen = net.fields.get(layer)
            spans = [
                None
                if seen is None
                else tuple(axis.span(at) for axis, at in zip(seen, place, strict=True))
                for place in zip(row, column, strict=True)
            ]
            mean = np.asarray(subject.mean)
            drawn.append(
                drawing.Channel(
                    [_cut(one / 255.0, span, mean) for one, span in zip(shown, spans, strict=True)],
                    [_cut(one, span, 0 * mean) for one, span in zip(back, spans, strict=True)],
                )
            )
            subject.progress("project", sum(map(len, sheet.values())), steps)
    drawing.deconvnet_sheet(f"{subject.title}: strongest places and projections", sheet, out)


def attributions(subject: Subject, layer: str | None, n: int, out: Path) -> None:
    """Draw which pixels the true class's score comes from, by every method."""
    net = subject.net
    name = net.layer_with_maps(layer)
    pictures, images, classes = subject.first(n)
    height, width, _ = subject.shape
    columns: list[list[drawing.Picture]] = []
    heat = []
    for method in METHODS:
        progress = partial(subject.progress, method.replace("_", " "))
        values = compute(method, net, images, classes, name, progress)
        heat.append(values.ndim == 3)
        if values.ndim == 4:  # by pixel and channel, of either sign
            columns.append([drawing.stretched(np.asarray(one)) for one in values])
        else:
            large = np.asarray(one_value_a_pixel(method, values, (height, width)))[..., None]
            columns.append([one / max(one.max(), 1e-12) for one in large])
    rows = [list(row) for row in zip(pictures, *columns, strict=True)]
    title = f"{subject.title}: which pixels the class comes from (maps of {plain(name)})"
    drawing.grid_sheet(title, rows, ["image", *METHODS.values()], out, heat=[False, *heat])


def maximised(subject: Subject, layer: str | None, out: Path) -> None:
    """Draw what climbs to the strongest answer: of the classes, or of a layer's channels."""
    net = subject.net
    name = LOGITS if layer is None else net.layer_with_maps(layer)
    count = min(net.shape(name)[-1], 10)
    rows = []
    for regularised in (True, False):
        found = activation_maximisation.maximise(
            net,
            name,
            jnp.arange(count),
            jax.random.key(0),
            subject.shape,
            regularised=regularised,
            progress=partial(subject.progress, "climb"),
        )
        rows.append([drawing.stretched(np.asarray(one)) for one in found])
    names = list(subject.class_names) if name == LOGITS else [f"{i}" for i in range(count)]
    title = f"{subject.title}: images of the strongest {plain(name)}, with and without regularisers"
    drawing.grid_sheet(title, rows, names[:count], out)


def _cut(
    picture: Float[np.ndarray, "height width channels"], spans: Any, padding: np.ndarray
) -> drawing.Picture:
    """Return what lies in a span of rows and one of columns; all where they are larger."""
    if spans is None:
        return picture
    (top, bottom), (left, right) = spans
    if bottom - top >= picture.shape[0] or right - left >= picture.shape[1]:
        return picture
    out = np.broadcast_to(padding, (bottom - top + 1, right - left + 1, picture.shape[-1])).copy()
    rows = slice(max(top, 0), min(bottom + 1, picture.shape[0]))
    columns = slice(max(left, 0), min(right + 1, picture.shape[1]))
    inside = picture[rows, columns]
    down, along = rows.start - top, columns.start - left
    out[down : down + inside.shape[0], along : along + inside.shape[1]] = inside
    return out


def _boxed(picture: drawing.Picture, box: Sequence[tuple[int, int]]) -> drawing.Picture:
    """Return a picture, enlarged, with a frame around what is seen."""
    large = np.repeat(np.repeat(picture, SCALE, axis=0), SCALE, axis=1)
    large = np.repeat(large, 3, axis=2) if large.shape[-1] == 1 else large.copy()
    (top, bottom), (left, right) = box
    rows, columns = large.shape[:2]
    y0, y1 = max(0, top * SCALE), min(rows, (bottom + 1) * SCALE)
    x0, x1 = max(0, left * SCALE), min(columns, (right + 1) * SCALE)
    frame = np.zeros((rows, columns), bool)
    frame[y0:y1, x0:x1] = True
    frame[y0 + 3 : y1 - 3, x0 + 3 : x1 - 3] = False
    large[frame] = BOX
    return large


def require(subject: Subject, n: int) -> None:
    """Raise a UserError unless there are so many images."""
    if not 1 <= n <= len(subject.images):
        raise UserError(f"n={n}: give 1 to {len(subject.images)} images.")
