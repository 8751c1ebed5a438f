"""Weights of DenseNets; timm's names are torchvision's."""

import re

from deeper.errors import UserError
from deeper.models.densenet import BOTTLENECK, DEPTHS, DenseNet
from deeper.weights.architecture import Architecture, Shapes, classes_of, count

NET, KIND = DenseNet, "DenseNet"
ANCHORS = ("features.norm5.weight",)
HEAD, LAST = "classifier", ("fc",)
FIRST = "features.conv0.weight"
# torchvision's published files are older than its code: norm.1 stands for norm1.
OLD = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.")


def names(model: DenseNet) -> dict[str, str]:
    """Return path of our layer -> torchvision's prefix."""
    if model.stem != "imagenet" or not model.layer.bottleneck or len(model.blocks) != 4:
        raise UserError(
            "torchvision has DenseNets of the ImageNet form with the paper's stem and bottlenecks "
            "alone: take model.form=imagenet model.stem=paper model.bottleneck=true."
        )
    table = {"conv1": "features.conv0", "bn1": "features.norm0"}
    for i, layers in enumerate(model.blocks, 1):
        for number in range(1, layers + 1):
            theirs = f"features.denseblock{i}.denselayer{number}"
            for part in ("norm1", "conv1", "norm2", "conv2"):
                table[f"stage{i}/layer{number}/{part}"] = f"{theirs}.{part}"
        for part in ("norm", "conv"):
            table[f"transition{i}/{part}"] = f"features.transition{i}.{part}"
    return table | {"bn_last": "features.norm5", "fc": HEAD}


def architecture(shapes: Shapes) -> Architecture:
    """Return the net that arrays of such names and shapes are of."""
    layers = [
        count(shapes, f"features.denseblock{i}.denselayer{{}}.conv1.weight") for i in range(1, 5)
    ]
    first = "features.denseblock1.denselayer1.conv"
    if FIRST not in shapes or 0 in layers or f"{first}2.weight" not in shapes:
        raise UserError("It is a DenseNet of another form than torchvision's.")
    growth = shapes[f"{first}2.weight"][0]
    width, channels = shapes[FIRST][:2]
    if shapes[f"{first}1.weight"][0] != BOTTLENECK * growth:
        raise UserError(
            f"Its bottlenecks have {shapes[f'{first}1.weight'][0]} channels, and those of "
            f"DenseNets have {BOTTLENECK} times the growth rate of {growth}."
        )
    words = ["model=densenet", "model.form=imagenet"]
    depth = next((d for d, known in DEPTHS.items() if known == (tuple(layers), growth)), None)
    if depth is None:
        listed = ",".join(map(str, layers))
        words += ["model.depth=null", f"model.blocks=[{listed}]", f"model.growth={growth}"]
        name = f"densenet{2 * sum(layers) + 5} of growth {growth}"
    else:
        words.append(f"model.depth={depth}")
        name = f"densenet{depth}"
    if width != 2 * growth:
        words.append(f"model.width={width}")
        name += f" of width {width}"
    words += ["model.stem=paper", "model.bottleneck=true"]
    return Architecture(name, tuple(words), classes_of(shapes, HEAD), channels)


def from_timm(name: str) -> str:
    """Return torchvision's name of an array."""
    return OLD.sub(r"\1\2.", name)


def to_timm(name: str) -> str:
    """Return timm's name of an array."""
    return name
