"""Weights of MobileNetV2."""

from deeper.errors import UserError
from deeper.models.mobilenet_v2 import ROWS, MobileNetV2, widths_of
from deeper.weights.architecture import Architecture, Shapes, classes_of

NET, KIND = MobileNetV2, "MobileNetV2"
ANCHORS = ("features.1.conv.0.0.weight", "blocks.1.0.conv_pwl.weight")
HEAD, LAST = "classifier.1", ("fc",)
FIRST = "features.0.0.weight"
LAST_FEATURE = sum(row.blocks for row in ROWS) + 1  # torchvision numbers the blocks from 1
# Width multipliers that torchvision, timm and their users have, in hundredths.
WIDTHS = (25, 35, 50, 75, 100, 110, 120, 130, 140, 150, 175, 200)


def names(model: MobileNetV2) -> dict[str, str]:
    """Return path of our layer -> torchvision's prefix."""
    if model.small:
        raise UserError(
            "torchvision has MobileNetV2 with the paper's stem alone: model.stem=paper."
        )
    table = {"conv1": "features.0.0", "bn1": "features.0.1"}
    for ours, theirs, expands in _blocks():
        place = 0
        if expands:
            table[f"{ours}/expand_conv"] = f"{theirs}.conv.0.0"
            table[f"{ours}/expand_bn"] = f"{theirs}.conv.0.1"
            place = 1
        table[f"{ours}/depthwise_conv"] = f"{theirs}.conv.{place}.0"
        table[f"{ours}/depthwise_bn"] = f"{theirs}.conv.{place}.1"
        table[f"{ours}/project_conv"] = f"{theirs}.conv.{place + 1}"
        table[f"{ours}/project_bn"] = f"{theirs}.conv.{place + 2}"
    table |= {
        f"{kind}_last": f"features.{LAST_FEATURE}.{i}" for i, kind in enumerate(("conv", "bn"))
    }
    return table | {"fc": HEAD}


def _blocks() -> list[tuple[str, str, bool]]:
    """Return our name, torchvision's name, and whether it expands, for each block."""
    blocks: list[tuple[str, str, bool]] = []
    for stage, row in enumerate(ROWS, 1):
        for number in range(1, row.blocks + 1):
            blocks.append(
                (f"stage{stage}/block{number}", f"features.{len(blocks) + 1}", row.expansion > 1)
            )
    return blocks


def _timm_prefixes() -> dict[str, str]:
    """Return torchvision's prefix -> timm's."""
    table = {"features.0.0": "conv_stem", "features.0.1": "bn1", HEAD: "classifier"}
    table |= {f"features.{LAST_FEATURE}.0": "conv_head", f"features.{LAST_FEATURE}.1": "bn2"}
    number = 0
    for stage, row in enumerate(ROWS):
        for block in range(row.blocks):
            number += 1
            ours, theirs = f"features.{number}.conv", f"blocks.{stage}.{block}"
            if row.expansion == 1:  # timm's DepthwiseSeparableConv
                parts = {"0.0": "conv_dw", "0.1": "bn1", "1": "conv_pw", "2": "bn2"}
            else:
                parts = {"0.0": "conv_pw", "0.1": "bn1", "1.0": "conv_dw", "1.1": "bn2",
                         "2": "conv_pwl", "3": "bn3"}  # fmt: skip
            table |= {f"{ours}.{mine}": f"{theirs}.{his}" for mine, his in parts.items()}
    return table


TO_TIMM = _timm_prefixes()
FROM_TIMM = {theirs: ours for ours, theirs in TO_TIMM.items()}


def architecture(shapes: Shapes) -> Architecture:
    """Return the net that arrays of such names and shapes are of."""
    projections = (
        f"{theirs}.conv.{2 if expands else 1}.weight" for _, theirs, expands in _blocks()
    )
    found = [shapes.get(name, (None,))[0] for name in projections]
    last = shapes.get(f"features.{LAST_FEATURE}.0.weight", (None,))[0]
    for hundredths in WIDTHS:
        widths = widths_of(hundredths / 100)
        expected = [w for row, w in zip(ROWS, widths.rows, strict=True) for _ in range(row.blocks)]
        if (
            found == expected
            and shapes.get(FIRST, (None,))[0] == widths.first
            and last == widths.last
        ):
            break
    else:
        raise UserError(
            "It has the names of MobileNetV2 and other blocks or channels, as its relatives have: "
            "deeper has the paper's rows times a width multiplier."
        )
    words = ["model=mobilenet_v2", "model.stem=paper"]
    name = "mobilenet_v2"
    if hundredths != 100:
        words.append(f"model.width_multiplier={hundredths / 100:g}")
        name += f" of width {hundredths / 100:g}"
    return Architecture(
        name,
        tuple(words),
        classes_of(shapes, HEAD),
        shapes[FIRST][1],
        timm=f"mobilenetv2_{hundredths:03d}",
    )


def from_timm(name: str) -> str:
    """Return torchvision's name of an array."""
    prefix, _, leaf = name.rpartition(".")
    return f"{FROM_TIMM.get(prefix, prefix)}.{leaf}"


def to_timm(name: str) -> str:
    """Return timm's name of an array."""
    prefix, _, leaf = name.rpartition(".")
    return f"{TO_TIMM.get(prefix, prefix)}.{leaf}"
