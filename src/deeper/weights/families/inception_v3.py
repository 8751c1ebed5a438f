"""Weights of Inception-v3; timm's names are torchvision's."""

from deeper.errors import UserError
from deeper.models.inception_v3 import MODULES, STEM, InceptionV3, named_units
from deeper.weights.architecture import Architecture, Shapes, classes_of

NET, KIND = InceptionV3, "Inception-v3"
ANCHORS = ("Mixed_5b.branch1x1.conv.weight",)
HEAD, LAST = "fc", ("fc", "aux/fc")
FIRST = "Conv2d_1a_3x3.conv.weight"
AUXILIARY = "AuxLogits"


def names(model: InceptionV3) -> dict[str, str]:
    """Return path of our layer -> torchvision's prefix."""
    units = {
        f"conv{name}": f"Conv2d_{name}_{unit.kernel}x{unit.kernel}" for name, unit in STEM.items()
    }
    for name, module in MODULES.items():
        inner = [unit for unit, _ in named_units(module.branches)]
        inner += ["branch_pool"] * (module.projection is not None)
        units |= {f"mixed{name}/{unit}": f"Mixed_{name}.{unit}" for unit in inner}
    table = {"fc": HEAD}
    if model.auxiliary:
        units |= {f"aux/{unit}": f"{AUXILIARY}.{unit}" for unit in ("conv0", "conv1")}
        table["aux/fc"] = f"{AUXILIARY}.fc"
    return table | {f"{ours}/{p}": f"{units[ours]}.{p}" for ours in units for p in ("conv", "bn")}


def architecture(shapes: Shapes) -> Architecture:
    """Return the net that arrays of such names and shapes are of."""
    if FIRST not in shapes or "Mixed_7c.branch3x3_2a.conv.weight" not in shapes:
        raise UserError("It is an Inception net of another form than torchvision's Inception-v3.")
    auxiliary = any(name.startswith(f"{AUXILIARY}.") for name in shapes)
    words = ("model=inception_v3", f"model.auxiliary={str(auxiliary).lower()}")
    return Architecture("inception_v3", words, classes_of(shapes, HEAD), shapes[FIRST][1])


def from_timm(name: str) -> str:
    """Return torchvision's name of an array."""
    return name


def to_timm(name: str) -> str:
    """Return timm's name of an array."""
    return name
