"""M5 of Dai et al. 2017 beside a plain PyTorch definition: same weights, logits and gradients.

``waveform.py torch OUT``, in an environment with PyTorch, computes logits and one training step in
float64; ``waveform.py deeper OUT`` compares with them and writes waveform.json.
"""

import json
import sys
from pathlib import Path

import numpy as np
from formula import fill, fill_all

SOUNDS, LENGTH, CLASSES, SEED = 4, 8000, 10, 0
WIDTHS = (128, 128, 256, 512)  # of the four convolutions


def torch_side(out):
    """Write the logits of evaluation, and loss, gradients and statistics of a training step."""
    import torch
    from torch import nn

    layers, before = [], 1
    for number, width in enumerate(WIDTHS):
        kernel, stride, padding = (80, 4, 38) if number == 0 else (3, 1, 1)
        layers += [
            nn.Conv1d(before, width, kernel, stride, padding, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.MaxPool1d(4, ceil_mode=True),
        ]
        before = width
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(512, CLASSES))
    state = net.state_dict()
    shapes = {k: tuple(v.shape) for k, v in state.items() if "num_batches" not in k}
    weights = fill_all(shapes, SEED)
    for key, array in weights.items():
        state[key].copy_(torch.from_numpy(array))
    net = net.double()
    sounds = torch.from_numpy(fill("images", (SOUNDS, 1, LENGTH), SEED)).double()
    with torch.no_grad():
        answers = {"logits": net.eval()(sounds).numpy()}
    loss = nn.functional.cross_entropy(net.train()(sounds), torch.arange(SOUNDS))
    loss.backward()
    answers |= {f"gradient/{key}": p.grad.numpy() for key, p in net.named_parameters()}
    answers |= {
        f"statistics/{key}": b.numpy() for key, b in net.named_buffers() if "running" in key
    }
    given = {f"weight/{key}": array for key, array in weights.items()}
    np.savez(out, loss=loss.item(), torch=torch.__version__, **given, **answers)


def deeper_side(out):
    """Compare and write the largest differences, as shares of the largest value."""
    import jax
    import jax.numpy as jnp
    import optax

    from deeper.models.waveform import waveform

    with np.load(out) as file:
        theirs = dict(file)
    names = {}  # ours -> theirs
    for number in range(len(WIDTHS)):
        conv, norm = (
            ("conv1", "bn1") if number == 0 else (f"stage{number}_conv1", f"stage{number}_bn1")
        )
        names[conv, "kernel"] = f"{4 * number}.weight"
        names[norm, "scale"], names[norm, "bias"] = (
            f"{4 * number + 1}.weight",
            f"{4 * number + 1}.bias",
        )
        names[norm, "mean"], names[norm, "var"] = (
            f"{4 * number + 1}.running_mean",
            f"{4 * number + 1}.running_var",
        )
    names["fc", "kernel"], names["fc", "bias"] = "18.weight", "18.bias"

    def ours(kind, key):
        array = theirs[f"{kind}/{names[key]}"]
        return np.moveaxis(array, 0, -1)[:].swapaxes(0, -2) if array.ndim > 1 else array

    net = waveform(5, CLASSES)
    shapes = jax.eval_shape(
        lambda x: net.init(jax.random.key(0), x, train=False), jnp.zeros((1, LENGTH, 1))
    )
    shapes = {kind: shapes[kind] for kind in ("params", "batch_stats")}
    variables = {
        kind: {
            layer: {leaf: jnp.asarray(ours("weight", (layer, leaf))) for leaf in leaves}
            for layer, leaves in layers.items()
        }
        for kind, layers in shapes.items()
    }
    sounds = jnp.asarray(fill("images", (SOUNDS, 1, LENGTH), SEED)).swapaxes(1, 2)
    logits = net.apply(variables, sounds, train=False)

    def loss_of(params):
        held = {"params": params, "batch_stats": variables["batch_stats"]}
        outputs, changed = net.apply(held, sounds, train=True, mutable=["batch_stats"])
        losses = optax.softmax_cross_entropy_with_integer_labels(outputs, jnp.arange(SOUNDS))
        return losses.mean(), changed["batch_stats"]

    (loss, statistics), gradients = jax.value_and_grad(loss_of, has_aux=True)(variables["params"])

    def apart(found, expected):
        return float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max())

    def worst(kind, tree):
        return max(
            apart(value, ours(kind, (layer, leaf)))
            for layer, leaves in tree.items()
            for leaf, value in leaves.items()
        )

    found = {
        "net": "M5",
        "torch": str(theirs["torch"]),
        "jax": jax.__version__,
        "logits": apart(logits, theirs["logits"]),
        "loss": apart(loss, theirs["loss"]),
        "gradients": worst("gradient", gradients),
        "statistics": worst("statistics", statistics),
    }
    text = json.dumps(found, indent=1) + "\n"
    Path(__file__).with_name("waveform.json").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    {"torch": torch_side, "deeper": deeper_side}[sys.argv[1]](sys.argv[2])
