"""Scores of attribution methods for a net and its images: numbers, a table and curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import flax.errors
import jax.numpy as jnp
import numpy as np

from deeper.errors import UserError
from deeper.interpret import attribution_scores as by
from deeper.interpret import drawing
from deeper.interpret.attribution import METHODS, compute, layer_to_weigh, one_value_a_pixel
from deeper.interpret.attribution_methods import STEPS, Classes, Inputs
from deeper.interpret.subject import Subject
from deeper.interpret.traced_net import LOGITS, TracedNet
from deeper.models.initializers import initialise

SCORES = ("insertion", "deletion", "pointing", "sanity")
CURVES = SCORES[:2]
RANDOM = "random"  # beside the methods: maps that are drawn, for comparison
SCORED = 32  # images, where no number is given
BATCH = 16
CANDIDATES = 20  # images for each that is scored, of which mosaics are made
SEED = 1  # of random maps, mosaics and layers initialised anew
ONE_PASS = ("gradient", "guided_backprop", "deconvnet", "grad_cam", "grad_cam_plus_plus")


@dataclass(frozen=True)
class Scores:
    """Scores of some methods.

    Attributes:
        title: of the net.
        images: how many were scored.
        layer: whose maps Grad-CAM weighs.
        by_method: method, or `RANDOM` -> score -> numbers: mean and half width of its interval of
            95 % (over images, normal) as ``mean`` and ``half``; ``curve`` of insertion and deletion
            at the shares of `shares`; ``share`` of the pointing game likewise; of the sanity check
            correlations by layer.
        shares: of the places that are exchanged.
        mosaics: how mosaics lie: ``twice`` as large as an image or in the ``same`` size; None
            without the pointing game.
    """

    title: str
    images: int
    layer: str
    by_method: Mapping[str, Mapping[str, Any]]
    shares: tuple[float, ...]
    mosaics: str | None

    def plain(self) -> dict[str, Any]:
        """Return everything as JSON holds it."""
        return {
            "net": self.title,
            "images": self.images,
            "layer": self.layer,
            "mosaics": self.mosaics,
            "shares": list(self.shares),
            "scores": {method: dict(numbers) for method, numbers in self.by_method.items()},
        }

    def table(self) -> str:
        """Return a table in Markdown: a row a method."""
        some = next(iter(self.by_method.values()))
        columns = {name: _HEADINGS[name] for name in SCORES[:3] if name in some}
        cascade = [*some["sanity"]] if "sanity" in some else []
        headings = ["method", *columns.values()]
        headings += ["its share"] if "pointing" in columns else []
        headings += [f"{layer} anew" for layer in dict.fromkeys([*cascade[:1], *cascade[-1:]])]
        lines = [headings, [":---"] + ["---:"] * (len(headings) - 1)]
        for method, numbers in self.by_method.items():
            cells = [METHODS.get(method, method)]
            cells += [_with_interval(numbers[name]) for name in columns]
            if "pointing" in columns:
                cells.append(f"{numbers['pointing']['share']:.2f}")
            for layer in dict.fromkeys([*cascade[:1], *cascade[-1:]]):
                value = numbers.get("sanity", {}).get(layer)
                cells.append("–" if value is None else f"{value:.2f}")
            lines.append(cells)
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)

    def draw(self, out: Path) -> None:
        """Draw the curves of insertion and deletion, the hits, and the likeness by layers."""

        def of(score: str, key: str | None = None) -> dict[str, Any]:
            by_name = {METHODS.get(name, name): made for name, made in self.by_method.items()}
            return {
                name: made[score] if key is None else made[score][key]
                for name, made in by_name.items()
                if score in made
            }

        drawing.scores_sheet(
            f"{self.title}: scores of attribution, {self.images} images",
            [METHODS.get(name, name) for name in self.by_method],
            self.shares,
            {name: of(name, "curve") for name in CURVES if of(name)},
            {name: (hits["mean"], hits["half"] or 0.0) for name, hits in of("pointing").items()},
            of("sanity"),
            out,
        )


_HEADINGS = {"insertion": "insertion ↑", "deletion": "deletion ↓", "pointing": "pointing ↑"}


def score(
    subject: Subject,
    *,
    methods: Sequence[str] = (*METHODS,),
    scores: Sequence[str] = SCORES,
    n: int = SCORED,
    layer: str | None = None,
) -> Scores:
    """Score methods of attribution for a net.

    Insertion, deletion and the sanity check ask for the net's own answers; the pointing game for
    the labels of images that it answers rightly. Integrated gradients take 64 steps here,
    whatever their gap.

    Args:
        subject: the net and its images.
        methods: names in `attribution.METHODS`.
        scores: names in `SCORES`.
        n: images, the first ones; and maps in the pointing game.
        layer: with maps, for Grad-CAM; see `attribution.layer_to_weigh`.

    Raises:
        UserError: too few classes are answered rightly for mosaics.
    """
    net, weighed = subject.net, layer_to_weigh(subject.net, layer)
    n = min(n, len(subject.images))
    images = subject.normalise(jnp.asarray(np.asarray(subject.images[:n])))
    answers = _answers(net, images)
    by_method: dict[str, dict[str, Any]] = {method: {} for method in [*methods, RANDOM]}
    curves = [name for name in CURVES if name in scores]
    trained: dict[str, np.ndarray] = {}
    for method, numbers in by_method.items():
        told = partial(subject.progress, METHODS.get(method, method))
        told(0, 1)
        made = _maps(method, net, images, answers, weighed)
        trained[method] = made.values
        for name in curves:
            found = _in_batches(getattr(by, name), net, images, answers, made.heat)
            areas = np.concatenate([part.areas for part in found])
            curve = np.concatenate([part.probabilities for part in found])[:n].mean(axis=0)
            numbers[name] = _summary(areas[:n]) | {"curve": _rounded(curve)}
        told(1, 1)
    layout = _point(subject, by_method, n, weighed) if "pointing" in scores else None
    if "sanity" in scores:
        _check_sanity(subject, by_method, images, answers, weighed, trained)
    shares = np.linspace(0, 1, by.STEPS + 1) if curves else ()
    return Scores(
        subject.title, n, weighed.removesuffix("_out"), by_method, tuple(_rounded(shares)), layout
    )


@dataclass(frozen=True)
class _Made:
    values: np.ndarray  # as the method makes them
    heat: np.ndarray  # (n, *space)


def _maps(
    method: str,
    net: TracedNet,
    inputs: Inputs,
    classes: np.ndarray,
    layer: str,
) -> _Made:
    """Return a method's maps of any number of inputs, a batch at a time."""
    space = inputs.shape[1:-1]
    if method == RANDOM:
        drawn = np.random.default_rng(SEED).random((len(inputs), *space), np.float32)
        return _Made(drawn, drawn)

    def of_batch(net: TracedNet, some: Inputs, which: Classes) -> Any:
        if method in ONE_PASS:
            return net.run(_once, some, which, method=method, layer=layer)
        return compute(method, net, some, which, layer, most_steps=STEPS).values

    values = np.concatenate([*map(np.asarray, _in_batches(of_batch, net, inputs, classes))])
    values = values[: len(inputs)]
    return _Made(values, np.asarray(one_value_a_pixel(method, jnp.asarray(values), space)))


