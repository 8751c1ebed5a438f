"""Which parts of an input a class's score comes from, by any method of `attribution_methods`."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int32
from matplotlib.figure import Figure

from deeper.errors import UserError
from deeper.interpret import attribution_methods, drawing
from deeper.interpret.attribution_methods import (
    GAP,
    MOST_STEPS,
    Classes,
    Heat,
    Inputs,
    PixelMaps,
)
from deeper.interpret.sequence_figure import sequence_figure
from deeper.interpret.traced_net import LOGITS, TracedNet
from deeper.models.valid_region import lengths_of

Progress = Callable[[int, int], None]  # steps done, steps

# Name -> what figures call it.
METHODS = {
    "gradient": "gradient",
    "guided_backprop": "guided",
    "deconvnet": "deconvnet",
    "integrated_gradients": "integrated",
    "smooth_grad": "SmoothGrad",
    "grad_cam": "Grad-CAM",
    "grad_cam_plus_plus": "Grad-CAM++",
    "occlusion": "occlusion",
}
ON_MAPS = ("grad_cam", "grad_cam_plus_plus")  # the methods that weigh a layer's maps
ON_GRID = (*ON_MAPS, "occlusion")  # the methods whose heat is on a coarser grid
LEAST_SIDE = 7  # places along each axis of the maps that `ON_MAPS` weigh by default
NOISE_SEED = 0  # of SmoothGrad
OCCLUDED = 3  # positions of a sequence at a time, at least; and a hundredth of all
PLACES = 256  # of a sequence at which it is occluded, at most


def choose(given: str | Sequence[str] | None, known: Sequence[str], key: str) -> list[str]:
    """Return the names that are given: one, several, or ``all`` that are known; of None, none.

    Args:
        given: by the user.
        known: names.
        key: what the user calls it, for the message.

    Raises:
        UserError: a name is not known.
    """
    names = [given] if isinstance(given, str) else list(given or ())
    if names == ["all"]:
        return list(known)
    for name in names:
        if name not in known:
            raise UserError(f"{key}={name} is unknown; choose of {', '.join(known)}.")
    return names


def layer_to_weigh(net: TracedNet, name: str | None) -> str:
    """Return the layer whose maps Grad-CAM and Grad-CAM++ weigh.

    Args:
        net: the net.
        name: a layer or stage with maps; by default the last stage whose maps have `LEAST_SIDE`
            places along each axis, or, where no stage has, the last of those with the most.

    Raises:
        UserError: there is no such layer, or it has no maps.
    """
    stages = [stage for stage in net.stages if net.has_maps(stage)]
    if name is not None or not stages:
        return net.layer_with_maps(name)
    sides = {stage: min(net.shape(stage)[:-1]) for stage in stages}
    least = min(LEAST_SIDE, max(sides.values()))
    return [stage for stage in stages if sides[stage] >= least][-1]


def describe_layer(net: TracedNet, layer: str, *, by_default: bool) -> str:
    """Say which maps are weighed and, where it is not the last stage by default, why."""
    said = f"maps of {layer.removesuffix('_out')}, {_size(net, layer)}"
    last = net.stages[-1]
    if not by_default or layer == last:
        return said
    return f"{said}: those of {last.removesuffix('_out')} have {_size(net, last)}"


def _size(net: TracedNet, layer: str) -> str:
    return "x".join(map(str, net.shape(layer)[:-1]))


class Values(NamedTuple):
    """What a method makes of some inputs.

    Attributes:
        values: by pixel and channel, (n, *space, channels), of either sign; or of the methods in
            `ON_GRID` non-negative heat on a grid of their own, (n, *grid).
        gaps: of integrated gradients, see `attribution_methods.Integral`; else None.
        steps: of integrated gradients; else None.
    """

    values: PixelMaps | Heat
    gaps: Float32[np.ndarray, " n"] | None = None
    steps: Int32[np.ndarray, " n"] | None = None


def compute(
    method: str,
    net: TracedNet,
    inputs: Inputs,
    classes: Classes,
    layer: str,
    progress: Progress = lambda done, total: None,
    most_steps: int = MOST_STEPS,
) -> Values:
    """Return what a method makes of each input.

    Args:
        method: a name in `METHODS`.
        net: the net.
        inputs: as the net takes them (images normalised).
        classes: whose score.
        layer: with maps, for the methods in `ON_MAPS`.
        progress: called with (steps done, steps) by the methods that take many passes.
        most_steps: of integrated gradients.
    """
    match method:
        case "gradient":
            return Values(attribution_methods.gradient(net, inputs, classes))
        case "guided_backprop":
            return Values(attribution_methods.gradient(net, inputs, classes, "guided"))
        case "deconvnet":
            return Values(attribution_methods.gradient(net, inputs, classes, "deconvnet"))
        case "integrated_gradients":
            return Values(
                *attribution_methods.integrated_gradients(
                    net, inputs, classes, most_steps=most_steps, progress=progress
                )
            )
        case "smooth_grad":
            key = jax.random.key(NOISE_SEED)
            return Values(
                attribution_methods.smooth_grad(net, inputs, classes, key, progress=progress)
            )
        case "grad_cam":
            return Values(attribution_methods.grad_cam(net, inputs, classes, layer))
        case "grad_cam_plus_plus":
            return Values(attribution_methods.grad_cam_plus_plus(net, inputs, classes, layer))
        case "occlusion":
            space = inputs.shape[1:-1]
            if len(space) == 1:
                side, stride = max(OCCLUDED, space[0] // 100), -(-space[0] // PLACES)
            else:
                side = max(1, min(space) // 4)
                stride = max(1, side // 4)
            probability = attribution_methods.occlusion(
                net, inputs, classes, side=side, stride=stride, progress=progress
            )
            grid = tuple(range(1, probability.ndim))
            return Values(probability.max(axis=grid, keepdims=True) - probability)
    raise UserError(f"method={method} is unknown; choose one of {', '.join(METHODS)}.")


def one_value_a_pixel(method: str, values: PixelMaps | Heat, size: Sequence[int]) -> Heat:
    """Reduce a method's values over channels; enlarge heat on a coarser grid linearly.

    The channels are added up for integrated gradients, so that a map still adds up to the
    difference of scores; otherwise their largest size counts (Simonyan et al. 2013, section 3.1).

    Args:
        method: a name in `METHODS`.
        values: from `compute`.
        size: of the inputs along their spatial axes, such as (height, width).
    """
    if method in ON_GRID:
        return jax.image.resize(values, (len(values), *size), "linear")
    return values.sum(-1) if method == "integrated_gradients" else jnp.abs(values).max(-1)


@dataclass(frozen=True, repr=False)
class Attribution:
    """Which parts of some inputs a class's score comes from.

    Attributes:
        maps: a value a pixel or position, float32 (n, *space), in the unit of the method; of either
            sign for integrated gradients, else non-negative. Zero in the padding of sequences.
        classes: whose score, int32 (n,).
        logits: of all classes, float32 (n, classes).
        probabilities: the same, as `attribute` was told to make them of the logits.
        layer: whose maps Grad-CAM and Grad-CAM++ weigh; None with the other methods.
        method: a name in `METHODS`.
        inputs: before ``normalise``.
        values: before channels are reduced and heat is enlarged, see `Values`.
        class_names: in the order of the classes; None where they are known by number.
        names: of the inputs, such as their files; None where they have none.
        gaps: of integrated gradients: how far a map is from adding up to the difference of the
            scores, as a share of it, float32 (n,); else None.
        steps: of integrated gradients, int32 (n,); else None.
        notes: sentences and phrases on how the maps were made.
        symbols: of sequences: what stands at each position, such as a character; None where there
            are none, as of sound.
    """

    maps: Float32[np.ndarray, " n *space"]
    classes: Int32[np.ndarray, " n"]
    logits: Float32[np.ndarray, "n classes"]
    probabilities: Float32[np.ndarray, "n classes"]
    layer: str | None
    method: str
    inputs: np.ndarray
    values: np.ndarray
    class_names: Sequence[str] | None = None
    names: Sequence[str] | None = None
    gaps: Float32[np.ndarray, " n"] | None = None
    steps: Int32[np.ndarray, " n"] | None = None
    notes: tuple[str, ...] = ()
    symbols: Sequence[Sequence[str]] | None = None

    @property
    def scores(self) -> Float32[np.ndarray, " n"]:
        """The logits of `classes`."""
        return self.logits[np.arange(len(self.classes)), self.classes]

    @property
    def answers(self) -> Int32[np.ndarray, " n"]:
        """The net's own answers."""
        return self.logits.argmax(-1).astype(np.int32)

    def __repr__(self) -> str:
        """Return a line."""
        where = f" of {self.layer}" if self.layer else ""
        return f"Attribution({self.method}{where}, maps {self.maps.shape})"

    def described(self) -> list[str]:
        """Return for each input its name, the net's answer and the class, in a line each."""
        known, rows = self.class_names, np.arange(len(self.classes))
        names = [str(row) for row in rows] if self.names is None else self.names

        def shares(which: np.ndarray) -> list[str]:
            called = [str(c) if known is None else known[c] for c in which]
            values = self.probabilities[rows, which]
            return [f"{name} {value:.2f}" for name, value in zip(called, values, strict=True)]

        answers, asked = shares(self.answers), shares(self.classes)
        return [
            f"{name}\nanswer: {answer}\nclass: {one}"
            for name, answer, one in zip(names, answers, asked, strict=True)
        ]

    def figure(self) -> Figure:
        """Return a figure of every image, or sequence, and the heat map over it.

        Above each stand its name, the net's answer and the class, with their probabilities.
        """
        heading = METHODS[self.method] + "".join(f"\n{note}" for note in self.notes)
        if self.maps.ndim == 2:
            lines = [drawing.shortened(words, 40) for words in self.described()]
            titles = [words.replace("\n", ", ") for words in lines]
            return sequence_figure(heading, list(self.maps), titles, self.symbols)
        pictures = [drawing.as_picture(image) for image in self.inputs]
        return drawing.overlay_figure(heading, pictures, list(self.maps), self.described())

    def save(self, path: str | Path) -> None:
        """Write the maps and what is known of them to an ``.npz`` file, see `save_all`."""
        save_all(Path(path), {self.method: self})


