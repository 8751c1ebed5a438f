"""The rounding errors of float32 convolutions on a CPU: ours, XLA's plain ones and PyTorch's.

    python experiments/bench/rounding.py --torch PYTHON [--write]

Each is compared with float64: the result of a 3x3 convolution, the input's gradient and the
kernel's, of a rectified normal input and a kernel of He's variance; then the change of the weights
of VGG-11 with BatchNorm by two training steps. An error is the root mean square of the difference
over that of the exact values. PYTHON has torch.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).with_suffix(".json")
# Batch, side of the map, input and output channels: VGG's on 32 pixels, ResNet's on 224.
SHAPES = (
    (16, 32, 64, 64),
    (16, 16, 64, 128),
    (16, 16, 128, 128),
    (16, 8, 256, 256),
    (16, 4, 512, 512),
    (4, 56, 64, 64),
    (4, 28, 128, 128),
    (4, 14, 256, 256),
    (4, 7, 512, 512),
    (32, 32, 16, 16),
)
VGG11 = (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0)  # 0: pooling
SEEDS, IMAGES, RATE, STEPS = range(5), 32, 0.05, 2
FORMS = ("pytorch", "kernels", "onednn", "plain")
PARTS = ("result", "input's gradient", "kernel's gradient")


def drawn(shape: tuple[int, int, int, int]) -> tuple[np.ndarray, ...]:
    """Return input, kernel (HWIO) and the gradient of the result."""
    b, side, c, k = shape
    rng = np.random.default_rng(0)
    x = np.maximum(rng.normal(size=(b, side, side, c)), 0)
    kernel = rng.normal(size=(3, 3, c, k)) * np.sqrt(2 / (9 * c))
    dy = rng.normal(size=(b, side, side, k))
    return tuple(v.astype(np.float32) for v in (x, kernel, dy))


def net_of(seed: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Return images, labels and VGG-11's kernels: convolutions (HWIO), then the dense layers."""
    rng = np.random.default_rng(seed)
    widths = [3, *(w for w in VGG11 if w)]
    shapes = [(3, 3, c, k) for c, k in itertools.pairwise(widths)]
    shapes += [(512, 512), (512, 512), (512, 10)]
    kernels = [
        (rng.normal(size=s) * np.sqrt(2 / np.prod(s[:-1]))).astype(np.float32) for s in shapes
    ]
    images = rng.normal(size=(IMAGES, 32, 32, 3)).astype(np.float32)
    return images, rng.integers(0, 10, IMAGES), kernels


