"""Write detection_golden.npz: torchvision's operations on boxes, on small drawn inputs.

PYTHON tests/models/detection_golden.py    # PYTHON has torch and torchvision
"""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torchvision.models.detection import _utils, anchor_utils
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign, box_iou, clip_boxes_to_image, nms, roi_pool

SIZES = [(128, 96), (100, 128)]  # of two images, height and width; their maps are of 128x128
STRIDES = (4, 8, 16, 32)


def boxes(generator: np.random.Generator, count: int, canvas: float, largest: float) -> np.ndarray:
    """Return boxes with sides of 2 pixels to the largest, by their logarithms."""
    corners = generator.uniform(-10, canvas, (count, 2))
    sides = np.exp(generator.uniform(np.log(2), np.log(largest), (count, 2)))
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32)


def main() -> None:
    """Draw inputs, apply torchvision's operations, and write both."""
    rng = np.random.default_rng(0)
    kept: dict[str, np.ndarray] = {}
    objects, anchors = boxes(rng, 6, 110, 60), boxes(rng, 200, 110, 60)
    anchors[:3] = objects[:3]  # overlaps of 1
    anchors[3] = anchors[4]  # a tie
    one, other = torch.tensor(objects), torch.tensor(anchors)
    overlaps = box_iou(one, other)
    kept |= {"objects": objects, "anchors": anchors, "iou": overlaps.numpy()}
    kept["clipped"] = clip_boxes_to_image(other, (100, 90)).numpy()
    for name, low, high, best in (("rpn", 0.3, 0.7, True), ("head", 0.5, 0.5, False)):
        kept[f"matches_{name}"] = _utils.Matcher(high, low, best)(overlaps).numpy()
    for name, weights in (("rpn", (1.0, 1.0, 1.0, 1.0)), ("head", (10.0, 10.0, 5.0, 5.0))):
        coder = _utils.BoxCoder(weights)
        codes = coder.encode([one[torch.arange(200) % 6]], [other])[0]
        kept[f"codes_{name}"] = codes.numpy()
        far = codes * torch.tensor([3.0, -2.0, 9.0, 4.0])
        kept[f"decoded_{name}"] = coder.decode(far, [other])[:, 0].numpy()
        kept[f"far_{name}"] = far.numpy()

    crowded = boxes(rng, 300, 60, 60)
    scores = rng.permutation(300).astype(np.float32) / 300
    kept |= {"crowded": crowded, "scores": scores}
    for threshold in (0.3, 0.5, 0.7):
        found = nms(torch.tensor(crowded), torch.tensor(scores), threshold)
        kept[f"nms_{threshold}"] = found.numpy()

    grid = anchor_utils.AnchorGenerator(((32,), (64, 80)), ((0.5, 1.0, 2.0),) * 2)
    maps = [torch.zeros(1, 1, 5, 7), torch.zeros(1, 1, 3, 4)]
    kept["grid"] = grid(ImageList(torch.zeros(1, 3, 80, 112), [(80, 112)]), maps)[0].numpy()

    regions = []
    for size in SIZES:
        some = boxes(rng, 20, 100, 120)
        some[:, 0::2], some[:, 1::2] = (
            np.clip(some[:, axis::2], 0, size[1 - axis]) for axis in (0, 1)
        )
        some[0] = (3, 50, size[1], 55)  # wide and low
        some[1] = (10, 20, 10, 20)  # of no area
        some[2] = (0, 0, size[1], size[0])
        regions.append(torch.tensor(some))
    kept["regions"] = np.stack([one.numpy() for one in regions])
    values = [torch.randn(2, 3, 128 // s, 128 // s, requires_grad=True) for s in STRIDES]
    weight = torch.randn(40, 3, 7, 7)
    pooled = []
    for image, size in enumerate(SIZES):  # each at its own size: beyond is padding
        mine = OrderedDict(
            (str(i), v[image : image + 1, :, : -(-size[0] // s), : -(-size[1] // s)])
            for i, (v, s) in enumerate(zip(values, STRIDES))
        )
        pooled.append(MultiScaleRoIAlign(list(mine), 7, 2)(mine, [regions[image]], [(128, 128)]))
    aligned = torch.cat(pooled)
    gradients = torch.autograd.grad(aligned, values, weight)
    kept["aligned"] = aligned.detach().permute(0, 2, 3, 1).reshape(2, 20, 7, 7, 3).numpy()
    kept["weight"] = weight.permute(0, 2, 3, 1).reshape(2, 20, 7, 7, 3).numpy()
    for level, (value, gradient) in enumerate(zip(values, gradients)):
        kept[f"map_{level}"] = value.detach().permute(0, 2, 3, 1).numpy()
        kept[f"gradient_{level}"] = gradient.permute(0, 2, 3, 1).numpy()
    wide = roi_pool(values[1], regions, 7, 1 / STRIDES[1])
    (gradient,) = torch.autograd.grad(wide, values[1], weight)
    kept["pooled"] = wide.detach().permute(0, 2, 3, 1).reshape(2, 20, 7, 7, 3).numpy()
    kept["pool_gradient"] = gradient.permute(0, 2, 3, 1).numpy()
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **kept)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