def _once(net: TracedNet, inputs: Inputs, classes: Classes, *, method: str, layer: str) -> Any:
    return compute(method, net, inputs, classes, layer).values


def _in_batches(function: Any, net: TracedNet, *arrays: Any) -> list[Any]:
    """Call a function with `BATCH` rows at a time; the last batch begins again with row 0."""
    count = len(arrays[0])
    size = min(BATCH, count)
    parts = []
    for begin in range(0, count, size):
        rows = np.arange(begin, begin + size) % count
        parts.append(function(net, *(jnp.asarray(values)[rows] for values in arrays)))
    return parts


def _answers(net: TracedNet, inputs: Inputs) -> np.ndarray:
    parts = _in_batches(lambda net, some: net.run(_argmax, some), net, inputs)
    return np.concatenate([*map(np.asarray, parts)])[: len(inputs)]


def _argmax(net: TracedNet, inputs: Inputs) -> Any:
    return net(inputs, [LOGITS])[LOGITS].argmax(-1).astype(jnp.int32)


def _point(subject: Subject, by_method: Mapping[str, Any], n: int, layer: str) -> str:
    """Play the pointing game; return how the mosaics lie."""
    looked_at = min(len(subject.images), CANDIDATES * n)
    labels = np.asarray(subject.labels[:looked_at])
    stored = np.asarray(subject.images[:looked_at])
    batches = [np.arange(at, at + BATCH) % looked_at for at in range(0, looked_at, BATCH)]
    answered = [
        _answers(subject.net, subject.normalise(jnp.asarray(stored[rows]))) for rows in batches
    ]
    answers = np.concatenate(answered)[:looked_at]
    right = np.flatnonzero(answers == labels)
    cells = by.cells_of(subject.shape[:-1])
    if len(np.unique(labels[right])) < cells:
        raise UserError(
            f"score=pointing makes mosaics of {cells} images of different classes, and of "
            f"{looked_at:,} images the net answers {len(right):,} rightly, of "
            f"{len(np.unique(labels[right]))} classes: give more examples, or another score."
        )
    groups = right[by.groups_of_classes(labels[right], -(-n // cells), cells, SEED)]
    used, places = np.unique(groups, return_inverse=True)
    inputs = subject.normalise(jnp.asarray(stored[used]))
    places = places.reshape(groups.shape)
    twice = tuple(2 * side for side in subject.shape[:-1])
    net = _net_of_size(subject, (*twice, subject.shape[-1]))
    drawn, inside = by.mosaics(inputs, places, same_size=net is None)
    net = subject.net if net is None else net
    asked = labels[groups].reshape(-1)[:n]
    rows = np.repeat(np.arange(len(groups)), cells)[:n]
    on_object = inside.reshape(-1, *inside.shape[2:])[:n]
    for method, numbers in by_method.items():
        subject.progress(f"pointing, {METHODS.get(method, method)}", 0, 1)
        made = _maps(method, net, drawn[jnp.asarray(rows)], asked, layer)
        hits, shares = by.pointing(made.heat, on_object)
        numbers["pointing"] = _summary(hits) | {"share": round(float(shares.mean()), 4)}
        subject.progress(f"pointing, {METHODS.get(method, method)}", 1, 1)
    return "same" if drawn.shape[1:-1] == subject.shape[:-1] else "twice"


def _net_of_size(subject: Subject, shape: tuple[int, ...]) -> TracedNet | None:
    """Return the net for inputs of another size; None if its weights are for one size."""
    try:
        return TracedNet(subject.model, subject.variables, shape)
    except (flax.errors.ScopeParamShapeError, UserError):
        return None


def _check_sanity(
    subject: Subject,
    by_method: Mapping[str, Any],
    inputs: Inputs,
    classes: np.ndarray,
    layer: str,
    trained: Mapping[str, np.ndarray],
) -> None:
    """Correlate the maps with those of the net with layers initialised anew."""
    net = subject.net
    fresh = initialise(subject.model, SEED, subject.shape)
    names = by.layers_from_the_top(net)
    methods = [method for method in by_method if method != RANDOM]
    for method in methods:
        by_method[method]["sanity"] = {}
    for number, (name, other) in enumerate(by.cascade(net, fresh, names), 1):
        for method in methods:
            made = _maps(method, other, inputs, classes, layer)
            alike = by.likeness(trained[method], made.values)
            known = alike[np.isfinite(alike)]
            value = round(float(known.mean()), 3) if len(known) else None
            by_method[method]["sanity"][name] = value
        subject.progress("sanity check", number, len(names))


def _summary(values: Any) -> dict[str, float | None]:
    """Return the mean and the half width of its normal interval of 95 %."""
    values = np.asarray(values, np.float64)
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else None
    return {
        "mean": round(float(values.mean()), 4),
        "half": None if half is None else round(float(half), 4),
    }


def _with_interval(numbers: Mapping[str, Any]) -> str:
    half = numbers["half"]
    return f"{numbers['mean']:.2f}" + ("" if half is None else f" ± {half:.2f}")


def _rounded(values: Any) -> list[float]:
    return [round(float(value), 4) for value in values]
