"""Compare the first losses of twin.py with ours, from the same weights, on the same images.

    TWIN_PYTHON=PYTHON .venv/bin/python experiments/depth/twin_check.py FASHION DATA order.npy

PYTHON has PyTorch; FASHION is the directory of Fashion-MNIST's original files, DATA that of the
prepared data sets. order.npy is written: the place of each prepared training image among the
originals, for twin.py. No flips. Rounding grows from step to step, so that PyTorch in float64 is
the judge: ours may be at most `FACTOR` times as far from it as PyTorch's own float32 is, over all
steps, and the first 4 losses must be equal to 1e-4. Writes twin_check.csv.
"""

import csv
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

import deeper
from deeper.data.dataset import open_dataset
from deeper.models.initializers import initialise
from deeper.run import build

STEPS, EQUAL, SEED, FACTOR = 16, 4, 3, 4.0
TWIN = Path(__file__).parent / "twin.py"


def in_torchs_order(params: dict, depth: int) -> list[np.ndarray]:
    """Return a net's parameters in the order and the layout of twin.py's."""

    def convolution(kernel: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.transpose(np.asarray(kernel), (3, 2, 0, 1)))

    def pair(node: dict, number: str) -> list[np.ndarray]:
        norm = node[f"bn{number}"]
        return [convolution(node[f"conv{number}"]["kernel"]), norm["scale"], norm["bias"]]

    stem = pair(params, "1") if "conv1" in params else pair(params["stem"], "1")
    found = [*stem]
    for stage in range(1, 4):
        for block in range(1, (depth - 2) // 6 + 1):
            node = params[f"stage{stage}"][f"block{block}"]
            found += pair(node, "1") + pair(node, "2")
    return [*found, np.asarray(params["fc"]["kernel"]).T.copy(), params["fc"]["bias"]]


def order_of(fashion: Path, data: Path) -> np.ndarray:
    """Return the numbers of the original training images, in the order of the prepared ones."""
    with gzip.open(fashion / "train-images-idx3-ubyte.gz") as file:
        originals = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784)
    with gzip.open(fashion / "train-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    train = open_dataset("fashion_mnist", data).splits["train"]
    places: dict[bytes, list[int]] = {}
    for number, (image, label) in enumerate(zip(originals, labels, strict=True)):
        places.setdefault(image.tobytes() + bytes([label]), []).append(number)
    images = np.asarray(train.images)
    own = (image.tobytes() + bytes([label]) for image, label in zip(images, train.labels))
    return np.array([places[one].pop() for one in own], np.uint16)


def ours(model: str, data: str, runs: str) -> tuple[list[float], list[np.ndarray]]:
    """Return the losses of the first steps, and the weights that they begin from."""
    config = deeper.configure(
        f"model={model}", "model.depth=20", "model.form=cifar", "model.width=8",
        "model.stem=stride2", "data=fashion_mnist", f"data.dir={data}", "augment=none",
        "optimizer=sgd", "schedule=cosine", "train.batch_size=128", "train.epochs=5",
        "train.log_every=1", "train.steps_per_call=1", f"seed={SEED}", f"runs={runs}",
        "train.evaluate_every=100", "train.checkpoint_every=100", "tracker.mode=disabled",
        "train.devices=1",
    )  # fmt: skip
    variables = initialise(build.build_model(config), SEED, build.example_of(config))
    stopped = {"calls": 0}

    def enough() -> bool:
        stopped["calls"] += 1
        return stopped["calls"] > STEPS

    arrays = in_torchs_order(jax.tree.map(np.array, variables["params"]), 20)
    run = deeper.train(config, progress=False, stop_asked=enough)
    rows = map(json.loads, (run.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    return losses[:STEPS], arrays


def theirs(model: str, given: list[str | Path], *more: str) -> list[float]:
    """Return the losses of twin.py from given weights."""
    asked = [os.environ["TWIN_PYTHON"], TWIN, *given, "--nets", f"{model}20", "--seeds", str(SEED)]
    asked += ["--steps", str(STEPS), "--no-flips", *more]
    told = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    return [float(value) for value in re.findall(r"loss (\S+)", told)]


def main() -> None:
    """Print and write the losses of all sides; fail where ours are not theirs."""
    fashion, data, order = sys.argv[1:4]
    np.save(order, order_of(Path(fashion), Path(data)))
    rows, failed = [], []
    for model in ("plain", "resnet"):
        with tempfile.TemporaryDirectory() as scratch:
            own, arrays = ours(model, data, scratch)
            start = Path(scratch) / "start.npz"
            np.savez(start, **{f"{i:03d}": array for i, array in enumerate(arrays)})
            given = [fashion, "--order", order, "--start", start]
            single, double = theirs(model, given), theirs(model, given, "--float64")
        print(f"{model}20: step, loss in PyTorch's float64, PyTorch's and our distance from it")
        for step, (a, b, c) in enumerate(zip(own, single, double, strict=True)):
            print(f"{step:3d}  {c:.8f}  {abs(b - c):.1e}  {abs(a - c):.1e}")
            rows.append((f"{model}20", step, f"{a:.8f}", f"{b:.8f}", f"{c:.8f}"))
        gaps = np.abs(np.subtract([own, single], double))
        if not gaps[:, :EQUAL].max() < 1e-4 or not gaps[0].sum() <= FACTOR * gaps[1].sum():
            failed.append(model)
    with (Path(__file__).parent / "twin_check.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("net", "step", "deeper float32", "torch float32", "torch float64"))
        writer.writerows(rows)
    if failed:
        sys.exit(f"Ours are not PyTorch's: {', '.join(failed)}")


if __name__ == "__main__":
    main()
