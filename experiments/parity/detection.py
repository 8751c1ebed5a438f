"""Faster R-CNN beside torchvision's: proposals, detections, four losses and their gradients.

    python experiments/parity/detection.py --torch PYTHON [--write]

PYTHON has torch and torchvision. Two photographs of scikit-learn's, in several sizes. Weights are
drawn by PyTorch; statistics of BatchNorm and scores are widened, so that detections differ from
each other. Torchvision sees each image alone, ours lie in one array of 384x384 pixels, so that
padding would show. The samplers choose by the same draws on both sides.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
RESULTS, README = HERE / "detection.json", HERE / "README.md"
SIZES = [(256, 384), (300, 201), (384, 288)]  # height and width; two are no multiples of 32
CANVAS = 384
CLASSES = 5
# Proposals of an image in training: fewer than are drawn, so that all are in the loss. Otherwise
# two whose scores differ by rounding would change places, and with them their draws.
AFTER = 300
CLOSE = 0.1  # pixels
IMAGES = {1: (0, 1), 2: (1,)}  # version -> photographs: the second is slow on a CPU
BOXES = [[(30, 40, 160, 200), (200, 60, 380, 250), (90, 90, 120, 130)], [(10, 100, 190, 290)],
         [(0, 0, 288, 384), (100, 150, 180, 260)]]  # fmt: skip
LABELS = [[0, 3, 2], [1], [4, 0]]
COUNTED = ("loss_objectness", "loss_anchor_box", "loss_class", "loss_box")
THEIRS = ("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg")


def photographs() -> list[np.ndarray]:
    """Return images of `SIZES`, normalised."""
    import PIL.Image
    from sklearn.datasets import load_sample_images

    china, flower = (PIL.Image.fromarray(one) for one in load_sample_images().images)
    given = (china, flower.rotate(90, expand=True), flower)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return [
        ((np.asarray(one.resize(size[::-1], PIL.Image.Resampling.BILINEAR)) / 255 - mean) / std)
        .astype(np.float32)
        for one, size in zip(given, SIZES, strict=True)
    ]  # fmt: skip


def torch_side(inputs: str, out: str) -> None:
    """Write torchvision's weights and answers."""
    import torch
    from torch import nn
    from torchvision.models import resnet50
    from torchvision.models.detection import FasterRCNN, _utils
    from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
    from torchvision.models.detection.faster_rcnn import (
        FastRCNNConvFCHead,
        RPNHead,
        _default_anchorgen,
    )
    from torchvision.models.detection.transform import GeneralizedRCNNTransform
    from torchvision.ops import FrozenBatchNorm2d

    given = dict(np.load(inputs))
    torch.set_num_threads(os.cpu_count() or 1)
    arrays: dict[str, np.ndarray] = {}
    for version, numbers in IMAGES.items():
        torch.manual_seed(version)
        options, norm = {}, None
        if version == 2:
            norm = nn.BatchNorm2d
            options = {
                "rpn_head": RPNHead(256, 3, conv_depth=2),
                "box_head": FastRCNNConvFCHead((256, 7, 7), [256] * 4, [1024], norm_layer=norm),
                "rpn_anchor_generator": _default_anchorgen(),
            }
        body = resnet50(weights=None, norm_layer=FrozenBatchNorm2d)
        backbone = _resnet_fpn_extractor(body, 5, norm_layer=norm)
        net = FasterRCNN(
            backbone, num_classes=CLASSES + 1, rpn_post_nms_top_n_train=AFTER, **options
        )
        widen(net, version)
        for name, value in net.state_dict().items():
            arrays[f"{version}/weights/{name}"] = value.numpy()
        for number in numbers:
            size = SIZES[number]
            image = torch.tensor(given[f"image_{number}"]).permute(2, 0, 1)
            net.transform = GeneralizedRCNNTransform(min(size), max(size), [0, 0, 0], [1, 1, 1])
            proposals = {}
            net.rpn.register_forward_hook(lambda m, i, o, p=proposals: p.update(boxes=o[0][0]))
            net.eval()
            with torch.no_grad():
                (found,) = net([image])
            key = f"{version}/{number}"
            arrays[f"{key}/proposals"] = proposals["boxes"].numpy()
            arrays |= {f"{key}/{name}": value.numpy() for name, value in found.items()}
            draws = [torch.tensor(given[f"{name}_{number}"]) for name in ("anchors", "regions")]
            count = len(BOXES[number])

            def chosen(self, labels, draws=draws, count=count):
                (label,) = labels
                values = draws.pop(0)
                if not draws:  # of proposals: those found, and the objects behind all places
                    found = len(label) - count
                    values = torch.cat([values[:found], values[len(values) - count :]])
                masks = []
                positives = int(self.batch_size_per_image * self.positive_fraction)
                for kind, most in ((label >= 1, positives), (label == 0, None)):
                    places = torch.where(kind)[0]
                    if most is None:
                        most = self.batch_size_per_image - int(masks[0].sum())
                    order = torch.argsort(values[places], stable=True)[:most]
                    mask = torch.zeros_like(label, dtype=torch.uint8)
                    mask[places[order]] = 1
                    masks.append(mask)
                return [masks[0]], [masks[1]]

            _utils.BalancedPositiveNegativeSampler.__call__ = chosen
            net.train()
            net.zero_grad()
            target = {
                "boxes": torch.tensor(BOXES[number], dtype=torch.float32),
                "labels": torch.tensor(LABELS[number]) + 1,
            }
            state = {name: value.clone() for name, value in net.state_dict().items()}
            losses = net([image], [target])
            sum(losses.values()).backward()
            net.load_state_dict(state)  # running statistics too
            for ours, theirs in zip(COUNTED, THEIRS, strict=True):
                arrays[f"{key}/{ours}"] = losses[theirs].detach().numpy()
            for name, parameter in net.named_parameters():
                arrays[f"{key}/gradient/{name}"] = parameter.grad.numpy()
    from torchvision import __version__ as torchvision_version

    arrays["torch"] = np.array(f"torch {torch.__version__}, torchvision {torchvision_version}")
    np.savez(out, **arrays)


