"""Results of torchvision's nets, and of timm's where it has none.

They are logits, and one training step for nets with BatchNorm, and for ConvNeXt.

The step is computed twice: in float64, which is the reference, and in float32 (``single/``), which
shows the error of float32 itself.

Run by parity.py in a separate virtual environment: torch_side.py NET STEP_SIZE OUT (pixels of the
step's images, 0 for none). Reads one seed per line, writes its results to OUT, and prints a line.
"""

import copy
import sys

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from formula import fill, fill_all
from nets import CLASSES, IMAGES, SIZE


def main():
    """Compute the results of one net for each seed until the input ends."""
    name, step_size, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    model = make(name)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    for line in sys.stdin:
        seed = int(line)
        load(model, seed)
        model.eval()
        with torch.no_grad():
            answers = {"logits": model(images(SIZE, seed)).numpy()}
        if step_size:
            exact = copy.deepcopy(model).double()
            answers |= step(exact, name, images(step_size, seed).double())
            single = step(model, name, images(step_size, seed))
            answers |= {f"single/{key}": array for key, array in single.items()}
            model.zero_grad()
        np.savez(out, **answers, **versions)
        print("done", flush=True)


def make(name):
    """Return a net of torchvision, or of timm."""
    options = {}
    if name in ("googlenet", "inception_v3"):
        options = {"aux_logits": True, "init_weights": False}
    elif name.startswith("vgg"):
        options = {"init_weights": False}
    elif name.startswith("convnext"):
        options = {"stochastic_depth_prob": 0.0}
    if hasattr(torchvision.models, name):
        return getattr(torchvision.models, name)(weights=None, **options)
    import timm

    return timm.create_model(name)


def load(model, seed):
    """Set the parameters and statistics of a net by the formula."""
    state = model.state_dict()
    shapes = {k: tuple(t.shape) for k, t in state.items() if "num_batches_tracked" not in k}
    for key, array in fill_all(shapes, seed).items():
        state[key].copy_(torch.from_numpy(array))


def images(size, seed):
    """Return the images of a seed."""
    return torch.from_numpy(fill("images", (IMAGES, 3, size, size), seed))


def step(model, name, images):
    """Return the results of a training step."""
    labels = torch.arange(IMAGES) * 101 % CLASSES
    model.train()
    outputs = model(images)
    if name == "googlenet":
        heads = F.cross_entropy(outputs.aux_logits1, labels) + F.cross_entropy(
            outputs.aux_logits2, labels
        )
        loss = F.cross_entropy(outputs.logits, labels) + 0.3 * heads
    elif name == "inception_v3":
        head = F.cross_entropy(outputs.aux_logits, labels)
        loss = F.cross_entropy(outputs.logits, labels) + 0.3 * head
    else:
        loss = F.cross_entropy(outputs, labels)
    loss.backward()
    answers = {"loss": loss.detach().numpy()}
    for key, parameter in model.named_parameters():
        answers[f"gradient/{key}"] = parameter.grad.numpy()
    for key, buffer in model.named_buffers():
        if not key.endswith("num_batches_tracked"):
            answers[f"statistics/{key}"] = buffer.numpy()
    return answers


main()
