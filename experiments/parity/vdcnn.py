"""VDCNN beside a plain PyTorch definition: the same weights, logits and gradients.

    PYTHON_WITH_TORCH experiments/parity/vdcnn.py torch DIRECTORY
    .venv/bin/python experiments/parity/vdcnn.py compare DIRECTORY   # writes vdcnn.json

The nets are those of Conneau et al. 2017 (arXiv:1606.01781) at a quarter of the width, on texts
that fill their length, since the paper's nets read the padding and ours do not. Convolutions have
no bias, as BatchNorm follows. Weights are those of formula.py. Gradients, of a training step's mean
cross-entropy, are compared in float64 (README.md says why), the logits of evaluation in float32.
The error of an array is its largest difference over its largest value, or over a hundredth of the
largest value of all arrays of its kind, if that is more.
"""

import json
import sys
from pathlib import Path

import numpy as np
from formula import _uniform, fill_all

BLOCKS = {9: (1, 1, 1, 1), 17: (2, 2, 2, 2), 29: (5, 5, 2, 2), 49: (8, 8, 5, 3)}
WIDTHS, TOKENS, CLASSES, HIDDEN, LENGTH, TEXTS = (16, 32, 64, 128), 70, 4, 64, 128, 8
NETS = [(d, r, "max") for d in BLOCKS for r in (False, True)]
NETS += [(9, True, "convolution"), (9, False, "k_max")]
HERE = Path(__file__).parent


def name_of(net):
    """Return what a net is called."""
    depth, residual, downsampling = net
    return f"vdcnn{depth} {'residual' if residual else 'plain'} {downsampling}"


def batch():
    """Return tokens (TEXTS, LENGTH), none of them padding, and labels."""
    u = _uniform("texts", TEXTS * LENGTH, 0).reshape(TEXTS, LENGTH)
    tokens = 1 + np.floor((u + 1) / 2 * (TOKENS - 1)).astype(np.int32).clip(0, TOKENS - 2)
    return tokens, np.arange(TEXTS, dtype=np.int32) % CLASSES


# --- PyTorch -------------------------------------------------------------------------------------


def torch_net(depth, residual, downsampling):
    """Return the net as a plain PyTorch module."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    def kept(x, k):
        places = x.topk(k, dim=2).indices.sort(dim=2).values
        return x.gather(2, places)

    class Block(nn.Module):
        def __init__(self, before, width, stride):
            super().__init__()
            self.conv1 = nn.Conv1d(before, width, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm1d(width)
            self.conv2 = nn.Conv1d(width, width, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm1d(width)
            self.downsample = None
            if residual and (before != width or stride != 1):
                self.downsample = nn.Sequential(
                    nn.Conv1d(before, width, 1, stride, bias=False), nn.BatchNorm1d(width)
                )

        def forward(self, x):
            y = F.relu(self.bn1(self.conv1(x)))
            y = self.bn2(self.conv2(y))
            if residual:
                y = y + (x if self.downsample is None else self.downsample(x))
            return F.relu(y)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(TOKENS, 16)
            self.conv1 = nn.Conv1d(16, WIDTHS[0], 3, 1, 1, bias=False)
            before = WIDTHS[0]
            for number, (blocks, width) in enumerate(zip(BLOCKS[depth], WIDTHS, strict=True), 1):
                made = []
                for i in range(blocks):
                    stride = 2 if downsampling == "convolution" and number > 1 and i == 0 else 1
                    made.append(Block(before, width, stride))
                    before = width
                setattr(self, f"stage{number}", nn.ModuleList(made))
            self.fc1 = nn.Linear(8 * WIDTHS[-1], HIDDEN)
            self.fc2 = nn.Linear(HIDDEN, HIDDEN)
            self.fc3 = nn.Linear(HIDDEN, CLASSES)

        def forward(self, tokens):
            x = self.conv1(self.embedding(tokens).transpose(1, 2))
            for number in (1, 2, 3, 4):
                if number > 1 and downsampling == "max":
                    x = F.max_pool1d(x, 3, 2, 1)
                if number > 1 and downsampling == "k_max":
                    x = kept(x, x.shape[2] // 2)
                for block in getattr(self, f"stage{number}"):
                    x = block(x)
            # In the order position, channel, in which our net flattens.
            x = kept(x, 8).transpose(1, 2).flatten(1)
            return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))

    net = Net()
    state = net.state_dict()
    shapes = {k: tuple(v.shape) for k, v in state.items() if "num_batches" not in k}
    for key, array in fill_all(shapes, 0).items():
        state[key].copy_(torch.from_numpy(array))
    return net, shapes


def run_torch(out):
    """Write each net's weights, logits and gradients."""
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(1)
    tokens, labels = (torch.from_numpy(array).long() for array in batch())
    for net in NETS:
        module, _ = torch_net(*net)
        weights = {f"weight/{k}": v.numpy().copy() for k, v in module.state_dict().items()}
        with torch.no_grad():
            logits = module.eval()(tokens).numpy()
        module = module.double().train()
        F.cross_entropy(module(tokens), labels).backward()
        gradients = {f"gradient/{k}": p.grad.numpy() for k, p in module.named_parameters()}
        np.savez(
            out / f"{name_of(net)}.npz",
            logits=logits, torch=torch.__version__, **weights, **gradients,
        )  # fmt: skip
        print(name_of(net), flush=True)


