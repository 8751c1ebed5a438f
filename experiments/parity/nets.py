"""The nets that are compared with torchvision's, and timm's where torchvision has none: (name,
arguments of our net).

For nets with BatchNorm a training step is compared too. It runs in float64 as well, so its images
are small; VGG needs 224 pixels, since ours has fewer weights for smaller images than torchvision's.
"""

from typing import Any, NamedTuple


class Net(NamedTuple):
    """A net of torchvision or timm, and of deeper."""

    name: str  # name in torchvision, or timm
    family: str  # our constructor
    arguments: dict[str, Any]
    step_size: int | None  # pixels of the images in the training step


_NO_DROPOUT = {"dropout": 0.0}

NETS = (
    Net("alexnet", "alexnet", _NO_DROPOUT, None),
    *(Net(f"vgg{d}", "vgg", {"depth": d} | _NO_DROPOUT, None) for d in (11, 13, 16, 19)),
    *(
        Net(f"vgg{d}_bn", "vgg", {"depth": d, "batch_norm": True} | _NO_DROPOUT, 224)
        for d in (11, 13, 16, 19)
    ),
    Net("googlenet", "googlenet", {"auxiliary_dropout": 0.0} | _NO_DROPOUT, 64),
    *(Net(f"resnet{d}", "resnet", {"depth": d}, 64) for d in (18, 34, 50, 101, 152)),
    Net("wide_resnet50_2", "resnet", {"depth": 50, "width_per_group": 128}, 64),
    Net("resnext50_32x4d", "resnet", {"depth": 50, "groups": 32, "width_per_group": 4}, 64),
    Net("seresnet18", "resnet", {"depth": 18, "squeeze": 16}, 64),
    Net("densenet121", "densenet", {"depth": 121}, 64),
    Net("mobilenet_v2", "mobilenet_v2", _NO_DROPOUT, 64),
    Net("convnext_tiny", "convnext", {"variant": "tiny", "stochastic_depth": 0.0}, 64),
    Net("regnet_x_400mf", "regnet", {"variant": "x_400mf"}, 64),
    Net("regnet_y_400mf", "regnet", {"variant": "y_400mf"}, 64),
    Net("inception_v3", "inception_v3", _NO_DROPOUT, 299),
)
IMAGES, CLASSES = 8, 1000
SIZE = 224  # pixels of the images in evaluation mode
# Number of values of each gradient array in the golden file.
KEPT = 8
