"""Weights of RegNets."""

import re

from deeper.errors import UserError
from deeper.models.regnet import RULES, STEM_WIDTH, RegNet, StageShape, stages_of
from deeper.weights.architecture import Architecture, Shapes, classes_of, count

NET, KIND = RegNet, "RegNet"
ANCHORS = ("trunk_output.block1.block1-0.f.a.0.weight", "s1.b1.conv1.conv.weight")
HEAD, LAST = "fc", ("fc",)
FIRST = "stem.0.weight"
# Our units of a block -> torchvision's, and timm's.
UNITS = {"a": ("f.a", "conv1"), "b": ("f.b", "conv2"), "c": ("f.c", "conv3"),
         "shortcut": ("proj", "downsample")}  # fmt: skip
PLACES = {"conv": 0, "bn": 1}  # of a unit, in torchvision's sequence
# Where timm's net of the paper's rule is rounded otherwise, it has torchvision's besides.
AS_TORCHVISION = ("x_400mf", "y_800mf", "y_8gf")


def names(model: RegNet) -> dict[str, str]:
    """Return path of our layer -> torchvision's prefix."""
    if model.small:
        raise UserError("torchvision has RegNets with the paper's stem alone: model.stem=paper.")
    table = {"conv1": "stem.0", "bn1": "stem.1", "fc": HEAD}
    for i, stage in enumerate(model.stages, 1):
        for number in range(stage.blocks):
            ours = f"stage{i}/block{number + 1}"
            theirs = f"trunk_output.block{i}.block{i}-{number}"
            for unit, (place, _) in UNITS.items():
                for part, n in PLACES.items():
                    table[f"{ours}/{unit}_{part}"] = f"{theirs}.{place}.{n}"
            table |= {f"{ours}/se/{fc}": f"{theirs}.f.se.{fc}" for fc in ("fc1", "fc2")}
    return table


def architecture(shapes: Shapes) -> Architecture:
    """Return the net that arrays of such names and shapes are of."""
    stages = []
    for i in range(1, 5):
        first = f"trunk_output.block{i}.block{i}-0.f.b.0.weight"
        if first in shapes:
            blocks = count(shapes, f"trunk_output.block{i}.block{i}-{{}}.f.b.0.weight")
            stages.append(StageShape(blocks, *shapes[first][:2]))
    squeezes = "trunk_output.block1.block1-0.f.se.fc1.weight" in shapes
    kind = "y" if squeezes else "x"
    variant = next(
        (v for v, rule in RULES.items() if v[0] == kind and stages_of(rule) == tuple(stages)), None
    )
    if variant is None or FIRST not in shapes or shapes[FIRST][0] != STEM_WIDTH:
        told = ", ".join(f"{s.blocks} blocks of {s.width} channels" for s in stages)
        raise UserError(
            f"It is a RegNet of {told}{' with squeeze-and-excitation' * squeezes}, which is none "
            f"of {', '.join(RULES)}."
        )
    words = ("model=regnet", f"model.variant={variant}", "model.stem=paper")
    return Architecture(
        f"regnet_{variant}", words, classes_of(shapes, HEAD), shapes[FIRST][1],
        timm=_timm(variant),
    )  # fmt: skip


def _timm(variant: str) -> str:
    """Return timm's name, which has hundreds of millions of operations."""
    kind, size = variant.split("_", 1)
    if size.endswith("mf"):
        hundreds = int(size[:-2]) // 100
    else:
        hundreds = round(10 * float(size[:-2].replace("_", ".")))
    return f"regnet{kind}_{hundreds:03d}{'_tv' * (variant in AS_TORCHVISION)}"


def from_timm(name: str) -> str:
    """Return torchvision's name of an array."""
    if match := re.match(r"stem\.(conv|bn)\.(.*)", name):
        return f"stem.{PLACES[match[1]]}.{match[2]}"
    if match := re.match(r"s(\d)\.b(\d+)\.(\w+)\.(conv|bn)\.(.*)", name):
        unit = next((ours for ours, timm in UNITS.values() if timm == match[3]), match[3])
        block = f"trunk_output.block{match[1]}.block{match[1]}-{int(match[2]) - 1}"
        return f"{block}.{unit}.{PLACES[match[4]]}.{match[5]}"
    if match := re.match(r"s(\d)\.b(\d+)\.se\.(.*)", name):
        block = f"trunk_output.block{match[1]}.block{match[1]}-{int(match[2]) - 1}"
        return f"{block}.f.se.{match[3]}"
    return re.sub(r"^head\.fc\.", "fc.", name)


def to_timm(name: str) -> str:
    """Return timm's name of an array."""
    parts = {place: part for part, place in PLACES.items()}
    if match := re.match(r"stem\.([01])\.(.*)", name):
        return f"stem.{parts[int(match[1])]}.{match[2]}"
    if match := re.match(
        r"trunk_output\.block(\d)\.block\d-(\d+)\.(f\.\w|proj)\.([01])\.(.*)", name
    ):
        unit = next(timm for ours, timm in UNITS.values() if ours == match[3])
        block = f"s{match[1]}.b{int(match[2]) + 1}"
        return f"{block}.{unit}.{parts[int(match[4])]}.{match[5]}"
    if match := re.match(r"trunk_output\.block(\d)\.block\d-(\d+)\.f\.se\.(.*)", name):
        return f"s{match[1]}.b{int(match[2]) + 1}.se.{match[3]}"
    return re.sub(r"^fc\.", "head.fc.", name)
