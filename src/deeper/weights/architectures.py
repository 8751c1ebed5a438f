"""Which of our nets a file of weights is of, as its names and shapes tell it.

Names are torchvision's, see `torchvision_names.as_torchvision`. Layers without weights leave no
trace: that a bottleneck's stride is in its 3x3 (torchvision, timm) and not in its 1x1, or that a
mean replaces a stride (timm's resnetaa50), no file says.
"""

import itertools
import re
from collections.abc import Collection, Mapping
from typing import Any

from deeper.errors import UserError
from deeper.models import alexnet as alexnets
from deeper.models import resnet as resnets
from deeper.models import vgg as vggs
from deeper.weights.architecture import Architecture, Shapes
from deeper.weights.families import FAMILIES

# Name of an array that every net of a kind has -> torchvision's prefix of the net's last layer.
# Where such an array stands, that net stands.
ANCHORS = {
    "layer1.0.conv1.weight": "fc",
    "inception3a.branch1.conv.weight": "fc",
    "features.0.weight": "classifier.6",
    **{anchor: family.HEAD for family in FAMILIES for anchor in family.ANCHORS},
}
LEGACY = ".se_module."  # in names of Cadene's SE nets, whose stem pools otherwise
# What names of layers belong to that our nets have not.
FOREIGN = {
    r"\.downsample\.[12]\.": "the shortcuts of ResNet-D: model.shortcut=D",
    r"^conv1\.[036]\.": "the deep stem of ResNet-D: model.stem=deep model.shortcut=D",
    r"(attn|qkv|pos_embed|blocks\.\d+\.norm)": "attention",
    r"^(fc|head|classifier)\.\d+\.": "a head of several layers, where the net has one dense layer",
    r"^(fc|head)\.\w+\.": "a head of several layers, where the net has one dense layer",
}


def architecture_of(shapes: Shapes) -> Architecture:
    """Return the net that arrays of such names and shapes are of.

    Args:
        shapes: torchvision's name -> shape.

    Raises:
        UserError: they are of none of our nets.
    """
    if "layer1.0.conv1.weight" in shapes:
        return _residual(shapes)
    if "inception3a.branch1.conv.weight" in shapes:
        return _googlenet(shapes)
    if "features.0.weight" in shapes:
        kernel = tuple(shapes["features.0.weight"])[-1]
        return _vgg(shapes) if kernel == 3 else _alexnet(shapes)
    for family in FAMILIES:
        if family.ANCHORS[0] in shapes:
            found: Architecture = family.architecture(shapes)
            return found
    raise UserError(no_net(shapes))


def head_of(names: Collection[str]) -> str | None:
    """Return torchvision's prefix of a net's last layer; None if it is none that we have."""
    return next((head for anchor, head in ANCHORS.items() if anchor in names), None)


def no_net(names: Mapping[str, Any]) -> str:
    """Say that a file has no net that we have."""
    first = ", ".join(sorted(names)[:4])
    later = ", ".join(family.KIND for family in FAMILIES)
    return (
        f"No net that deeper has is in it: neither a residual net, VGG, AlexNet or GoogLeNet, nor "
        f"{later} by the names of torchvision or timm. Its names begin {first} ..."
    )


def cause_of(shapes: Shapes, ours: Shapes) -> str | None:
    """Say why arrays do not fit a net, where it can be told.

    Args:
        shapes: of the file, by torchvision's names.
        ours: of the net, likewise.
    """
    file, net = _known(shapes), _known(ours)
    if file is not None and net is not None:
        if file.overrides != net.overrides:
            words = " ".join(file.overrides)
            return f"The file is of {file.name}, and the net is {net.name}: say {words}."
        if file.channels != net.channels:
            return (
                f"The file is of images with {file.channels} channels, and the net's have "
                f"{net.channels}: deeper weights import=... channels={net.channels} adapts the "
                "first convolution."
            )
        if file.pool_size != net.pool_size and None not in (file.pool_size, net.pool_size):
            return (
                f"Its dense layers take maps of {file.pool_size}x{file.pool_size}, the net's "
                f"{net.pool_size}x{net.pool_size}: say model.pool_size={file.pool_size}."
            )
    for pattern, meaning in FOREIGN.items():
        if any(re.search(pattern, name) for name in set(shapes) - set(ours)):
            return f"The file has {meaning}."
    return None


def _known(shapes: Shapes) -> Architecture | None:
    try:
        return architecture_of(shapes)
    except UserError:
        return None


# --- one of each kind ----------------------------------------------------------------------------


