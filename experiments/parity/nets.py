"""The nets that are held against torchvision's: (torchvision's name, our constructor's arguments).

``step`` says whether a training step is compared too: nets with BatchNorm.
"""

from typing import Any, NamedTuple


class Net(NamedTuple):
    """A net on both sides."""

    name: str  # torchvision's
    family: str  # our constructor
    arguments: dict[str, Any]
    step: bool


_NO_DROPOUT = {"dropout": 0.0}

NETS = (
    Net("alexnet", "alexnet", _NO_DROPOUT, False),
    *(Net(f"vgg{d}", "vgg", {"depth": d} | _NO_DROPOUT, False) for d in (11, 13, 16, 19)),
    *(
        Net(f"vgg{d}_bn", "vgg", {"depth": d, "batch_norm": True} | _NO_DROPOUT, True)
        for d in (11, 13, 16, 19)
    ),
    Net("googlenet", "googlenet", {"auxiliary_dropout": 0.0} | _NO_DROPOUT, True),
    *(Net(f"resnet{d}", "resnet", {"depth": d}, True) for d in (18, 34, 50, 101, 152)),
    Net("wide_resnet50_2", "resnet", {"depth": 50, "width_per_group": 128}, True),
    Net("resnext50_32x4d", "resnet", {"depth": 50, "groups": 32, "width_per_group": 4}, True),
)
IMAGES, CLASSES = 8, 1000
SIZE = 224  # of the images in evaluation mode
STEP_SIZE = 64  # in training, which runs in float64 too
# Of a training step's gradients: so many values of each array go into the golden file.
KEPT = 8
