"""How images were shown to a net when its weights were made, and to a run that begins from them.

Weights carry their preprocessing: a net that was trained on pixels from -1 to 1 answers nonsense
for others, and its error alone does not tell why. A net that was trained here was shown images
normalised by their own data set's statistics; on another data set, that data set's do the same.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np

from deeper.data.array_records import class_names
from deeper.data.catalogue import CATALOGUE
from deeper.data.dataset import prepared_directory
from deeper.data.prepare.imagenet import CLASSES, wordnet_ids
from deeper.errors import UserError
from deeper.models.googlenet import GoogLeNet
from deeper.run import data_record
from deeper.weights import weight_files

ORIGIN = "weights.json"  # beside imported weights: where they are from
SCALE = ["mean", "std"]
SHOWN = ["image_shape", "exif"]
# torchvision's GoogLeNet was trained at Inception's scale; its own code turns images that are
# normalised in the usual way into it (transform_input).
INCEPTION = {"mean": [0.5] * 3, "std": [0.5] * 3}


def of_file(source: str, model: nn.Module) -> dict[str, list[float]]:
    """Return mean and std that a file of weights says, or its net's are known to need.

    Args:
        source: the file, or hf:OWNER/NAME.
        model: the net that its weights are for.
    """
    told = _told_by(source)
    if all(name in told for name in SCALE):
        return {name: [float(value) for value in told[name]] for name in SCALE}
    return dict(INCEPTION) if isinstance(model, GoogLeNet) else {}


def _told_by(source: str) -> dict[str, Any]:
    """Return what a file that deeper wrote says of its net."""
    path = Path(source).expanduser()
    if path.suffix != ".safetensors" or not path.is_file():
        return {}
    found = {}
    for name, text in weight_files.metadata_of(path).items():
        if name in (*SCALE, "classes"):
            try:
                found[name] = json.loads(text)
            except ValueError:
                continue
    return {name: value for name, value in found.items() if isinstance(value, list)}


def record_of_import(
    data: Any, plain: Mapping[str, Any], source: str, new: Sequence[str]
) -> dict[str, Any]:
    """Return what ``data.json`` holds of imported weights.

    Args:
        data: the section of the command's config.
        plain: as it is stored, its mean and std those of the weights.
        source: the file of weights.
        new: last layers that were drawn, since the file has other classes.
    """
    stored = plain["data"]
    names = _names(data, [] if new else _told_by(source).get("classes", []))
    return {
        "name": stored["name"],
        **({} if names is None else {"class_names": names}),
        "image_shape": list(stored["image_shape"]),
        "preprocessing": {key: stored[key] for key in data_record.PREPROCESSING if key in stored},
    }


def _names(data: Any, told: Sequence[str]) -> list[str] | None:
    """Return the names of a net's classes, as far as anything tells them."""
    known: Sequence[str] = told
    if data.name == "imagenet" and data.classes == CLASSES:
        known = wordnet_ids()
    elif not told:
        directory = prepared_directory(data.name, Path(data.dir))
        if directory is not None:
            known = class_names(directory)
        elif data.name in CATALOGUE:
            known = CATALOGUE[data.name].class_names or ()
        if data.keep_classes is not None and known:
            known = [known[number] for number in data.keep_classes if number < len(known)]
    return list(known) if len(known) == data.classes else None


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