# --- ours ----------------------------------------------------------------------------------------


def our_path(key):
    """Return (collection, layers ...) of an array by PyTorch's name."""
    *parts, kind = key.split(".")
    layers = []
    for part in parts:
        if part.isdecimal() and layers[-1] == "downsample":
            layers[-1] = ("shortcut_conv", "shortcut_bn")[int(part)]
        elif part.isdecimal():
            layers.append(f"block{int(part) + 1}")
        else:
            layers.append(part)
    if kind.startswith("running_"):
        return ("batch_stats", *layers, kind.removeprefix("running_"))
    if layers[-1] == "embedding":
        return ("params", *layers, "table")
    norm = kind == "weight" and ("bn" in layers[-1])
    return ("params", *layers, "scale" if norm else {"weight": "kernel"}.get(kind, kind))


def turned(key, array):
    """Return PyTorch's array in our order of axes."""
    return array.T if array.ndim > 1 and "embedding" not in key else array


def compare(directory):
    """Compare our nets with what PyTorch wrote, and write the errors."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp
    import optax

    from deeper.models.vdcnn import vdcnn
    from deeper.profile.macs import summarise

    tokens, labels = batch()
    errors = {}
    for depth, residual, downsampling in NETS:
        name = name_of((depth, residual, downsampling))
        theirs = dict(np.load(directory / f"{name}.npz"))
        net = vdcnn(
            depth, CLASSES, TOKENS,
            residual=residual, downsampling=downsampling, width=WIDTHS[0], hidden=HIDDEN,
        )  # fmt: skip
        variables = {}
        for key, array in theirs.items():
            if not key.startswith("weight/") or "num_batches" in key:
                continue
            *path, last = our_path(key.removeprefix("weight/"))
            node = variables
            for part in path:
                node = node.setdefault(part, {})
            node[last] = turned(key, array)
        count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        text = jax.ShapeDtypeStruct((LENGTH,), jnp.int32)
        assert count == summarise(net, text).parameters
        logits = net.apply(variables, tokens, train=False)

        def loss(params, statistics, net):
            answers, _ = net.apply(
                {"params": params, "batch_stats": statistics},
                tokens, train=True, mutable=["batch_stats"],
            )  # fmt: skip
            return optax.softmax_cross_entropy_with_integer_labels(answers, labels).mean()

        exact = vdcnn(
            depth, CLASSES, TOKENS, residual=residual, downsampling=downsampling,
            width=WIDTHS[0], hidden=HIDDEN, dtype="float64",
        )  # fmt: skip
        wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables)
        # Not compiled as a whole, which takes minutes at 49 layers.
        found = jax.grad(loss)(wide["params"], wide["batch_stats"], exact)
        expected, ours = {}, {}
        for key, array in theirs.items():
            if key.startswith("gradient/"):
                place = our_path(key.removeprefix("gradient/"))
                node = found
                for part in place[1:]:
                    node = node[part]
                expected[key], ours[key] = turned(key, array), np.asarray(node)
        errors[name] = {
            "parameters": count,
            "logits": error_of({"logits": theirs["logits"]}, {"logits": np.asarray(logits)}),
            "gradient": error_of(expected, ours),
        }
        print(name, errors[name], flush=True)
        write(str(theirs["torch"]), jax.__version__, errors)


def write(torch_version, jax_version, errors):
    """Write vdcnn.json, and its table in README.md."""
    from deeper.study.tables import insert_between_markers, markdown

    result = {"torch": torch_version, "jax": jax_version, "nets": errors}
    (HERE / "vdcnn.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    head = ("net", "parameters", "logits, float32", "gradient, float64")
    rows = [
        (name, f"{one['parameters']:,}", f"{one['logits']:.1e}", f"{one['gradient']:.1e}")
        for name, one in errors.items()
    ]
    versions = f"torch {torch_version}; JAX {jax_version}."
    insert_between_markers(HERE / "README.md", "vdcnn", f"{markdown(head, rows)}\n\n{versions}")


def error_of(expected, ours):
    """Return the largest error of arrays of a kind."""
    least = max(np.abs(array).max() for array in expected.values()) / 100
    return max(
        float(np.abs(ours[key] - array).max() / max(np.abs(array).max(), least))
        for key, array in expected.items()
    )


if __name__ == "__main__":
    side, place = sys.argv[1], Path(sys.argv[2])
    place.mkdir(parents=True, exist_ok=True)
    run_torch(place) if side == "torch" else compare(place)
