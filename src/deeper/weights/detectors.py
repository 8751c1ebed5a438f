"""Files of torchvision's Faster R-CNN: where its arrays are, and which net they are of."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from deeper.errors import UserError
from deeper.weights.architectures import architecture_of

CLASS_SCORE = "roi_heads.box_predictor.cls_score.weight"  # where it stands, a detector stands
BODY = "backbone.body."
# Names of torchvision before 0.13, as its published files have them.
OLD = (
    (r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)$", r"\1.0.\2"),
    (r"^rpn\.head\.conv\.(weight|bias)$", r"rpn.head.conv.0.0.\1"),
)


@dataclass(frozen=True)
class Detector:
    """A detector in a file.

    Attributes:
        arrays: by torchvision's present names.
        name: of the net.
        overrides: of a config.
        classes: of objects, without background.
    """

    arrays: dict[str, np.ndarray]
    name: str
    overrides: tuple[str, ...]
    classes: int


def find(arrays: Mapping[str, np.ndarray]) -> Detector | None:
    """Return the detector in a file; None if there is none.

    Args:
        arrays: of the file, by names joined with dots.

    Raises:
        UserError: there are several, or its backbone is no net that we have.
    """
    places = [name for name in arrays if name == CLASS_SCORE or name.endswith(f".{CLASS_SCORE}")]
    if not places:
        return None
    if len(places) > 1:
        raise UserError(f"The file has {len(places)} detectors: {', '.join(places)}.")
    prefix = places[0].removesuffix(CLASS_SCORE)
    inside = {
        _present(name.removeprefix(prefix)): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
    shapes = {
        name.removeprefix(BODY): array.shape
        for name, array in inside.items()
        if name.startswith(BODY)
    }
    body = architecture_of(shapes)
    version = 2 if "rpn.head.conv.1.0.weight" in inside else 1
    words = [word.replace("model.", "model.backbone.", 1) for word in body.overrides[1:]]
    kind = body.overrides[0].partition("=")[2]
    overrides = (
        "model=faster_rcnn", f"model@model.backbone={kind}", *words, f"model.version={version}",
    )  # fmt: skip
    name = f"fasterrcnn_{body.name.split()[0]}_fpn" + ("_v2" if version == 2 else "")
    return Detector(inside, name, overrides, len(inside[CLASS_SCORE]) - 1)


def _present(name: str) -> str:
    for pattern, now in OLD:
        name = re.sub(pattern, now, name)
    return name
