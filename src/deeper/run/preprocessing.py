"""How images were shown to a net when its weights were made, and to a run that begins from them.

Weights carry their preprocessing: a net that was trained on pixels from -1 to 1 answers nonsense
for others, and its error alone does not tell why. A net that was trained here was shown images
normalised by their own data set's statistics; on another data set, that data set's do the same.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deeper.config.compose import shorter_side_for
from deeper.data.array_records import class_names
from deeper.data.catalogue import CATALOGUE
from deeper.data.dataset import prepared_directory
from deeper.errors import UserError
from deeper.models.googlenet import GoogLeNet
from deeper.models.inception_v3 import InceptionV3
from deeper.weights import timm_config
from deeper.weights.torchvision_files import PUBLISHED
from deeper.weights.weight_files import WeightFile

SCALE = ["mean", "std"]
SHOWN = ["image_shape", "interpolation", "exif"]
OF_FILES = ("image_shape", "shorter_side", "interpolation", "mean", "std")
STANDARD = (224, 224, 3)
# torchvision's Inception nets were trained at Inception's scale; its own code turns images that are
# normalised in the usual way into it (transform_input).
INCEPTION: dict[str, Any] = {"mean": [0.5] * 3, "std": [0.5] * 3}
NEEDED: dict[type, dict[str, Any]] = {
    GoogLeNet: INCEPTION,
    InceptionV3: INCEPTION | {"image_shape": [299, 299, 3], "shorter_side": 342},
}


def of_file(file: WeightFile, net: Any) -> dict[str, Any]:
    """Return how images were shown to a file's net, by the keys of a ``data`` section.

    What the file or a config beside it says comes first, then what torchvision publishes with its
    files, then what the net is known to need.

    Args:
        file: of weights.
        net: that they are of.
    """
    shown: dict[str, Any] = dict(NEEDED.get(type(net), {}))
    published = PUBLISHED.get(file.origin.get("sha256", "")[:8])
    if published is not None:
        shown["shorter_side"] = published[2]
    if timm_config.is_config(file.config):
        shown |= timm_config.preprocessing_of(file.config)
    own = file.own
    shown |= {key: own[key] for key in OF_FILES if isinstance(own.get(key), list | int | str)}
    if "image_shape" in own and "shorter_side" not in shown:
        # Of a net for images of one size there is none, in files of an older deeper of any net.
        side = min(own["image_shape"][:2])
        shown["shorter_side"] = (
            side if "shorter_side" in own else shorter_side_for(own["image_shape"])
        )
    for name in SCALE:
        if name in shown:
            shown[name] = [float(value) for value in shown[name]]
    return shown


def names_in(file: WeightFile) -> tuple[str, ...]:
    """Return the names of the classes that a file, or a config beside it, says."""
    own = file.own.get("classes")
    return tuple(map(str, own)) if isinstance(own, list) else timm_config.names_of(file.config)


def names_of_data(data: Any) -> tuple[str, ...]:
    """Return the class names of the data set that a config names, as far as anything tells them."""
    directory = prepared_directory(data.name, Path(data.dir))
    known: Sequence[str] = ()
    if directory is not None:
        known = class_names(directory)
    elif data.name in CATALOGUE:
        known = CATALOGUE[data.name].class_names or ()
    if getattr(data, "keep_classes", None) is not None and known:
        known = [known[number] for number in data.keep_classes if number < len(known)]
    return tuple(known)


def fitted(
    shown: Mapping[str, Any], data: Mapping[str, Any], given: Collection[str]
) -> dict[str, Any]:
    """Return which values of a file's preprocessing a ``data`` section takes.

    Args:
        shown: from `of_file`.
        data: the section.
        given: its keys that the user gave, which hold against the file. With another size of image
            the shorter side keeps its proportion.
    """
    taken = {key: value for key, value in shown.items() if key in data and key not in given}
    if "shorter_side" in taken and "image_shape" in given:
        side = min(shown.get("image_shape", STANDARD)[:2])
        taken["shorter_side"] = round(min(data["image_shape"][:2]) * shown["shorter_side"] / side)
    return {key: value for key, value in taken.items() if value != data[key]}


def compared(
    ours: Any,
    source: str,
    theirs: Any,
    *,
    same_data: bool,
    overrides: Sequence[str] | None,
) -> str | None:
    """Say in a line how a run shows images otherwise than its weights' were shown; None if not.

    Args:
        ours: the data section of the run's config.
        source: where its weights are from.
        theirs: the section of their config, or what is known of it.
        same_data: whether mean and std have to be the same, as the weights' data are the run's, or
            the weights were imported.
        overrides: that the user gave; None where they are not known.

    Raises:
        UserError: mean or std differ that have to be the same, and the user did not give them.
    """
    then, now = ({key: getattr(one, key, None) for key in SCALE + SHOWN} for one in (theirs, ours))
    both = [key for key in then if then[key] is not None and now[key] is not None]
    known = {key: _plain(then[key]) for key in both}
    scale = [key for key in SCALE if key in known and not _equal(known[key], now[key])]
    given = None if overrides is None else {word.lstrip("+").split("=")[0] for word in overrides}
    if same_data and given is not None and not {f"data.{key}" for key in scale} <= given:
        one, other = (
            " ".join(f"data.{key}={_list(shown[key])}" for key in scale) for shown in (known, now)
        )
        raise UserError(
            f"init_from={source}: its weights are of images with {one}, and this run's would have "
            f"{other}. Say the one or the other in the command."
        )
    others = [key for key in SHOWN if key in known and known[key] != _plain(now[key])]
    differ = [f"{key} {_list(known[key])} there, {_list(now[key])} here" for key in scale + others]
    return f"Images were shown otherwise to {source}: {'; '.join(differ)}." if differ else None


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool((np.abs(np.subtract(one, other)) <= 1e-6).all())
    except ValueError:
        return False  # another number of channels


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else list(value)


def _list(value: Any) -> str:
    """Return a value as it is typed."""
    plain = _plain(value)
    return f"[{','.join(map(str, plain))}]" if isinstance(plain, list) else str(plain)
