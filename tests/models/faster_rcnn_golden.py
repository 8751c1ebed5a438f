"""Write faster_rcnn_golden.npz: what torchvision's Faster R-CNN answers with drawn weights.

PYTHON tests/models/faster_rcnn_golden.py    # PYTHON has torch and torchvision

The net is fasterrcnn_resnet50_fpn with a ResNet-18 of an eighth of the width. Each weight is drawn
by its name, so that the file holds none (`drawn`). Torchvision sees each image alone, at its own
size. In training all anchors and proposals are in the loss, so that no draws enter it.
"""

import zlib
from pathlib import Path

import numpy as np

WIDTH, CHANNELS, HIDDEN, CLASSES = 8, 16, 32, 3
BEFORE, AFTER = 200, 80  # proposals of a map, and of an image
EVERY = 100_000  # anchors and proposals in the loss, at most
LEAST_SCORE = 0.05
SIZES = [(128, 96), (100, 128)]  # height and width; one is no multiple of 32
BOXES = [[(10, 20, 70, 90), (40, 60, 90, 120)], [(5, 5, 60, 95), (70, 30, 110, 60)]]
LABELS = [[0, 2], [1, 0]]
LOSSES = {  # ours -> theirs
    "loss_objectness": "loss_objectness", "loss_anchor_box": "loss_rpn_box_reg",
    "loss_class": "loss_classifier", "loss_box": "loss_box_reg",
}  # fmt: skip


def images() -> list[np.ndarray]:
    """Return smooth images of `SIZES`, normalised."""
    random = np.random.RandomState(0)  # whose numbers NumPy keeps
    coarse = random.normal(size=(len(SIZES), 16, 16, 3)).astype(np.float32)
    found = []
    for values, (height, width) in zip(coarse, SIZES, strict=True):
        rows, columns = np.arange(height) // 8, np.arange(width) // 8
        found.append(values[rows][:, columns])
    return found


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return a weight by torchvision's name: statistics and scores vary, so that answers differ."""
    values = np.random.RandomState(zlib.crc32(name.encode())).normal(size=shape)
    if name.endswith("running_var"):
        values = np.abs(1 + 0.1 * values)
    elif name.endswith(("running_mean", "bias")):
        values = 0.1 * values
    elif len(shape) == 1:
        values = 0.7 + 0.1 * values
    else:
        gain = 0.4 if "cls_" in name else 0.5 if "bbox_pred" in name else 1.4
        values = values * gain / np.sqrt(np.prod(shape[1:]))
    return values.astype(np.float32)


def main() -> None:
    """Build torchvision's net, and write its proposals, detections and losses."""
    import torch
    from torch import nn
    from torchvision.models import resnet18
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.backbone_utils import BackboneWithFPN
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.models.detection.transform import GeneralizedRCNNTransform
    from torchvision.models.resnet import BasicBlock
    from torchvision.ops import FrozenBatchNorm2d

    body = resnet18(weights=None, norm_layer=FrozenBatchNorm2d)
    body.inplanes, body.conv1 = WIDTH, nn.Conv2d(3, WIDTH, 7, 2, 3, bias=False)
    body.bn1 = FrozenBatchNorm2d(WIDTH)
    for i in range(4):
        layer = body._make_layer(BasicBlock, WIDTH * 2**i, 2, stride=1 if i == 0 else 2)
        setattr(body, f"layer{i + 1}", layer)
    stages = {f"layer{i + 1}": str(i) for i in range(4)}
    backbone = BackboneWithFPN(body, stages, [WIDTH * 2**i for i in range(4)], CHANNELS)
    net = FasterRCNN(
        backbone,
        rpn_pre_nms_top_n_train=BEFORE, rpn_pre_nms_top_n_test=BEFORE,
        rpn_post_nms_top_n_train=AFTER, rpn_post_nms_top_n_test=AFTER,
        rpn_batch_size_per_image=EVERY, box_batch_size_per_image=EVERY,
        box_head=TwoMLPHead(CHANNELS * 7 * 7, HIDDEN),
        box_predictor=FastRCNNPredictor(HIDDEN, CLASSES + 1),
        box_score_thresh=LEAST_SCORE,
    )  # fmt: skip
    state = {n: torch.tensor(drawn(n, tuple(v.shape))) for n, v in net.state_dict().items()}
    net.load_state_dict(state)
    kept: dict[str, np.ndarray] = {}
    proposals: list[torch.Tensor] = []
    net.rpn.register_forward_hook(lambda module, given, out: proposals.append(out[0][0]))
    for number, (image, size) in enumerate(zip(images(), SIZES, strict=True)):
        given = torch.tensor(image).permute(2, 0, 1)
        net.transform = GeneralizedRCNNTransform(min(size), max(size), [0, 0, 0], [1, 1, 1])
        net.eval()
        with torch.no_grad():
            (found,) = net([given])
        kept[f"{number}/proposals"] = proposals[-1].numpy()
        kept |= {f"{number}/{name}": value.numpy() for name, value in found.items()}
        net.train()
        net.zero_grad()
        labels = torch.tensor(LABELS[number]) + 1
        target = {"boxes": torch.tensor(BOXES[number], dtype=torch.float32), "labels": labels}
        losses = net([given], [target])
        sum(losses.values()).backward()
        kept |= {f"{number}/{own}": losses[name].detach().numpy() for own, name in LOSSES.items()}
        gradient = net.backbone.body.layer2[0].conv1.weight.grad
        kept[f"{number}/gradient"] = gradient.permute(2, 3, 1, 0).numpy()
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **kept)


if __name__ == "__main__":
    main()
