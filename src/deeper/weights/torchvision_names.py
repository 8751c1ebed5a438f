"""What torchvision and timm call the layers of our nets: a table for each net."""

from collections.abc import Callable, Mapping
from typing import Any

from deeper.errors import UserError
from deeper.models.alexnet import OWT, AlexNet
from deeper.models.googlenet import HEADS, INCEPTION, GoogLeNet
from deeper.models.resnet import ResNet
from deeper.models.vgg import VGG, WIDTHS

# our path -> torchvision's prefix
Names = dict[str, str]

# Channels of the maps in front of a dense layer that sees all their places. PyTorch flattens
# them as (channel, row, column), we as (row, column, channel).
FLATTENED: dict[type, dict[str, int]] = {
    AlexNet: {"fc1": OWT[-1][0]},
    VGG: {"fc1": WIDTHS[-1]},
    GoogLeNet: {"aux1/fc1": 128, "aux2/fc1": 128},
    ResNet: {},
}

# Where timm's prefixes differ from torchvision's: its VGG has convolutions for hidden layers.
TIMM = {
    "pre_logits.fc1": "classifier.0",
    "pre_logits.fc2": "classifier.3",
    "head.fc": "classifier.6",
}

# The layer whose outputs are the classes, and those of auxiliary heads.
LAST: dict[type, tuple[str, ...]] = {
    AlexNet: ("fc3",),
    VGG: ("fc3",),
    GoogLeNet: ("fc", "aux1/fc2", "aux2/fc2"),
    ResNet: ("fc",),
}


def names_of(model: object) -> Names:
    """Return what torchvision calls each layer of a net.

    Raises:
        UserError: torchvision has no such net.
    """
    tables: dict[type, Callable[[Any], Names]] = {
        AlexNet: _alexnet,
        VGG: _vgg,
        GoogLeNet: _googlenet,
        ResNet: _resnet,
    }
    if type(model) not in tables:
        raise UserError(f"torchvision has no {type(model).__name__}.")
    return tables[type(model)](model)


def _alexnet(model: AlexNet) -> Names:
    if model.paper:
        raise UserError("torchvision has AlexNet in the form of 2014 alone: take model.form=owt.")
    convolutions = dict(zip(range(1, 6), (0, 3, 6, 8, 10), strict=True))
    return {f"conv{ours}": f"features.{theirs}" for ours, theirs in convolutions.items()} | {
        "fc1": "classifier.1",
        "fc2": "classifier.4",
        "fc3": "classifier.6",
    }


def _vgg(model: VGG) -> Names:
    names: Names = {}
    index = 0
    for stage, convolutions in enumerate(model.stages, 1):
        for number in range(1, convolutions + 1):
            names[f"stage{stage}_conv{number}"] = f"features.{index}"
            if model.batch_norm:
                names[f"stage{stage}_bn{number}"] = f"features.{index + 1}"
            index += 3 if model.batch_norm else 2  # with the rectifier
        index += 1  # the pooling
    return names | {"fc1": "classifier.0", "fc2": "classifier.3", "fc3": "classifier.6"}


def _googlenet(model: GoogLeNet) -> Names:
    if not model.batch_norm or model.small:
        raise UserError(
            "torchvision has GoogLeNet with BatchNorm and the paper's stem alone: take "
            "model.form=batch_norm model.stem=paper."
        )
    units = {"conv1": "conv1", "conv2": "conv2", "conv3": "conv3"}
    for module in INCEPTION:
        units |= {
            f"inception{module}/branch1": f"inception{module}.branch1",
            f"inception{module}/branch2_reduce": f"inception{module}.branch2.0",
            f"inception{module}/branch2": f"inception{module}.branch2.1",
            f"inception{module}/branch3_reduce": f"inception{module}.branch3.0",
            f"inception{module}/branch3": f"inception{module}.branch3.1",
            f"inception{module}/branch4": f"inception{module}.branch4.1",
        }
    heads = HEADS.values() if model.auxiliary else ()
    units |= {f"{head}/conv": f"{head}.conv" for head in heads}
    names = {f"{ours}/{part}": f"{units[ours]}.{part}" for ours in units for part in ("conv", "bn")}
    names |= {f"{head}/{fc}": f"{head}.{fc}" for head in heads for fc in ("fc1", "fc2")}
    return names | {"fc": "fc"}


def _resnet(model: ResNet) -> Names:
    block = model.block
    if model.stem != "imagenet" or block.pre_activation or block.shortcut != "B":
        raise UserError(
            "torchvision has residual nets in the ImageNet form with shortcuts B alone: take "
            "model.form=imagenet model.stem=paper model.shortcut=B model.pre_activation=false."
        )
    if not block.residual:
        raise UserError("torchvision has no plain nets.")
    names = {"conv1": "conv1", "bn1": "bn1"}
    for stage, blocks in enumerate(model.stages, 1):
        for b in range(blocks):
            ours, theirs = f"stage{stage}/block{b + 1}", f"layer{stage}.{b}"
            for i in range(1, block.convolutions + 1):
                names[f"{ours}/conv{i}"] = f"{theirs}.conv{i}"
                names[f"{ours}/bn{i}"] = f"{theirs}.bn{i}"
            names[f"{ours}/shortcut_conv"] = f"{theirs}.downsample.0"
            names[f"{ours}/shortcut_bn"] = f"{theirs}.downsample.1"
    return names | {"fc": "fc"}


def as_torchvision(names: Mapping[str, object]) -> dict[str, str]:
    """Return timm's names translated: {name in the file: torchvision's name}."""
    translated = {}
    for name in names:
        prefix, _, leaf = name.rpartition(".")
        translated[name] = f"{TIMM.get(prefix, prefix)}.{leaf}"
    return translated