def _residual(shapes: Shapes) -> Architecture:
    if legacy := next((name for name in shapes if LEGACY in name), None):
        raise UserError(
            f"It has squeeze-and-excitation layers by the names of older nets ({legacy}), timm's "
            "legacy_..., whose stem and strides differ: deeper has timm's seresnet nets."
        )
    blocks = _blocks(shapes)
    bottleneck = "layer1.0.conv3.weight" in shapes
    stem, first = _stem(shapes)
    # The mean in front of a shortcut's convolution has no weights, but a place.
    shortcut = "D" if any(re.search(r"downsample\.2\.", name) for name in shapes) else "B"
    width = shapes[first][0]
    words = ["model=resnet", "model.form=imagenet"]
    depth = next(
        (d for d, entry in resnets.DEPTHS.items() if entry == (_kind(bottleneck), blocks)), None
    )
    if depth is None:
        listed = ",".join(map(str, blocks))
        words += ["model.depth=null", f"model.blocks=[{listed}]"]
        words.append(f"model.bottleneck={_word(bottleneck)}")
    else:
        words.append(f"model.depth={depth}")
    kind = {("deep", "D"): "d", ("tiered", "D"): "t", ("deep", "B"): "c"}.get((stem, shortcut), "")
    layers = f"{sum(blocks) * (3 if bottleneck else 2) + 2}{kind}"
    name = f"resnet{layers}"
    if bottleneck:
        inner, grouped = shapes["layer1.0.conv2.weight"][:2]
        groups = inner // max(1, grouped)
        per_group = inner * 64 // (width * groups)
        if (groups, per_group) != (1, 64):
            words += [f"model.groups={groups}", f"model.width_per_group={per_group}"]
            wide = f"wide_resnet{layers}_{per_group // 64}"
            name = f"resnext{layers}_{groups}x{per_group}d" if groups > 1 else wide
    if squeezed := shapes.get("layer4.0.se.fc1.weight"):
        words.append(f"model.squeeze={squeezed[1] // max(1, squeezed[0])}")
        name = f"se{name}"
    if width != 64:
        words.append(f"model.width={width}")
        name += f" of width {width}"
    if stem != "paper":
        words.append(f"model.stem={stem}")
    if shortcut != "B":
        words.append(f"model.shortcut={shortcut}")
    channels = shapes["conv1.0.weight" if "conv1.0.weight" in shapes else "conv1.weight"][1]
    return Architecture(name, tuple(words), _classes(shapes), channels)


def _kind(bottleneck: bool) -> str:
    return "bottleneck" if bottleneck else "basic"


def _word(value: bool) -> str:
    return "true" if value else "false"


def _blocks(shapes: Shapes) -> tuple[int, ...]:
    """Return how many blocks each stage has."""
    found: dict[int, int] = {}
    for name in shapes:
        if match := re.match(r"layer(\d+)\.(\d+)\.conv1\.weight$", name):
            stage = int(match[1])
            found[stage] = max(found.get(stage, 0), int(match[2]) + 1)
    if sorted(found) != [1, 2, 3, 4]:
        raise UserError(
            f"It is a residual net of {len(found)} stages, and torchvision's and timm's have four."
        )
    return tuple(found[stage] for stage in sorted(found))


def _stem(shapes: Shapes) -> tuple[str, str]:
    """Return the stem's name, and the array whose first axis is the net's width."""
    if "conv1.weight" in shapes:
        kernel = tuple(shapes["conv1.weight"])[-1]
        if kernel != 7:
            raise UserError(
                f"Its first convolution is {kernel}x{kernel}, and nothing tells its stride or "
                "whether a pooling follows: torchvision's nets begin with a 7x7. If it is one of "
                "deeper's, say model=... and its form."
            )
        return "paper", "conv1.weight"
    inner = tuple(shapes[f"conv1.{i}.weight"][0] for i in (0, 3) if f"conv1.{i}.weight" in shapes)
    last = "conv1.6.weight"
    if last in shapes:
        for stem, shares in resnets.DEEP_STEMS.items():
            if inner == tuple(int(share * shapes[last][0]) for share in shares):
                return stem, last
    raise UserError(f"Its stem has channels {inner}, which no stem of deeper's residual nets has.")


def _googlenet(shapes: Shapes) -> Architecture:
    auxiliary = any(name.startswith("aux1.") for name in shapes)
    words = ["model=googlenet", "model.form=batch_norm", "model.stem=paper"]
    words.append(f"model.auxiliary={_word(auxiliary)}")
    return Architecture("googlenet", tuple(words), _classes(shapes), shapes["conv1.conv.weight"][1])


def _vgg(shapes: Shapes) -> Architecture:
    places = sorted(
        int(match[1])
        for name, shape in shapes.items()
        if (match := re.match(r"features\.(\d+)\.weight$", name)) and len(shape) == 4
    )
    batch_norm = "features.1.weight" in shapes
    step = 3 if batch_norm else 2  # a convolution, its BatchNorm and its rectifier
    stages = [1]
    for before, place in itertools.pairwise(places):
        if place - before == step:
            stages[-1] += 1
        else:
            stages.append(1)
    depth = next((d for d, known in vggs.DEPTHS.items() if known == tuple(stages)), None)
    if depth is None:
        raise UserError(
            f"It has stages of {stages} convolutions, which no VGG net has: the paper's are "
            f"{', '.join(f'{d}: {list(known)}' for d, known in vggs.DEPTHS.items())}."
        )
    words = ["model=vgg", f"model.depth={depth}", f"model.batch_norm={_word(batch_norm)}"]
    hidden, pool = _hidden(shapes, "classifier.0.weight", vggs.WIDTHS[-1])
    words += hidden
    name = f"vgg{depth}{'_bn' * batch_norm}"
    return Architecture(name, tuple(words), _classes(shapes), shapes["features.0.weight"][1], pool)


def _alexnet(shapes: Shapes) -> Architecture:
    small = tuple(shapes["features.0.weight"])[-1] == alexnets.SMALL_STEM[0]
    hidden, pool = _hidden(shapes, "classifier.1.weight", alexnets.OWT[-1][0])
    words = (
        "model=alexnet",
        "model.form=owt",
        f"model.stem={'small' if small else 'paper'}",
        *hidden,
    )
    return Architecture("alexnet", words, _classes(shapes), shapes["features.0.weight"][1], pool)


def _hidden(shapes: Shapes, first: str, channels: int) -> tuple[list[str], int | None]:
    """Return the override of the hidden layers' width, and the side of the map they take."""
    if first not in shapes:
        return [], None
    width, *rest = shapes[first]
    values = rest[0] if len(rest) == 1 else rest[0] * rest[1] * rest[2]
    return [f"model.hidden={width}"], round((values / channels) ** 0.5)


def _classes(shapes: Shapes) -> int | None:
    weight = shapes.get(f"{head_of(shapes)}.weight")
    return None if weight is None else weight[0]
