"""DeepBind beside a plain PyTorch definition: equal weights, logits, loss and gradients.

Two processes, so that neither framework's threads are in the other's way:

    python experiments/parity/deepbind.py --torch PYTHON [--write]

PYTHON has torch. Weights and sequences are drawn by NumPy with fixed seeds on both sides. The error
of an array is its largest difference divided by its largest value; gradients are compared in
float64 on both sides, as for the nets of images (README.md).
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).with_name("deepbind.json")
SEEDS = 16
CASES = [(pool, strands) for pool in ("max", "max_and_mean") for strands in ("one", "max", "mean")]
MOTIFS, LENGTH, HIDDEN, CLASSES, BASES = 16, 24, 32, 2, 101
NAMES = ("conv1/kernel", "conv1/bias", "fc1/kernel", "fc1/bias", "fc2/kernel", "fc2/bias")


def drawn(seed: int, pool: str) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Return weights in our layout, one-hot sequences with unknown bases, and labels."""
    rng = np.random.default_rng(seed)
    pooled = MOTIFS * (2 if pool == "max_and_mean" else 1)
    shapes = ((LENGTH, 4, MOTIFS), (MOTIFS,), (pooled, HIDDEN), (HIDDEN,), (HIDDEN, CLASSES),
              (CLASSES,))  # fmt: skip
    weights = {name: rng.normal(0, 0.3, shape) for name, shape in zip(NAMES, shapes, strict=True)}
    bases = rng.integers(0, 5, (8, BASES))
    sequences = np.where(bases[..., None] == np.arange(1, 5), 1.0, 0.0)
    return weights, sequences, rng.integers(0, CLASSES, 8)


def torch_side(out: Path) -> None:
    """Write logits, losses and gradients of the plain PyTorch definition."""
    import torch
    import torch.nn.functional as F  # as all PyTorch code calls it

    def scores(w, x, pool):
        padded = F.pad(x, (LENGTH - 1, LENGTH - 1), value=0.25)
        kernel = w["conv1/kernel"].permute(2, 1, 0)
        maps = F.relu(F.conv1d(padded, kernel, w["conv1/bias"]))
        pooled = maps.max(dim=2).values
        if pool == "max_and_mean":
            pooled = torch.cat([pooled, maps.mean(dim=2)], dim=1)
        hidden = F.relu(F.linear(pooled, w["fc1/kernel"].T, w["fc1/bias"]))
        return F.linear(hidden, w["fc2/kernel"].T, w["fc2/bias"])

    def logits_of(w, x, pool, strands):
        given = scores(w, x, pool)
        if strands == "one":
            return given
        other = scores(w, x.flip(1).flip(2), pool)
        return torch.maximum(given, other) if strands == "max" else (given + other) / 2

    arrays = {}
    for pool, strands in CASES:
        for seed in range(SEEDS):
            weights, sequences, labels = drawn(seed, pool)
            for dtype in (torch.float32, torch.float64):
                w = {
                    k: torch.tensor(v, dtype=dtype, requires_grad=True) for k, v in weights.items()
                }
                x = torch.tensor(sequences.swapaxes(1, 2).copy(), dtype=dtype)
                logits = logits_of(w, x, pool, strands)
                loss = F.cross_entropy(logits, torch.tensor(labels))
                loss.backward()
                key = f"{pool}-{strands}-{seed}-{'32' if dtype is torch.float32 else '64'}"
                arrays[f"{key}-logits"] = logits.detach().numpy()
                arrays[f"{key}-loss"] = loss.detach().numpy()
                for name, value in w.items():
                    arrays[f"{key}-{name.replace('/', '.')}"] = value.grad.numpy()
    np.savez(out, version=np.array(torch.__version__), **arrays)


def our_side(reference) -> dict[str, dict[str, float]]:
    """Return case -> the largest error of logits, loss and gradients over the seeds."""
    import jax
    import jax.numpy as jnp

    from deeper.models.deepbind import deepbind

    def compared(pool, strands, dtype, key_dtype):
        net = deepbind(CLASSES, motifs=MOTIFS, length=LENGTH, pool=pool, hidden=HIDDEN,
                       dropout=0.0, strands=strands, dtype=dtype)  # fmt: skip

        @jax.jit
        def outputs(params, sequences, labels):
            def loss_of(params):
                logits = net.apply({"params": params}, sequences, train=True)
                chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1)
                return -chosen.mean(), logits

            (loss, logits), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
            return logits, loss, gradients

        worst = {"logits": 0.0, "loss": 0.0, "gradient": 0.0}
        for seed in range(SEEDS):
            weights, sequences, labels = drawn(seed, pool)
            params: dict = {}
            for name, value in weights.items():
                layer, leaf = name.split("/")
                params.setdefault(layer, {})[leaf] = jnp.asarray(value, dtype)
            tree = params if strands == "one" else {"net": params}
            logits, loss, gradients = outputs(tree, jnp.asarray(sequences, dtype), labels)
            inner = gradients if strands == "one" else gradients["net"]
            key = f"{pool}-{strands}-{seed}-{key_dtype}"
            pairs = [("logits", logits, "logits"), ("loss", loss, "loss")]
            pairs += [("gradient", inner[n.split("/")[0]][n.split("/")[1]], n.replace("/", "."))
                      for n in NAMES]  # fmt: skip
            for kind, ours, name in pairs:
                theirs = reference[f"{key}-{name}"]
                error = np.abs(np.asarray(ours) - theirs).max() / max(np.abs(theirs).max(), 1e-12)
                worst[kind] = max(worst[kind], float(error))
        return worst

    results = {}
    for pool, strands in CASES:
        float32 = compared(pool, strands, "float32", "32")
        with jax.enable_x64(True):
            float64 = compared(pool, strands, "float64", "64")
        results[f"{pool}, {strands}"] = {
            "logits": float32["logits"],
            "loss": float32["loss"],
            "gradient, float64": float64["gradient"],
        }
    return results


def main() -> None:
    """Compare, print a table, and write it if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch", help="a Python that has torch")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.out:
        torch_side(given.out)
        return
    if not given.torch:
        sys.exit("Say --torch PYTHON: a Python that has torch.")
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "torch.npz"
        subprocess.run([given.torch, __file__, "--out", out], check=True)
        with np.load(out) as reference:
            results = our_side(reference)
            version = str(reference["version"])
    for case, errors in results.items():
        print(f"{case:20}", *(f"{name} {error:.1e}" for name, error in errors.items()))
    if given.write:
        content = {"seeds": SEEDS, "torch": version, "errors": results}
        RESULTS.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
