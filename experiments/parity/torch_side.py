"""torchvision's answers: logits, and for nets with BatchNorm one training step.

Everything is computed twice: in float64, which is the reference, and in float32 (``single/``),
which shows how far float32 alone goes from it.

Run by parity.py in a virtual environment of its own: torch_side.py NET SEED IMAGES STEP OUT
"""

import copy
import sys

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from formula import fill, fill_all
from nets import CLASSES, SIZE


def main():
    """Write everything of one net and seed to an npz file."""
    name, seed, count, with_step, out = sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5]
    options = {"aux_logits": True, "init_weights": False} if name == "googlenet" else {}
    if name.startswith("vgg"):
        options = {"init_weights": False}
    model = getattr(torchvision.models, name)(weights=None, **options)
    with torch.no_grad():
        state = model.state_dict()
        shapes = {k: tuple(t.shape) for k, t in state.items() if "num_batches_tracked" not in k}
        for key, array in fill_all(shapes, seed).items():
            state[key].copy_(torch.from_numpy(array))
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    images = torch.from_numpy(fill("images", (count, 3, SIZE, SIZE), seed))
    labels = torch.arange(count) * 101 % CLASSES
    exact = copy.deepcopy(model).double()
    answers = {f"single/{k}": v for k, v in run(model, name, images, labels, with_step).items()}
    answers |= run(exact, name, images.double(), labels, with_step)
    np.savez(out, **answers, torch=torch.__version__, torchvision=torchvision.__version__)


def run(model, name, images, labels, with_step):
    """Return logits in evaluation mode and, if asked, what a training step gives."""
    answers = {}
    model.eval()
    with torch.no_grad():
        answers["logits"] = model(images).numpy()
    if with_step:
        model.train()
        outputs = model(images)
        if name == "googlenet":
            logits = outputs.logits
            heads = F.cross_entropy(outputs.aux_logits1, labels) + F.cross_entropy(
                outputs.aux_logits2, labels
            )
            loss = F.cross_entropy(logits, labels) + 0.3 * heads
        else:
            loss = F.cross_entropy(outputs, labels)
        loss.backward()
        answers["loss"] = loss.detach().numpy()
        for key, parameter in model.named_parameters():
            answers[f"gradient/{key}"] = parameter.grad.numpy()
        for key, buffer in model.named_buffers():
            if not key.endswith("num_batches_tracked"):
                answers[f"statistics/{key}"] = buffer.numpy()
    return answers


main()