def save_all(path: Path, found: Mapping[str, Attribution]) -> None:
    """Write several methods' maps of the same inputs to an ``.npz`` file.

    Its arrays: ``inputs``, ``names``, ``classes``, ``answers``, ``logits`` and ``probabilities`` as
    in `Attribution`, ``class_names`` where they are known, and for each method ``METHOD/maps``
    and ``METHOD/values``; for integrated gradients also ``/gaps`` and ``/steps``, for Grad-CAM
    ``/layer``.
    """
    some = next(iter(found.values()))
    names = map(str, range(len(some.classes))) if some.names is None else some.names
    arrays = {
        "inputs": some.inputs,
        "names": np.array([*names]),
        "classes": some.classes,
        "answers": some.answers,
        "logits": some.logits,
        "probabilities": some.probabilities,
    }
    if some.class_names is not None:
        arrays["class_names"] = np.array([*some.class_names])
    for method, one in found.items():
        arrays |= {f"{method}/maps": one.maps, f"{method}/values": one.values}
        if one.layer is not None:
            arrays[f"{method}/layer"] = np.array(one.layer)
        if one.gaps is not None and one.steps is not None:
            arrays |= {f"{method}/gaps": one.gaps, f"{method}/steps": one.steps}
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type] # a name may be allow_pickle


