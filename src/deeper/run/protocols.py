"""Evaluation protocols: ``protocol=`` of ``deeper evaluate``."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deeper.augment.test_time_views import ten_crops, with_mirror_images, zero_padded
from deeper.config.data_sections import OwnDataset
from deeper.errors import UserError
from deeper.run.dataset import view_of

CROPS = ("1crop", "flip", "10crop")
WHOLE = ("dense", "multiscale")
HE_SCALES = (
    224,
    256,
    384,
    480,
    640,
)  # He et al. 2015, section 3.4, at 224 pixels
HE_PIXELS = 224
LEAST = 32  # pixels; some nets pad smaller images
PADDING = 4  # of ten crops of small images, in pixels per side


@dataclass(frozen=True)
class Protocol:
    """An evaluation protocol with its parameters.

    Attributes:
        name: one of CROPS and WHOLE.
        title: its name, with parameters that are not the defaults of the run or the paper.
        words: description of the protocol.
        parameters: its parameters by name.
        image_shape: (height, width, channels) of the net's input; for CROPS.
        shown: (height, width, channels) of the image that the views are cut from.
        shorter_side: shorter side of photographs, in pixels.
        scales: shorter sides of whole photographs; for WHOLE.
        views: function from images to the views that are averaged; None for a single view.
    """

    name: str
    title: str
    words: str
    parameters: dict[str, Any]
    image_shape: tuple[int, ...]
    shown: tuple[int, ...]
    shorter_side: int | None = None
    scales: tuple[int, ...] = ()
    views: Callable[[Any], Any] | None = None


@dataclass(frozen=True)
class ProtocolRequest:
    """A requested protocol; None stands for the default of the run or the paper.

    Attributes:
        protocol: one of CROPS and WHOLE.
        size: size of crops of photographs, pixels or (height, width).
        shorter_side: shorter side of photographs that crops are cut from, pixels.
        scales: shorter sides at which photographs are seen whole.
        padding: padding of ten crops of images of one size, in pixels per side.
    """

    protocol: str = "1crop"
    size: Any = None
    shorter_side: int | None = None
    scales: Any = None
    padding: int | None = None


def protocol_of(request: ProtocolRequest, data: Any) -> Protocol:
    """Return the requested protocol.

    Args:
        request: the request.
        data: section of the run's config.

    Raises:
        UserError: the protocol is unknown, does not fit the data, or does not use a given
            parameter.
    """
    name = request.protocol
    if name not in CROPS + WHOLE:
        raise UserError(f"protocol={name} is unknown; choose {', '.join(CROPS + WHOLE)}.")
    if isinstance(data, OwnDataset):
        if request != ProtocolRequest():
            raise UserError(f"protocol={name} is for images; the examples of {data.name} are none.")
        return Protocol(name, "each once", "each example once, as stored", {}, (), ())
    photographs = view_of(data) is not None
    if name in WHOLE and not photographs:
        raise UserError(
            f"protocol={name} sees photographs whole, but the images of {data.name} have one size: "
            f"choose {', '.join(CROPS)}."
        )
    used = {
        "size": photographs and name in CROPS,
        "shorter_side": photographs and name in CROPS,
        "scales": name in WHOLE,
        "padding": name == "10crop" and not photographs,
    }
    for key, has_part in used.items():
        if getattr(request, key) is not None and not has_part:
            whose = "photographs" if photographs else "images of one size"
            raise UserError(
                f"{key}={getattr(request, key)} has no part in protocol={name} of {whose}."
            )
    if name in WHOLE:
        return _whole(name, request, data)
    return (
        _crops_of_photographs(name, request, data) if photographs else _small(name, request, data)
    )


def _whole(name: str, request: ProtocolRequest, data: Any) -> Protocol:
    own: tuple[int, ...] = (data.shorter_side,)
    if name == "multiscale":
        own = tuple(round(s * min(data.image_shape[:2]) / HE_PIXELS) for s in HE_SCALES)
    given = request.scales
    scales = own if given is None else tuple(given) if isinstance(given, list | tuple) else (given,)
    if not scales or not all(isinstance(s, int) and s >= LEAST for s in scales):
        raise UserError(
            f"scales={given or list(own)}: give shorter sides in pixels, such as [256], of {LEAST} "
            "and more."
        )
    if len(set(scales)) != len(scales):
        raise UserError(f"scales={given}: give each once.")
    listed = ", ".join(map(str, scales))
    over = "mirror images and scales" if len(scales) > 1 else "mirror images"
    return Protocol(
        name=name,
        title=name if scales == own else f"{name} at {listed}",
        words=f"{name}: whole images, shorter side {listed} ({_resizing(data)}), and mirrored; "
        f"scores averaged over places, probabilities over {over}",
        parameters={"scales": list(scales)},
        image_shape=tuple(data.image_shape),
        shown=tuple(data.image_shape),
        scales=scales,
    )


def _crops_of_photographs(name: str, request: ProtocolRequest, data: Any) -> Protocol:
    own = tuple(data.image_shape[:2])
    size, shorter = request.size, request.shorter_side or data.shorter_side
    sides: Any = own if size is None else (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or not all(isinstance(s, int) and s > 0 for s in sides):
        raise UserError(f"size={size}: give pixels, as 224 or [height,width].")
    least = max(sides) if name == "10crop" else min(sides)
    if least > shorter:
        raise UserError(
            f"Crops of {sides[0]}x{sides[1]} pixels cannot be cut from photographs whose shorter "
            f"side is {shorter}: say shorter_side={least} or more, or a smaller size."
        )
    channels = data.image_shape[2]
    shape = (*sides, channels)
    pixels = f"{sides[0]}x{sides[1]}"
    side = f"shorter side {shorter} ({_resizing(data)})"
    at = str(sides[0]) if sides[0] == sides[1] else pixels
    standard = (sides, shorter) == (own, data.shorter_side)
    words = {
        "1crop": f"1-crop: {side}, middle {pixels}",
        "flip": f"1-crop: {side}, middle {pixels}, and mirrored, probabilities averaged",
        "10crop": f"10-crop: {side}, of the middle square the corners and centre of {pixels}, and "
        "mirrored, probabilities averaged",
    }
    return Protocol(
        name=name,
        title=name if standard else f"{name} at {at} of {shorter}",
        words=words[name],
        parameters={"size": list(sides), "shorter_side": shorter},
        image_shape=shape,
        # Krizhevsky et al. 2012, section 2: "rescaled the image such that the shorter side was of
        # length 256, and then cropped out the central 256 x 256 patch".
        shown=(shorter, shorter, channels) if name == "10crop" else shape,
        shorter_side=shorter,
        views={
            "1crop": None,
            "flip": with_mirror_images,
            "10crop": lambda images: ten_crops(images, sides),
        }[name],
    )


def _small(name: str, request: ProtocolRequest, data: Any) -> Protocol:
    """Images of one size are used as stored, or as crops after zero padding."""
    padding = PADDING if request.padding is None else request.padding
    if padding < 1:
        raise UserError(f"padding={padding}: with protocol=10crop give at least 1.")
    shape = tuple(data.image_shape)
    words = {
        "1crop": "1-crop: images as stored",
        "flip": "images as stored and mirrored, probabilities averaged",
        "10crop": f"10-crop: corners and centre of the image with {padding} pixels of zeros on "
        "each side, as they are and mirrored, probabilities averaged",
    }
    return Protocol(
        name=name,
        title=name if padding == PADDING else f"{name} on {padding}",
        words=words[name],
        parameters={"size": list(shape[:2])} | ({"padding": padding} if name == "10crop" else {}),
        image_shape=shape,
        shown=shape,
        views={
            "1crop": None,
            "flip": with_mirror_images,
            "10crop": lambda images: ten_crops(zero_padded(images, padding), shape[:2]),
        }[name],
    )


def _resizing(data: Any) -> str:
    how = {True: "antialiased", "fast": "antialiased by cykooz-resizer", False: "not antialiased"}
    return how[data.antialias]
