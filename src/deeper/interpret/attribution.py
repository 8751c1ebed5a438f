"""Which pixels of an image a class's score comes from, by any method of `attribution_methods`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int32
from matplotlib.figure import Figure

from deeper.errors import UserError
from deeper.interpret import attribution_methods, drawing
from deeper.interpret.attribution_methods import Classes, Heat, PixelMaps
from deeper.interpret.sequence_figure import sequence_figure
from deeper.interpret.traced_net import LOGITS, Images, TracedNet
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
NOISE_SEED = 0  # of SmoothGrad
OCCLUDED = 3  # positions of a sequence at a time, one position from one to the next, ...
PLACES = 256  # ... up to so many positions; of longer sequences parts, which half overlap


def compute(
    method: str,
    net: TracedNet,
    images: Images,
    classes: Classes,
    layer: str,
    progress: Progress = lambda done, total: None,
) -> PixelMaps | Heat:
    """Return what a method makes of each image.

    Args:
        method: a name in `METHODS`.
        net: the net.
        images: normalised.
        classes: whose score.
        layer: with maps, for the methods in `ON_MAPS`.
        progress: called with (steps done, steps) by the methods that take many passes.

    Returns:
        Values by pixel and channel, (n, height, width, channels), of either sign; or non-negative
        heat on a grid of the method's own, (n, rows, columns).
    """
    match method:
        case "gradient":
            return attribution_methods.gradient(net, images, classes)
        case "guided_backprop":
            return attribution_methods.gradient(net, images, classes, "guided")
        case "deconvnet":
            return attribution_methods.gradient(net, images, classes, "deconvnet")
        case "integrated_gradients":
            return attribution_methods.integrated_gradients(net, images, classes, progress=progress)
        case "smooth_grad":
            key = jax.random.key(NOISE_SEED)
            return attribution_methods.smooth_grad(net, images, classes, key, progress=progress)
        case "grad_cam":
            return attribution_methods.grad_cam(net, images, classes, layer)
        case "grad_cam_plus_plus":
            return attribution_methods.grad_cam_plus_plus(net, images, classes, layer)
        case "occlusion":
            if images.ndim == 3:
                stride = -(-images.shape[1] // PLACES)
                side = min(OCCLUDED if stride == 1 else 2 * stride, images.shape[1])
                by_place = attribution_methods.occlusion_of_sequences(
                    net, images, classes, side=side, stride=stride, progress=progress
                )
                return by_place.max(axis=1, keepdims=True) - by_place
            side = max(1, min(images.shape[1:3]) // 4)
            stride = max(1, side // 4)
            probability = attribution_methods.occlusion(
                net, images, classes, side=side, stride=stride, progress=progress
            )
            return probability.max(axis=(1, 2), keepdims=True) - probability
    raise UserError(f"method={method} is unknown; choose one of {', '.join(METHODS)}.")


def one_value_a_pixel(method: str, values: PixelMaps | Heat, size: tuple[int, ...]) -> Heat:
    """Reduce a method's values over channels; enlarge heat on a coarser grid linearly.

    The channels are added up for integrated gradients, so that a map still adds up to the
    difference of scores; otherwise their largest size counts (Simonyan et al. 2013, section 3.1).

    Args:
        method: a name in `METHODS`.
        values: from `compute`.
        size: (height, width) of the images, or (length,) of sequences.
    """
    if values.ndim == 1 + len(size):
        return jax.image.resize(values, (len(values), *size), "linear")
    return values.sum(-1) if method == "integrated_gradients" else jnp.abs(values).max(-1)


@dataclass(frozen=True, repr=False)
class Attribution:
    """Which pixels of some images, or positions of sequences, a class's score comes from.

    Attributes:
        maps: a value a pixel, float32 (n, height, width), or a position, (n, length), in the unit
            of the method; of either sign for integrated gradients, else non-negative. Zero in the
            padding of sequences.
        classes: whose score, int32 (n,).
        scores: their logits, float32 (n,).
        layer: whose maps Grad-CAM and Grad-CAM++ weigh; None with the other methods.
        method: a name in `METHODS`.
        images: the inputs, before ``normalise``.
        class_names: in the order of the classes; None where they are known by number.
        symbols: of sequences: what stands at each position, such as a character; None where there
            are none, as of sound.
    """

    maps: Float32[np.ndarray, " n *places"]
    classes: Int32[np.ndarray, " n"]
    scores: Float32[np.ndarray, " n"]
    layer: str | None
    method: str
    images: np.ndarray
    class_names: Sequence[str] | None = None
    symbols: Sequence[Sequence[str]] | None = None

    def __repr__(self) -> str:
        """Return a line."""
        where = f" of {self.layer}" if self.layer else ""
        return f"Attribution({self.method}{where}, maps {self.maps.shape})"

    def figure(self) -> Figure:
        """Return a figure of every image and the heat map over it, with its class and score."""
        known = self.class_names
        names = [str(c) if known is None else known[c] for c in self.classes]
        titles = [f"{name} ({score:.3g})" for name, score in zip(names, self.scores, strict=True)]
        heading = METHODS[self.method] + (f", {self.layer}" if self.layer else "")
        if self.maps.ndim == 2:
            return sequence_figure(heading, list(self.maps), titles, self.symbols)
        pictures = [drawing.as_picture(image) for image in self.images]
        return drawing.overlay_figure(heading, pictures, list(self.maps), titles)


def attribute(
    model: nn.Module,
    variables: Any,
    inputs: Any,
    method: str = "grad_cam",
    layer: str | None = None,
    classes: int | Sequence[int] | None = None,
    normalise: Callable[[Any], Any] = lambda images: images,
    class_names: Sequence[str] | None = None,
    symbols: Sequence[Sequence[str]] | None = None,
    progress: Progress = lambda done, total: None,
) -> Attribution:
    """Return which pixels, or positions of sequences, a class's score comes from.

    Args:
        model: any net that follows the package's contract and answers images with logits.
        variables: params and batch_stats.
        inputs: images (n, height, width, channels), such as ``normalise`` takes; or sequences
            (n, length, channels), or tokens (n, length) for a net that says how many there are
            (``tokens``) and takes one-hot rows in their place.
        method: a name in `METHODS`.
        layer: a stage or layer with maps, for Grad-CAM and Grad-CAM++; the last stage by default.
        classes: whose score: one class, or one for each image; by default the net's own answers.
        normalise: images -> what the net takes; by default the inputs are that already.
        class_names: in the order of the classes, for the figure.
        symbols: what stands at each position of a sequence, for the figure.
        progress: called with (steps done, steps) by the methods that take many passes.

    Raises:
        UserError: there is no such method, layer or class, or the inputs are no images.
    """
    if method not in METHODS:
        raise UserError(f"method={method} is unknown; choose one of {', '.join(METHODS)}.")
    if layer is not None and method not in ON_MAPS:
        raise UserError(f"layer={layer} is for {' and '.join(ON_MAPS)}; {method} has none.")
    inputs = np.asarray(inputs)
    tokens = getattr(model, "tokens", None) if inputs.ndim == 2 else None
    if inputs.ndim not in (3, 4) and tokens is None:
        raise UserError(
            f"Attribution is of images (n, height, width, channels) or sequences (n, length, "
            f"channels); these inputs are of shape {inputs.shape}."
        )
    images = jnp.asarray(normalise(inputs))
    if tokens is not None:
        images = jax.nn.one_hot(images, tokens) * (images != 0)[..., None]
    net = TracedNet(model, variables, jax.ShapeDtypeStruct(images.shape[1:], images.dtype))
    name = net.layer_with_maps(layer) if method in ON_MAPS else ""
    logits = net(images, [LOGITS])[LOGITS]
    chosen = _classes(classes, np.asarray(logits))
    values = compute(method, net, images, jnp.asarray(chosen), name, progress)
    maps = one_value_a_pixel(method, values, images.shape[1:-1])
    if images.ndim == 3:
        maps = jnp.where(jnp.arange(images.shape[1])[None] < lengths_of(images)[:, None], maps, 0)
    return Attribution(
        maps=np.asarray(maps, np.float32),
        classes=chosen,
        scores=np.asarray(logits, np.float32)[np.arange(len(chosen)), chosen],
        layer=name.removesuffix("_out") or None,
        method=method,
        images=inputs,
        class_names=class_names,
        symbols=symbols,
    )


def _classes(classes: int | Sequence[int] | None, logits: np.ndarray) -> Int32[np.ndarray, " n"]:
    """Return a class an image, checked."""
    count, known = logits.shape
    chosen = np.asarray(logits.argmax(-1) if classes is None else classes, np.int32).reshape(-1)
    if len(chosen) not in (1, count):
        raise UserError(f"classes has {len(chosen)} entries: give one, or one for each of {count}.")
    if ((chosen < 0) | (chosen >= known)).any():
        raise UserError(
            f"classes={list(map(int, chosen))}: the net's classes are 0 to {known - 1}."
        )
    return np.broadcast_to(chosen, (count,)).copy()
