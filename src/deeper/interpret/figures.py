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
from deeper.interpret.attribution import METHODS, ON_GRID, ON_MAPS, attribute_by, save_all
from deeper.interpret.subject import Subject
from deeper.interpret.traced_net import LOGITS
from deeper.profile.layer_table import layers_of

SCALE = 8  # screen pixels for each pixel of an image that a box is drawn on
BOX = (0.84, 0.37, 0.0)
MAXIMISED = 10  # classes or channels, where none are chosen


def plain(layer: str) -> str:
    """Return a layer's name as sheets show it."""
    return layer.removesuffix("_out")


def filters(subject: Subject, out: Path) -> None:
    """Draw the first convolution's filters, the largest weight white or black."""
    first = next(layer for layer in layers_of(subject.model, subject.shape) if layer.kind == "conv")
    node = subject.variables["params"]
    for part in first.name.split("/"):
        node = node[part]
    draw_filters(f"{subject.title}: filters of {first.name}", np.asarray(node["kernel"]), out)


def draw_filters(
    title: str, kernel: Float[np.ndarray, "height width channels filters"], out: Path
) -> None:
    """Draw filters as pictures, the largest weight white or black."""
    kernel = np.moveaxis(kernel, -1, 0)
    if kernel.shape[-1] not in (1, 3):
        kernel = kernel.mean(axis=-1, keepdims=True)
    largest = np.abs(kernel).max()
    pictures = [0.5 + 0.5 * weights / largest for weights in kernel]
    across = min(16, len(pictures))
    blank = np.ones_like(pictures[0])
    pictures += [blank] * (-len(pictures) % across)
    rows = [pictures[i : i + across] for i in range(0, len(pictures), across)]
    drawing.grid_sheet(title, rows, [""] * across, out)


def activations(subject: Subject, layer: str | None, n: int, out: Path) -> None:
    """Draw the strongest maps of a layer beside each image."""
    net = subject.net
    name = net.layer_with_maps(layer)
    pictures, images, _ = subject.first(n)
    maps = np.asarray(net(images, [name])[name])
    shown = min(10, maps.shape[-1])
    rows, headings = [], ["image", *(f"{i}." for i in range(1, shown + 1))]
    for picture, values in zip(pictures, maps, strict=True):
        order = np.argsort(-values.max(axis=(0, 1)), kind="stable")[:shown]
        scaled = values / max(values.max(), 1e-12)
        rows.append([picture, *(scaled[..., channel : channel + 1] for channel in order)])
    title = f"{subject.title}: {plain(name)}, the strongest maps of each image"
    drawing.grid_sheet(title, rows, headings, out, heat=[False] + [True] * shown)


def fields(subject: Subject, n: int, out: Path) -> None:
    """Draw the receptive field of the middle of each stage's maps, and the effective one."""
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
    strongest = deconvnet.strongest(
        net, layers, subject.batches(), lambda done: subject.progress("search", done, total)
    )
    sheet: dict[str, list[drawing.Channel]] = {}
    steps = sum(min(channels, net.shape(layer)[-1]) for layer in layers)
    for layer in layers:
        places = strongest[layer]

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
                    [
                        _cut(image / 255.0, span, mean)
                        for image, span in zip(shown, spans, strict=True)
                    ],
                    [
                        _cut(values, span, 0 * mean)
                        for values, span in zip(back, spans, strict=True)
                    ],
                )
            )
            subject.progress("project", sum(map(len, sheet.values())), steps)
    drawing.deconvnet_sheet(f"{subject.title}: strongest places and projections", sheet, out)


def attributions(
    subject: Subject,
    n: int,
    out: Path,
    *,
    methods: Sequence[str] = (*METHODS,),
    layer: str | None = None,
    classes: Sequence[int] | None = None,
) -> tuple[str, ...]:
    """Draw which pixels a class's score comes from, and write the maps beside it as ``.npz``.

    A row is an image and a class. Heat lies over the image; gradients and the like are drawn as
    they are, grey where they are zero.

    Args:
        subject: a net and its images.
        n: images.
        out: the PNG.
        methods: of attribution.
        layer: with maps, for Grad-CAM; see `attribution.layer_to_weigh`.
        classes: all of them are asked of every image; by default the subject's labels.

    Returns:
        Sentences on how the maps were made.
    """
    rows = [row for row in range(n) for _ in (classes or [0])]
    asked = np.asarray(subject.labels[:n] if classes is None else [*classes] * n, np.int32)
    pictures, images, _ = subject.first(n)
    logits = subject.net(images, [LOGITS])[LOGITS]
    found = {
        method: attribute_by(
            method,
            subject.net,
            np.asarray(subject.images[:n])[rows],
            images[jnp.array(rows)],
            logits[jnp.array(rows)],
            asked,
            layer=layer if method in ON_MAPS else None,
            class_names=subject.class_names,
            names=[subject.names[row] for row in rows],
            progress=partial(subject.progress, method.replace("_", " ")),
        )
        for method in methods
    }
    columns = [
        [
            drawing.overlaid(pictures[row], heat)
            if method in ON_GRID
            else drawing.stretched(values)
            for row, heat, values in zip(rows, one.maps, one.values, strict=True)
        ]
        for method, one in found.items()
    ]
    notes: dict[str, str] = {}  # note -> the first method that it is on
    for method, one in found.items():
        for note in one.notes:
            notes.setdefault(note, METHODS[method])
    said = tuple(f"{method}: {note}" for note, method in notes.items())
    drawing.grid_sheet(
        "\n".join([f"{subject.title}: which pixels the class comes from", *said]),
        [list(row) for row in zip([pictures[row] for row in rows], *columns, strict=True)],
        ["image", *(METHODS[method] for method in found)],
        out,
        labels=next(iter(found.values())).described(),
    )
    save_all(out.with_suffix(".npz"), found)
    return said


def maximised(
    subject: Subject, layer: str | None, out: Path, classes: Sequence[int] | None = None
) -> None:
    """Draw images that maximise each class's score, or the activation of a layer's channels.

    By default ten at most: of classes those that the subject's images are of, in their order.
    """
    net = subject.net
    name = LOGITS if layer is None else net.layer_with_maps(layer)
    total = net.shape(name)[-1]
    if name == LOGITS and classes is not None:
        units = np.asarray(classes, np.int32)
    elif name == LOGITS and total > MAXIMISED:
        units = np.array([*dict.fromkeys(subject.labels.tolist())][:MAXIMISED], np.int32)
    else:
        units = np.arange(min(total, MAXIMISED), dtype=np.int32)
    rows = []
    for regularised in (True, False):
        images = activation_maximisation.maximise(
            net,
            name,
            jnp.asarray(units),
            jax.random.key(0),
            subject.shape,
            regularised=regularised,
            progress=partial(subject.progress, "maximise"),
        )
        rows.append([drawing.stretched(np.asarray(image)) for image in images])
    known = subject.class_names
    names = [drawing.shortened(known[i], 17) if name == LOGITS else str(i) for i in units.tolist()]
    title = f"{subject.title}: images of the strongest {plain(name)}, with and without regularisers"
    drawing.grid_sheet(title, rows, names, out)


def _cut(
    picture: Float[np.ndarray, "height width channels"], spans: Any, padding: np.ndarray
) -> drawing.Picture:
    """Cut out a span of rows and one of columns; return all of a picture that is smaller."""
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
    """Return a picture, enlarged, with a frame around a span of rows and one of columns."""
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
    """Raise a UserError unless there are n images."""
    if not 1 <= n <= len(subject.images):
        raise UserError(f"n={n}: give 1 to {len(subject.images)} images.")