def widen(net, version: int) -> None:
    """Give random weights statistics and scores that differ."""
    import torch

    generator = torch.Generator().manual_seed(version)

    def normal(like, mean, std):
        return mean + std * torch.randn(like.shape, generator=generator)

    with torch.no_grad():
        for name, module in net.named_modules():
            if hasattr(module, "running_var"):
                module.running_mean.copy_(normal(module.running_mean, 0, 0.1))
                module.running_var.copy_(normal(module.running_var, 1, 0.1).abs())
                module.weight.copy_(normal(module.weight, 0.7 if "bn3" not in name else 0.3, 0.1))
        heads = net.rpn.head, net.roi_heads.box_predictor
        heads[0].cls_logits.weight.mul_(30)
        heads[0].bbox_pred.weight.mul_(10)
        heads[1].cls_score.weight.mul_(60)
        heads[1].bbox_pred.weight.mul_(20)


def our_side(reference: dict[str, np.ndarray], version: int, scenes, draws) -> dict[str, float]:
    """Return the largest differences of one version."""
    import jax

    from deeper.models.detection import proposals
    from deeper.models.detection.faster_rcnn import faster_rcnn
    from deeper.models.resnet import resnet
    from deeper.tasks.detection import losses_by_image
    from deeper.weights import torchvision

    net = faster_rcnn(resnet(50, 1), CLASSES, version=version, proposals_after=(AFTER, 1000))
    prefix = f"{version}/weights/"
    weights = {n.removeprefix(prefix): a for n, a in reference.items() if n.startswith(prefix)}
    variables = torchvision.convert(weights, net, (64, 64, 3))
    kept: list[jax.Array] = []
    propose = proposals.propose

    def seen(*arguments):
        boxes, is_box = propose(*arguments)
        jax.debug.callback(lambda b, i: kept.append((np.asarray(b), np.asarray(i))), boxes, is_box)
        return boxes, is_box

    proposals.propose = seen
    found = jax.jit(lambda v, s: net.apply(v, s, train=False))(
        variables, scenes._replace(boxes=None, labels=None, keys=None)
    )
    jax.block_until_ready(found)
    jax.effects_barrier()
    proposals.propose = propose
    errors: dict[str, float] = {
        "proposals": 0.0,
        "boxes": 0.0,
        "scores": 0.0,
        "other": 0,
        "detections": 0,
    }
    errors |= {"proposals in all": 0, "proposals of one alone": 0}
    for number in IMAGES[version]:
        key = f"{version}/{number}"
        mine = kept[0][0][number][kept[0][1][number]]
        theirs = reference[f"{key}/proposals"]
        distance = nearest(theirs, mine)
        errors["proposals"] = max(errors["proposals"], float(distance[distance < CLOSE].max()))
        errors["proposals in all"] += len(theirs)
        errors["proposals of one alone"] += int((distance >= CLOSE).sum())
        there = np.asarray(found.labels[number]) >= 0
        boxes, scores, labels = (
            np.asarray(part[number])[there] for part in (found.boxes, found.scores, found.labels)
        )
        errors["detections"] += len(reference[f"{key}/boxes"])
        own = reference[f"{key}/labels"] - 1
        for label in range(CLASSES):
            a, b = reference[f"{key}/boxes"][own == label], boxes[labels == label]
            if len(a) != len(b):
                errors["other"] += abs(len(a) - len(b))
                continue
            if len(a):
                errors["boxes"] = max(errors["boxes"], float(np.abs(a - b).max()))
                difference = reference[f"{key}/scores"][own == label] - scores[labels == label]
                errors["scores"] = max(errors["scores"], float(np.abs(difference).max()))

    def of_image(params, rest, scene):
        answers, _ = net.apply({**rest, "params": params}, scene, train=True,
                               mutable=["batch_stats"])  # fmt: skip
        losses = {name: value[0] for name, value in losses_by_image(answers).items()}
        return sum(losses.values()), losses

    rest = {k: v for k, v in variables.items() if k != "params"}
    step = jax.jit(jax.value_and_grad(of_image, has_aux=True))
    per_kind: dict[str, float] = {}
    for number in IMAGES[version]:
        one = jax.tree.map(lambda leaf, n=number: leaf[n : n + 1], scenes)
        (_, losses), gradient = step(variables["params"], rest, one)
        key = f"{version}/{number}"
        for name in COUNTED:
            theirs = float(reference[f"{key}/{name}"])
            off = abs(float(losses[name]) - theirs) / max(theirs, 1e-6)
            per_kind[name] = max(per_kind.get(name, 0.0), off)
        mine = torchvision.revert({**rest, "params": gradient}, net, (64, 64, 3))
        squares, total, worst = 0.0, 0.0, 0.0
        for name, value in mine.items():
            if f"{key}/gradient/{name}" not in reference:
                continue
            theirs = reference[f"{key}/gradient/{name}"]
            squares += float(((value - theirs) ** 2).sum())
            total += float((theirs**2).sum())
        worst = (squares / total) ** 0.5
        per_kind["gradient"] = max(per_kind.get("gradient", 0.0), worst)
    return errors | per_kind