def attribute(
    model: nn.Module,
    variables: Any,
    inputs: Any,
    method: str = "grad_cam",
    layer: str | None = None,
    classes: int | Sequence[int] | None = None,
    normalise: Callable[[Any], Any] = lambda images: images,
    class_names: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    symbols: Sequence[Sequence[str]] | None = None,
    probabilities: Callable[[Any], Any] = jax.nn.softmax,
    progress: Progress = lambda done, total: None,
) -> Attribution:
    """Return which parts of the inputs a class's score comes from.

    Args:
        model: any net that follows the package's contract and answers inputs with logits.
        variables: params and batch_stats.
        inputs: images (n, height, width, channels) or sequences (n, length, channels), such as
            ``normalise`` takes; or tokens (n, length) for a net that says how many there are
            (``tokens``) and takes one-hot rows in their place.
        method: a name in `METHODS`.
        layer: a stage or layer with maps, for Grad-CAM and Grad-CAM++; by default the last stage
            whose maps have at least 7 places along each axis.
        classes: whose score: one class, or one for each input; by default the net's own answers.
        normalise: inputs -> what the net takes; by default the inputs are that already.
        class_names: in the order of the classes, for the figure.
        names: of the inputs, for the figure.
        symbols: what stands at each position of a sequence, for the figure.
        probabilities: logits (n, classes) -> probabilities, for the figure.
        progress: called with (steps done, steps) by the methods that take many passes.

    Raises:
        UserError: there is no such method, layer or class, or the inputs have no places.
    """
    choose(method, [*METHODS], "method")
    if layer is not None and method not in ON_MAPS:
        raise UserError(f"layer={layer} is for {' and '.join(ON_MAPS)}; {method} has none.")
    inputs = np.asarray(inputs)
    tokens = getattr(model, "tokens", None) if inputs.ndim == 2 else None
    values = jnp.asarray(normalise(inputs)) if inputs.ndim > 2 or tokens is not None else inputs
    if tokens is not None:
        values = jax.nn.one_hot(values, tokens) * (values != 0)[..., None]
    if values.ndim < 3 or not jnp.issubdtype(values.dtype, jnp.floating):
        raise UserError(
            "Attribution is of images (n, height, width, channels) or of sequences (n, length, "
            f"channels), tokens as one-hot rows; the net takes {values.dtype} of shape "
            f"{values.shape} of these."
        )
    net = TracedNet(model, variables, jax.ShapeDtypeStruct(values.shape[1:], values.dtype))
    logits = net(values, [LOGITS])[LOGITS]
    return attribute_by(
        method,
        net,
        inputs,
        values,
        logits,
        choose_classes(classes, np.asarray(logits)),
        layer=layer,
        class_names=class_names,
        names=names,
        symbols=symbols,
        probabilities=probabilities,
        progress=progress,
    )


