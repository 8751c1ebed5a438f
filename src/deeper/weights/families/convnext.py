"""Weights of ConvNeXts."""

import re

from deeper.errors import UserError
from deeper.models.convnext import PATCH, SIZES, ConvNeXt
from deeper.weights.architecture import Architecture, Shapes, classes_of, count

NET, KIND = ConvNeXt, "ConvNeXt"
ANCHORS = ("features.1.0.block.0.weight", "stages.0.blocks.0.conv_dw.weight")
HEAD, LAST = "classifier.2", ("fc",)
FIRST = "features.0.0.weight"
# Our layers of a block -> places in torchvision's sequence, and timm's names.
PARTS = {"depthwise": (0, "conv_dw"), "norm": (2, "norm"), "expand": (3, "mlp.fc1"),
         "project": (5, "mlp.fc2")}  # fmt: skip


def names(model: ConvNeXt) -> dict[str, str]:
    """Return path of our layer -> torchvision's prefix."""
    if model.patch != PATCH:
        raise UserError("torchvision has ConvNeXt with the paper's stem alone: model.stem=paper.")
    table = {"conv1": "features.0.0", "norm1": "features.0.1"}
    for i, blocks in enumerate(model.blocks, 1):
        if i > 1:
            table[f"downsampling{i}/norm"] = f"features.{2 * i - 2}.0"
            table[f"downsampling{i}/conv"] = f"features.{2 * i - 2}.1"
        for number in range(blocks):
            ours, theirs = f"stage{i}/block{number + 1}", f"features.{2 * i - 1}.{number}"
            table[ours] = theirs  # of its layer scale
            table |= {f"{ours}/{part}": f"{theirs}.block.{n}" for part, (n, _) in PARTS.items()}
    return table | {"norm_last": "classifier.0", "fc": HEAD}


def architecture(shapes: Shapes) -> Architecture:
    """Return the net that arrays of such names and shapes are of."""
    blocks = tuple(count(shapes, f"features.{i}.{{}}.block.0.weight") for i in (1, 3, 5, 7))
    widths = tuple(shapes.get(f"features.{i}.0.block.0.weight", (None,))[0] for i in (1, 3, 5, 7))
    variant = next((v for v, entry in SIZES.items() if entry[:2] == (blocks, widths)), None)
    if variant is None or FIRST not in shapes:
        raise UserError(
            f"It is a ConvNeXt of {blocks} blocks and {widths} channels, and deeper has "
            f"{', '.join(SIZES)}."
        )
    if "features.1.0.layer_scale" not in shapes:
        raise UserError("It is a ConvNeXt without layer scale, and deeper's have it.")
    words = ("model=convnext", f"model.variant={variant}", "model.stem=paper")
    return Architecture(f"convnext_{variant}", words, classes_of(shapes, HEAD), shapes[FIRST][1])


def from_timm(name: str) -> str:
    """Return torchvision's name of an array."""
    if match := re.match(r"stem\.([01])\.(.*)", name):
        return f"features.0.{match[1]}.{match[2]}"
    if match := re.match(r"stages\.(\d)\.downsample\.([01])\.(.*)", name):
        return f"features.{2 * int(match[1])}.{match[2]}.{match[3]}"
    if match := re.match(r"stages\.(\d)\.blocks\.(\d+)\.(.*)\.(\w+)$", name):
        place = next((n for n, theirs in PARTS.values() if theirs == match[3]), match[3])
        return f"features.{2 * int(match[1]) + 1}.{match[2]}.block.{place}.{match[4]}"
    if match := re.match(r"stages\.(\d)\.blocks\.(\d+)\.gamma$", name):
        return f"features.{2 * int(match[1]) + 1}.{match[2]}.layer_scale"
    return re.sub(r"^head\.fc\.", f"{HEAD}.", re.sub(r"^head\.norm\.", "classifier.0.", name))


def to_timm(name: str) -> str:
    """Return timm's name of an array."""
    if match := re.match(r"features\.0\.([01])\.(.*)", name):
        return f"stem.{match[1]}.{match[2]}"
    if match := re.match(r"features\.([246])\.([01])\.(.*)", name):
        return f"stages.{int(match[1]) // 2}.downsample.{match[2]}.{match[3]}"
    if match := re.match(r"features\.(\d)\.(\d+)\.block\.(\d)\.(\w+)$", name):
        part = next(theirs for n, theirs in PARTS.values() if n == int(match[3]))
        return f"stages.{int(match[1]) // 2}.blocks.{match[2]}.{part}.{match[4]}"
    if match := re.match(r"features\.(\d)\.(\d+)\.layer_scale$", name):
        return f"stages.{int(match[1]) // 2}.blocks.{match[2]}.gamma"
    return name.replace(f"{HEAD}.", "head.fc.").replace("classifier.0.", "head.norm.")