def nearest(these: np.ndarray, those: np.ndarray) -> np.ndarray:
    """Return each box's distance to the nearest of others: the largest of its corners."""
    return np.abs(these[:, None] - those[None]).max(-1).min(1)


def scenes_and_draws(images: list[np.ndarray]):
    """Return our side's inputs, and the draws by image for the other side."""
    import jax
    import jax.numpy as jnp

    from deeper.models.detection import proposals
    from deeper.models.detection.faster_rcnn import Scenes, draws_of

    most = max(map(len, BOXES))
    canvas = np.full((len(images), CANVAS, CANVAS, 3), 7.0, np.float32)  # beyond, anything
    boxes = np.zeros((len(images), most, 4), np.float32)
    labels = np.full((len(images), most), -1, np.int32)
    for number, image in enumerate(images):
        canvas[number, : image.shape[0], : image.shape[1]] = image
        boxes[number, : len(BOXES[number])] = BOXES[number]
        labels[number, : len(BOXES[number])] = LABELS[number]
    keys = jax.random.split(jax.random.key(0), len(images))
    scenes = Scenes(jnp.asarray(canvas), jnp.asarray(SIZES, jnp.float32), jnp.asarray(boxes),
                    jnp.asarray(labels), keys)  # fmt: skip
    strides = (4, 8, 16, 32, 64)
    shapes = [(CANVAS // s, CANVAS // s) for s in strides]
    filled = jnp.asarray([[-(-side // 32) * 32 for side in size] for size in SIZES])
    is_anchor = np.concatenate(proposals.inside(shapes, strides, filled, 3), axis=1)
    found = sum(min(2000, 3 * h * w) for h, w in shapes)
    draws = {}
    for number in range(len(images)):
        of_anchors = np.asarray(draws_of(keys[number], 0, is_anchor.shape[1]))
        of_regions = np.asarray(draws_of(keys[number], 1, min(AFTER, found) + most))
        count = len(BOXES[number])
        draws[f"anchors_{number}"] = of_anchors[is_anchor[number]]
        draws[f"regions_{number}"] = of_regions[: min(AFTER, found) + count]
    return scenes, draws


def main() -> None:
    """Compare, print a table, and write it if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch", help="a Python that has torch and torchvision")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name} and README.md")
    parser.add_argument("--keep", type=Path, help="keep torchvision's answers here")
    parser.add_argument("--out", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.out:
        torch_side(*given.out)
        return
    if not given.torch:
        sys.exit("Say --torch PYTHON: a Python that has torch and torchvision.")
    from deeper.xla_flags import set_flags

    set_flags()
    images = photographs()
    scenes, draws = scenes_and_draws(images)
    with tempfile.TemporaryDirectory() as scratch:
        inputs, out = Path(scratch) / "in.npz", given.keep or Path(scratch) / "out.npz"
        if not (given.keep and out.exists()):
            named = {f"image_{number}": image for number, image in enumerate(images)}
            np.savez(inputs, **named, **draws)
            subprocess.run([given.torch, __file__, "--out", inputs, out], check=True)
        with np.load(out) as reference:
            reference = dict(reference)
    results = {}
    for version in IMAGES:
        results[f"v{version}"] = our_side(reference, version, scenes, draws)
        print(f"v{version}", results[f"v{version}"], flush=True)
    if given.write:
        write(results, str(reference["torch"]))


def write(results: dict[str, dict[str, float]], versions: str) -> None:
    """Write the results, and the table in the README."""
    from deeper.study.tables import insert_between_markers, markdown

    RESULTS.write_text(
        json.dumps({"versions": versions, "errors": results}, indent=1) + "\n", encoding="utf-8"
    )
    columns = ["boxes", "scores", *COUNTED, "gradient"]
    header = [
        "net", "proposals", "of one alone", "off by, px", "detections", "of one alone",
        "off by, px", "scores", *COUNTED, "gradient",
    ]  # fmt: skip
    rows = [
        [name, str(int(one["proposals in all"])), str(int(one["proposals of one alone"])),
         f"{one['proposals']:.1e}", str(int(one["detections"])), str(int(one["other"])),
         *(f"{one[column]:.1e}" for column in columns)]
        for name, one in results.items()
    ]  # fmt: skip
    insert_between_markers(README, "detection", markdown(header, rows) + f"\n\n{versions}.")


if __name__ == "__main__":
    main()