def attribute_by(
    method: str,
    net: TracedNet,
    inputs: np.ndarray,
    values: Inputs,
    logits: Float[Array, "n classes"],
    classes: Int32[np.ndarray, " n"],
    *,
    layer: str | None = None,
    class_names: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    symbols: Sequence[Sequence[str]] | None = None,
    probabilities: Callable[[Any], Any] = jax.nn.softmax,
    progress: Progress = lambda done, total: None,
) -> Attribution:
    """Return the same of a net that is traced, with what it answers.

    Args:
        method: a name in `METHODS`.
        net: the net.
        inputs: as they are shown.
        values: as the net takes them.
        logits: the net's answers.
        classes: whose score.
        layer: see `attribute`, as the rest.
        class_names: in the order of the classes.
        names: of the inputs.
        symbols: of sequences.
        probabilities: logits -> probabilities.
        progress: called with (steps done, steps).
    """
    notes: list[str] = []
    weighed = layer_to_weigh(net, layer) if method in ON_MAPS else ""
    if weighed:
        notes.append(describe_layer(net, weighed, by_default=layer is None))
    made = compute(method, net, values, jnp.asarray(classes), weighed, progress)
    if made.gaps is not None and made.steps is not None:
        notes.append(describe_gaps(made.gaps, made.steps))
    maps = one_value_a_pixel(method, made.values, values.shape[1:-1])
    if values.ndim == 3:
        maps = jnp.where(jnp.arange(values.shape[1])[None] < lengths_of(values)[:, None], maps, 0)
    return Attribution(
        maps=np.asarray(maps, np.float32),
        classes=classes,
        logits=np.asarray(logits, np.float32),
        probabilities=np.asarray(probabilities(logits), np.float32),
        layer=weighed.removesuffix("_out") or None,
        method=method,
        inputs=inputs,
        values=np.asarray(made.values, np.float32),
        class_names=class_names,
        names=names,
        gaps=made.gaps,
        steps=made.steps,
        notes=tuple(notes),
        symbols=symbols,
    )


def describe_gaps(gaps: Float32[np.ndarray, " n"], steps: Int32[np.ndarray, " n"]) -> str:
    """Say how well integrated gradients add up to the difference of the scores."""
    said = f"gap to the difference of scores {gaps.max():.2%} at most, up to {steps.max()} steps"
    missed = int((gaps > GAP).sum())
    return said + (f"; above {GAP:.0%} for {missed} of {len(gaps)}" if missed else "")


def class_numbers(classes: Sequence[int | str], names: Sequence[str]) -> list[int]:
    """Return classes that are given by number or name as numbers.

    Args:
        classes: numbers and names; capital letters make no difference.
        names: of all classes, in their order.

    Raises:
        UserError: a name or number is none of the net's, or several classes have the name.
    """
    lower = [name.lower() for name in names]
    return [_number(one, lower, names) for one in classes]


def _number(wanted: int | str, lower: Sequence[str], names: Sequence[str]) -> int:
    if not isinstance(wanted, str):
        if not 0 <= wanted < len(names):
            raise UserError(f"classes={wanted}: the net's classes are 0 to {len(names) - 1}.")
        return int(wanted)
    exactly = [number for number, name in enumerate(names) if name == wanted]
    found = exactly or [n for n, name in enumerate(lower) if name == wanted.strip().lower()]
    if len(found) > 1:
        raise UserError(
            f"classes={wanted} is the name of {len(found)} classes: choose one by number, "
            f"{', '.join(map(str, found))}."
        )
    if not found:
        close = difflib.get_close_matches(wanted.lower(), lower, n=5, cutoff=0.6)
        shown = [names[lower.index(name)] for name in close] or names[:10]
        more = "" if len(shown) == len(names) else ", ..."
        raise UserError(
            f"classes={wanted} is none of this net's {len(names)}: {', '.join(shown)}{more}."
        )
    return found[0]


def choose_classes(
    classes: int | Sequence[int] | None, logits: np.ndarray
) -> Int32[np.ndarray, " n"]:
    """Return a class for each input, checked: by default the net's own answers."""
    count, known = logits.shape
    chosen = np.asarray(logits.argmax(-1) if classes is None else classes, np.int32).reshape(-1)
    if len(chosen) not in (1, count):
        raise UserError(f"classes has {len(chosen)} entries: give one, or one for each of {count}.")
    if ((chosen < 0) | (chosen >= known)).any():
        raise UserError(
            f"classes={list(map(int, chosen))}: the net's classes are 0 to {known - 1}."
        )
    return np.broadcast_to(chosen, (count,)).copy()
