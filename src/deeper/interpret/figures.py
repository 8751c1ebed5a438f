"""The ways of seeing a net, each a sheet of pictures: see `deeper see`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int32, UInt8

from deeper.errors import UserError
from deeper.interpret import activation_maximisation, attribution, deconvnet, drawing, features
from deeper.interpret.cka import cka
from deeper.interpret.gradient_scales import Measure, Scales
from deeper.interpret.probes import logistic
from deeper.interpret.traced_net import LOGITS, TracedNet
from deeper.profile.layer_table import layers_of

Stored = UInt8[np.ndarray, "n height width channels"]
Labels = Int32[np.ndarray, " n"]
Progress = Callable[[str, int, int], None]  # what, done, in all
BATCH = 200
SCALE = 8  # screen pixels for each pixel of an image that a box is drawn on
BOX = (0.84, 0.37, 0.0)


@dataclass(frozen=True)
class Subject:
    """A net and the images that it is shown.

    Attributes:
        title: what the sheets call it.
        model: the net, its blocks written out.
        variables: params and batch_stats.
        images: as stored.
        labels: true classes.
        class_names: in the order of the labels.
        mean: of the data set by channel, 0 to 1; what padding is.
        normalise: stored images -> what the net takes.
        progress: told how far a method is.
        learnt: images, and their classes, that the net was trained on.
        states: step -> reads the variables of that step of training; those that were kept.
    """

    title: str
    model: nn.Module
    variables: Any
    images: Stored
    labels: Labels
    class_names: Sequence[str]
    mean: Sequence[float]
    normalise: Callable[[Any], Any]
    progress: Progress
    learnt: tuple[features.Stored, Labels] | None = None
    states: Mapping[int, Callable[[], Any]] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (height, width, channels)."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    @cached_property
    def net(self) -> TracedNet:
        """Return the net, opened."""
        return TracedNet(self.model, self.variables, self.shape)

    def first(self, n: int) -> tuple[list[drawing.Picture], Any, Any]:
        """Return the first images: as pictures, normalised, and their classes."""
        some = np.asarray(self.images[:n])
        return list(some / 255.0), self.normalise(jnp.asarray(some)), jnp.asarray(self.labels[:n])

    def batches(self) -> Iterator[tuple[np.ndarray, Any]]:
        """Yield numbers of all images, -1 for padding, and the images, normalised."""
        for numbers in _batches(len(self.images)):
            real = numbers < len(self.images)
            shown = np.asarray(self.images[np.where(real, numbers, 0)])
            yield np.where(real, numbers, -1), self.normalise(jnp.asarray(shown))


def _batches(count: int) -> Iterator[np.ndarray]:
    """Yield numbers from 0, a batch at a time; the last goes on beyond the count."""
    for begin in range(0, count, BATCH):
        yield np.arange(begin, begin + BATCH)


def layer_of(net: TracedNet, wish: str | None) -> str:
    """Return a layer with maps: the one that is meant, or the last stage."""
    if wish is None:
        return net.stages[-1]
    name = f"{wish}_out" if f"{wish}_out" in net.shapes else wish
    net.shape(name, spatial=True)
    return name


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
    name = layer_of(net, layer)
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
        effective = np.asarray(attribution.effective_field(net, images, name))[..., None]
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
    """Draw which pixels the answer comes from, by every method, for the true class."""
    net = subject.net
    name = layer_of(net, layer)
    pictures, images, classes = subject.first(n)
    height, width, _ = subject.shape
    side = max(1, min(height, width) // 4)
    key = jax.random.key(0)
    signed = {
        "gradient": attribution.gradient(net, images, classes),
        "guided": attribution.gradient(net, images, classes, "guided"),
        "deconvnet": attribution.gradient(net, images, classes, "deconvnet"),
        "integrated": attribution.integrated_gradients(
            net, images, classes, progress=partial(subject.progress, "integrated gradients")
        ),
        "SmoothGrad": attribution.smooth_grad(
            net, images, classes, key, progress=partial(subject.progress, "SmoothGrad")
        ),
    }
    covered = attribution.occlusion(
        net,
        images,
        classes,
        side=side,
        stride=max(1, side // 4),
        progress=partial(subject.progress, "occlusion"),
    )
    heat = {
        "Grad-CAM": attribution.grad_cam(net, images, classes, name),
        "Grad-CAM++": attribution.grad_cam_plus_plus(net, images, classes, name),
        "occlusion": covered.max(axis=(1, 2), keepdims=True) - covered,
    }
    rows = []
    for i, picture in enumerate(pictures):
        row = [picture, *(drawing.stretched(np.asarray(maps[i])) for maps in signed.values())]
        for maps in heat.values():
            large = np.asarray(jax.image.resize(maps[i], (height, width), "linear"))[..., None]
            row.append(large / max(large.max(), 1e-12))
        rows.append(row)
    headings = ["image", *signed, *heat]
    title = f"{subject.title}: which pixels the class comes from (maps of {plain(name)})"
    hot = [False] * (1 + len(signed)) + [True] * len(heat)
    drawing.grid_sheet(title, rows, headings, out, heat=hot)


def maximised(subject: Subject, layer: str | None, out: Path) -> None:
    """Draw what climbs to the strongest answer: of the classes, or of a layer's channels."""
    net = subject.net
    name = LOGITS if layer is None else layer_of(net, layer)
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