def of_torch(directory: Path) -> None:
    """Write PyTorch's values in float64 and float32."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    for number, shape in enumerate(SHAPES):
        x, kernel, dy = drawn(shape)
        for name, dtype in (("exact", torch.float64), ("pytorch", torch.float32)):
            maps, gradient = (
                torch.tensor(v, dtype=dtype)
                .permute(0, 3, 1, 2)
                .contiguous(memory_format=torch.channels_last)
                for v in (x, dy)
            )
            maps.requires_grad_()
            weight = torch.tensor(kernel, dtype=dtype).permute(3, 2, 0, 1).contiguous()
            weight.requires_grad_()
            y = F.conv2d(maps, weight, padding=1)
            y.backward(gradient)
            found = (
                y.detach().permute(0, 2, 3, 1),
                maps.grad.permute(0, 2, 3, 1),
                weight.grad.permute(2, 3, 1, 0),
            )
            np.savez(directory / f"{number} {name}", *(v.numpy() for v in found))

    def changes(seed: int, dtype: torch.dtype) -> list[np.ndarray]:
        images, labels, kernels = net_of(seed)
        layers: list[nn.Module] = []
        given = iter(kernels)
        for width in VGG11:
            if not width:
                layers.append(nn.MaxPool2d(2))
                continue
            kernel = torch.tensor(next(given)).permute(3, 2, 0, 1)
            conv = nn.Conv2d(kernel.shape[1], width, 3, padding=1)
            conv.weight.data.copy_(kernel)
            conv.bias.data.zero_()
            layers += [conv, nn.BatchNorm2d(width), nn.ReLU()]
        layers.append(nn.Flatten())
        for kernel in given:
            dense = nn.Linear(*kernel.shape)
            dense.weight.data.copy_(torch.tensor(kernel.T))
            dense.bias.data.zero_()
            layers += [dense, nn.ReLU()]
        net = nn.Sequential(*layers[:-1]).to(dtype)
        weights = [p for p in net.parameters() if p.ndim > 1]
        before = [p.detach().clone() for p in weights]
        optimizer = torch.optim.SGD(net.parameters(), RATE, momentum=0.9)
        x = torch.tensor(images, dtype=dtype).permute(0, 3, 1, 2)
        for _ in range(STEPS):
            optimizer.zero_grad()
            F.cross_entropy(net(x), torch.tensor(labels)).backward()
            optimizer.step()
        return [(p.detach() - b).double().numpy() for p, b in zip(weights, before)]

    for seed in SEEDS:
        for name, dtype in (("exact", torch.float64), ("pytorch", torch.float32)):
            np.savez(directory / f"net {seed} {name}", *changes(seed, dtype))


def of_deeper(directory: Path, form: str) -> None:
    """Write the values of one of our forms."""
    if form == "onednn":
        flag = "--xla_cpu_experimental_onednn_custom_call=true"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
    from deeper.xla_flags import set_flags

    set_flags()
    import jax
    import optax

    from deeper.kernels import cpu_dispatch
    from deeper.models.initializers import initialise
    from deeper.models.vgg import vgg

    cpu_dispatch.use(form != "plain")

    @jax.jit
    def values(x, kernel, dy):
        def conv(x, kernel):
            return cpu_dispatch.conv(x, kernel, stride=(1, 1), padding=((1, 1), (1, 1)))

        y, gradients = jax.vjp(conv, x, kernel)
        return y, *gradients(dy)

    for number, shape in enumerate(SHAPES):
        np.savez(directory / f"{number} {form}", *map(np.asarray, values(*drawn(shape))))

    net = vgg(11, 10, batch_norm=True, hidden=512, dropout=0.0, dtype="float32")
    optimizer = optax.sgd(RATE, momentum=0.9)

    @jax.jit
    def step(variables, memory, images, labels):
        def loss_of(params):
            logits, _ = net.apply(
                variables | {"params": params}, images, train=True, mutable=["batch_stats"]
            )
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        gradient = jax.grad(loss_of)(variables["params"])
        updates, memory = optimizer.update(gradient, memory)
        return variables | {"params": optax.apply_updates(variables["params"], updates)}, memory

    for seed in SEEDS:
        images, labels, kernels = net_of(seed)
        variables = initialise(net, 0, images.shape[1:])
        variables, names = with_kernels(variables, kernels)
        memory = optimizer.init(variables["params"])
        after = variables
        for _ in range(STEPS):
            after, memory = step(after, memory, images, labels)
        changed = [
            np.float64(after["params"][name]["kernel"]) - kernel
            for name, kernel in zip(names, kernels)
        ]
        changed = [c.transpose(3, 2, 0, 1) if c.ndim == 4 else c.T for c in changed]
        np.savez(directory / f"net {seed} {form}", *changed)


def with_kernels(variables: dict, kernels: list[np.ndarray]) -> tuple[dict, list[str]]:
    """Return the variables of our VGG with these kernels, and the names of its layers in order."""
    params = variables["params"]
    names = [name for name in sorted(params) if "kernel" in params[name]]
    names.sort(key=lambda name: params[name]["kernel"].ndim == 2)  # convolutions, then dense
    layers = {
        name: params[name] | {"kernel": kernel} for name, kernel in zip(names, kernels, strict=True)
    }
    return variables | {"params": params | layers}, names


def error(found: list[np.ndarray], exact: list[np.ndarray]) -> float:
    """Return the root mean square of the difference over that of the exact values."""
    off = sum(((f.astype(np.float64) - e) ** 2).sum() for f, e in zip(found, exact))
    return float(np.sqrt(off / sum((e**2).sum() for e in exact)))


def table(record: dict) -> str:
    """Return the table of the README."""
    from deeper.study.tables import markdown

    rows = [
        (
            f"{one['batch']}x{one['side']}x{one['side']}, {one['channels'][0]} to "
            f"{one['channels'][1]}",
            *(
                " / ".join(f"{1e7 * error:.1f}" for error in one["errors"][form].values())
                for form in FORMS
            ),
        )
        for one in record["convolutions"]
    ]
    steps = record["two steps of VGG-11 with BatchNorm, median of 5 seeds"]
    note = (
        "Result / input's gradient / kernel's gradient, in 1e-7. The change of VGG-11's weights by "
        f"two steps, median of {len(SEEDS)} seeds: "
        f"{', '.join(f'{form} {steps[form]:.1e}' for form in FORMS)}. {record['cpu']}; JAX "
        f"{record['jax']}; commit {record['commit'][:12]}."
    )
    return f"{markdown(('3x3 convolution', *FORMS), rows)}\n\n{note}"


def main() -> None:
    """Compare, print, and write the results if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch", help="a Python that has torch")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name} and the table")
    parser.add_argument("--side", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        form, directory = asked.side
        of_torch(Path(directory)) if form == "pytorch" else of_deeper(Path(directory), form)
        return
    if not asked.torch:
        sys.exit("Say --torch PYTHON: a Python that has torch.")
    with tempfile.TemporaryDirectory() as made:
        for form in FORMS:
            python = asked.torch if form == "pytorch" else sys.executable
            subprocess.run([python, __file__, "--side", form, made], check=True)

        def values(name: str) -> list[np.ndarray]:
            with np.load(Path(made) / f"{name}.npz") as arrays:
                return [arrays[key] for key in arrays]

        results = []
        for number, (b, side, c, k) in enumerate(SHAPES):
            exact = values(f"{number} exact")
            errors = {
                form: {
                    part: error([f], [e])
                    for part, f, e in zip(PARTS, values(f"{number} {form}"), exact)
                }
                for form in FORMS
            }
            results.append({"batch": b, "side": side, "channels": [c, k], "errors": errors})
        steps = {
            form: statistics.median(
                error(values(f"net {seed} {form}"), values(f"net {seed} exact")) for seed in SEEDS
            )
            for form in FORMS
        }
    for one in results:
        print(one["batch"], one["side"], *one["channels"])
        for form, errors in one["errors"].items():
            print(f"    {form:10}", *(f"{value:.2e}" for value in errors.values()))
    print("VGG-11 with BatchNorm, weights after two steps:", steps)
    if asked.write:
        from deeper.record.environment import environment
        from deeper.study.tables import insert_between_markers

        facts = environment()
        record = {
            "cpu": facts["cpu"],
            "jax": facts["jax"],
            "commit": facts["git_commit"],
            "convolutions": results,
            "two steps of VGG-11 with BatchNorm, median of 5 seeds": steps,
        }
        RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        insert_between_markers(RESULTS.with_name("README.md"), "rounding", table(record))


if __name__ == "__main__":
    main()
