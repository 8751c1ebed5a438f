"""Names of our layers in torchvision and timm, one table per net."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from deeper.errors import UserError
from deeper.models.alexnet import OWT, AlexNet
from deeper.models.detection.faster_rcnn import FasterRCNN
from deeper.models.detection.heads import PyramidHead
from deeper.models.detection.pyramid import Pyramid
from deeper.models.googlenet import HEADS, INCEPTION, GoogLeNet
from deeper.models.resnet import DEEP_STEMS, ResNet
from deeper.models.vgg import VGG, WIDTHS
from deeper.weights.families import FAMILIES

# Path of our layer -> prefix in torchvision's state dict.
Names = dict[str, str]

# For each dense layer that flattens feature maps: their number of channels. PyTorch flattens them
# in the order (channel, row, column), we in the order (row, column, channel).
FLATTENED: dict[type, dict[str, int]] = {
    AlexNet: {"fc1": OWT[-1][0]},
    GoogLeNet: {"aux1/fc1": 128, "aux2/fc1": 128},
}
# Dense layers that are 1x1 convolutions in torchvision and timm.
POINTWISE = re.compile(r"\.se\.fc[12]\.weight$")


def flattened_in(model: object) -> dict[str, int]:
    """Return each dense layer of a net that flattens feature maps, with their channels."""
    if isinstance(model, FasterRCNN):
        assert isinstance(model.pyramid, Pyramid)
        return {"head/fc1": model.pyramid.channels}
    if isinstance(model, VGG):
        return {"fc1": WIDTHS[-1] * model.width // WIDTHS[0]}
    return FLATTENED.get(type(model), {})


# timm's prefixes that differ from torchvision's: in its VGG the hidden layers are convolutions.
TIMM = {
    "pre_logits.fc1": "classifier.0",
    "pre_logits.fc2": "classifier.3",
    "head.fc": "classifier.6",
}

# timm's nets with features_only=True.
FLATTENED_SEQUENCE = re.compile(r"^features_")
# Dense layers of torchvision's VGG that are convolutions in timm's, with the side of their kernels.
HIDDEN_CONVOLUTIONS = {"classifier.0": 7, "classifier.3": 1}

LAYER_SCALE = ".layer_scale"  # ends torchvision's names of ConvNeXt's

# The layers whose outputs are the classes: the last one, and those of the auxiliary heads.
LAST: dict[type, tuple[str, ...]] = {
    AlexNet: ("fc3",),
    VGG: ("fc3",),
    GoogLeNet: ("fc", "aux1/fc2", "aux2/fc2"),
    ResNet: ("fc",),
    **{family.NET: family.LAST for family in FAMILIES},
}

# The dense layers in front of the last one.
HIDDEN: dict[type, tuple[str, ...]] = {AlexNet: ("fc1", "fc2"), VGG: ("fc1", "fc2")}


def names_of(model: object) -> Names:
    """Return the table of a net: path of our layer -> torchvision's prefix.

    Raises:
        UserError: torchvision has no such net.
    """
    tables: dict[type, Callable[[Any], Names]] = {
        AlexNet: _alexnet,
        VGG: _vgg,
        GoogLeNet: _googlenet,
        ResNet: _resnet,
        **{family.NET: family.names for family in FAMILIES},
        FasterRCNN: _faster_rcnn,
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
    deep, projected = model.stem in DEEP_STEMS, block.shortcut in ("B", "D")
    if not (model.stem == "imagenet" or deep) or block.pre_activation or not projected:
        raise UserError(
            "Of residual nets torchvision has the ImageNet form with shortcuts B alone, and timm D "
            "besides: take model.form=imagenet model.stem=paper model.shortcut=B "
            "model.pre_activation=false, or for ResNet-D model.stem=deep model.shortcut=D."
        )
    if not block.residual:
        raise UserError("torchvision has no plain nets.")
    names = {"conv1": "conv1.6" if deep else "conv1", "bn1": "bn1"}
    if deep:
        names |= {f"stem_conv{i}": f"conv1.{3 * i - 3}" for i in (1, 2)}
        names |= {f"stem_bn{i}": f"conv1.{3 * i - 2}" for i in (1, 2)}
    place = 1 if block.shortcut == "D" else 0  # behind the mean, which has no weights
    for stage, blocks in enumerate(model.stages, 1):
        for b in range(blocks):
            ours, theirs = f"stage{stage}/block{b + 1}", f"layer{stage}.{b}"
            for i in range(1, block.convolutions + 1):
                names[f"{ours}/conv{i}"] = f"{theirs}.conv{i}"
                names[f"{ours}/bn{i}"] = f"{theirs}.bn{i}"
            names[f"{ours}/shortcut_conv"] = f"{theirs}.downsample.{place}"
            names[f"{ours}/shortcut_bn"] = f"{theirs}.downsample.{place + 1}"
            names |= {f"{ours}/se/{fc}": f"{theirs}.se.{fc}" for fc in ("fc1", "fc2")}
    return names | {"fc": "fc"}


def _faster_rcnn(model: FasterRCNN) -> Names:
    head, pyramid = model.head, model.pyramid
    if not isinstance(pyramid, Pyramid) or not isinstance(head, PyramidHead):
        raise UserError(
            "torchvision has Faster R-CNN with a feature pyramid alone: model.form=pyramid."
        )
    if not isinstance(model.backbone, ResNet):
        raise UserError("torchvision's Faster R-CNN has a residual net as its backbone.")
    names = {
        f"backbone/{ours}": f"backbone.body.{t}" for ours, t in _resnet(model.backbone).items()
    }
    for i in range(1, len(model.strides) + 1):
        for ours, theirs in (("lateral", "inner_blocks"), ("output", "layer_blocks")):
            names[f"pyramid/{ours}{i}"] = f"backbone.fpn.{theirs}.{i - 1}.0"
            names[f"pyramid/{ours}{i}_bn"] = f"backbone.fpn.{theirs}.{i - 1}.1"
    for i in range(1, model.proposal_convolutions + 1):
        names[f"rpn/conv{i}"] = f"rpn.head.conv.{i - 1}.0"
    names |= {"rpn/score": "rpn.head.cls_logits", "rpn/box": "rpn.head.bbox_pred"}
    convolutions = head.convolutions
    for i in range(1, convolutions + 1):
        names[f"head/conv{i}"] = f"roi_heads.box_head.{i - 1}.0"
        names[f"head/bn{i}"] = f"roi_heads.box_head.{i - 1}.1"
    dense = [f"{convolutions + 1}"] if convolutions else ["fc6", "fc7"]
    names |= {f"head/fc{i}": f"roi_heads.box_head.{one}" for i, one in enumerate(dense, 1)}
    predictor = "roi_heads.box_predictor"
    return names | {"class": f"{predictor}.cls_score", "box": f"{predictor}.bbox_pred"}


def as_torchvision(names: Mapping[str, object]) -> dict[str, str]:
    """Return name in a file of torchvision or timm -> torchvision's name."""
    for family in FAMILIES:
        if any(anchor in names for anchor in family.ANCHORS):
            return {name: family.from_timm(name) for name in names}
    translated = {}
    for name in names:
        prefix, _, leaf = name.rpartition(".")
        prefix = FLATTENED_SEQUENCE.sub("features.", prefix)
        translated[name] = f"{TIMM.get(prefix, prefix)}.{leaf}"
    return translated


def as_timm(state_dict: Mapping[str, np.ndarray], model: object) -> dict[str, np.ndarray]:
    """Return a state dict by torchvision's names as timm has it.

    VGG's hidden layers are convolutions there, and layer scales have one axis.
    """
    for family in FAMILIES:
        if isinstance(model, family.NET):
            return {
                family.to_timm(name): array.reshape(-1) if name.endswith(LAYER_SCALE) else array
                for name, array in state_dict.items()
            }
    if not isinstance(model, VGG):
        return dict(state_dict)
    names = {theirs: timm for timm, theirs in TIMM.items()}
    renamed = {}
    for name, array in state_dict.items():
        prefix, _, leaf = name.rpartition(".")
        if leaf == "weight" and prefix in HIDDEN_CONVOLUTIONS:
            side = HIDDEN_CONVOLUTIONS[prefix]
            array = array.reshape(len(array), -1, side, side)
        renamed[f"{names.get(prefix, prefix)}.{leaf}"] = array
    return renamed