def similarity(subject: Subject, other: Subject, out: Path) -> None:
    """Draw linear CKA between all blocks of two nets (Kornblith et al. 2019)."""
    ours, theirs = subject.net, other.net
    layers = (blocks(ours), blocks(theirs))
    whole = len(subject.images) - len(subject.images) % BATCH
    if not whole:
        raise UserError(f"Similarity takes batches of {BATCH} images; there are fewer.")
    found = cka(
        ours,
        theirs,
        layers,
        (images for numbers, images in subject.batches() if numbers.min() >= 0),
        lambda done: subject.progress("compare", done, whole),
    )
    title = f"Similarity of layers, {whole:,} images"
    drawing.matrix_sheet(title, found, layers, (subject.title, other.title), out)


def probes(subjects: Sequence[Subject], examples: int, out: Path) -> dict[str, dict[str, float]]:
    """Draw how well a linear classifier does on each layer, by depth.

    Alain and Bengio 2016 (arXiv:1610.01644): logistic regression on the means of a layer's maps,
    trained on images that the net was trained on, tested on others.

    Args:
        subjects: nets, each a line.
        examples: at most, of either kind.
        out: the PNG.

    Returns:
        Net -> layer -> error in per cent.
    """
    found: dict[str, dict[str, float]] = {}
    lines: dict[str, tuple[list[int], list[float]]] = {}
    for subject in subjects:
        assert subject.learnt is not None
        layers = [layer for layer in subject.net.trunk if layer != LOGITS]
        kinds = (subject.learnt, (subject.images, subject.labels))
        known, others = (
            (_means(subject, images[:examples], layers), np.asarray(labels[:examples]))
            for images, labels in kinds
        )
        errors = found[subject.title] = {}
        for done, layer in enumerate(layers, 1):
            error = logistic((known[0][layer], known[1]), (others[0][layer], others[1]))
            errors[layer] = round(error, 4)
            subject.progress(f"probes of {subject.title}", done, len(layers))
        depths = [subject.net.depths[layer] for layer in layers]
        lines[subject.title] = (depths, list(errors.values()))
    title = "Error of a linear classifier on the means of a layer's maps"
    drawing.depth_sheet(title, "error (%)", lines, out)
    return found


def _means(
    subject: Subject, images: features.Stored, layers: Sequence[str]
) -> dict[str, np.ndarray]:
    """Return layers' values of all images, maps averaged over their places."""
    net = subject.net

    @jax.jit
    def means(pixels: Any) -> Any:
        found = net(subject.normalise(pixels), layers)
        return {name: features.channel_means(values) for name, values in found.items()}

    parts: dict[str, list[np.ndarray]] = {layer: [] for layer in layers}
    for numbers in _batches(len(images)):
        for layer, values in means(np.asarray(images[numbers % len(images)])).items():
            kept = np.asarray(values)[numbers < len(images)]
            parts[layer].append(kept.reshape(len(kept), -1))
        done = min(int(numbers[-1]) + 1, len(images))
        subject.progress(f"features of {subject.title}", done, len(images))
    return {layer: np.concatenate(some) for layer, some in parts.items()}


def dynamics(subjects: Sequence[Subject], examples: int, out: Path) -> dict[str, dict[int, Any]]:
    """Draw how large each layer's values and gradients are, from the beginning of training on.

    Args:
        subjects: nets, each with its states, each a column.
        examples: of those that the nets were trained on, one batch.
        out: the PNG.

    Returns:
        Net -> step -> `Scales` as lists, to four digits.
    """
    found: dict[str, dict[int, Scales]] = {}
    for subject in subjects:
        assert subject.learnt is not None
        images, labels = (np.asarray(part[:examples]) for part in subject.learnt)
        inputs = (subject.normalise(images), jnp.asarray(labels))
        measure = Measure(subject.net.model, subject.variables, *inputs)
        of_net = found[subject.title] = {}
        for done, (step, read) in enumerate(sorted(subject.states.items()), 1):
            of_net[step] = measure(read())
            subject.progress(f"states of {subject.title}", done, len(subject.states))
    drawing.dynamics_sheet("Size of values and gradients, by layer and step", found, out)
    return {net: {step: one.rounded() for step, one in of.items()} for net, of in found.items()}


def blocks(net: TracedNet) -> list[str]:
    """Return what a net is made of: blocks where it has some, else its layers with maps."""
    maps = net.maps
    found = [name for name in maps if "block" in name.split("/")[-1]]
    return found or [name for name in maps if not name.endswith("_out")]


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
