"""The nets of depth_fashion in plain PyTorch: is what they show the nets, or our code?

    python experiments/depth/twin.py FASHION --order order.npy --epochs 5 --seeds 4,5,6,7,8

FASHION is the directory of the four files of Fashion-MNIST (``*-ubyte.gz``). Needs PyTorch and
NumPy; nothing of `deeper` is imported. The recipe is conf/study/depth_fashion.yaml: 5,000 images
are held out, Nesterov SGD 0.9 with weight decay 1e-4 on all parameters, peak rate 0.1 for batches
of 128 after a linear rise over a tenth of the steps, then a cosine to zero; random flips. A seed
gives the same images in each batch as there, if ``--order`` says in which order they are prepared
(twin_check.py writes the file); flips and initial weights are PyTorch's own draws.
Finished (net, seed, epochs) of the table are not trained again.

``--start FILE --steps N --no-flips --float64`` begins from given weights and prints the first
losses, for twin_check.py.
"""

import argparse
import csv
import gzip
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

NETS = "plain8,plain20,plain44,resnet8,resnet20,resnet44"
BATCH, HELD_OUT, WIDTH = 128, 5000, 8
MEAN, STD = 0.286, 0.353
COLUMNS = ("label", "seed", "epochs", "test/error", "train/error", "parameters", "seconds", "torch")


class Block(nn.Module):
    """Two 3x3 convolutions, with or without a shortcut of option A."""

    def __init__(self, inputs: int, outputs: int, stride: int, residual: bool):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.more, self.residual = stride, outputs - inputs, residual

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return maps of ``outputs`` channels."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.residual:
            y = y + F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        return F.relu(y)


def net_of(label: str) -> nn.Sequential:
    """Return a net such as plain20 (He et al. 2015, section 4.2), with a stem of stride 2."""
    residual = label.startswith("resnet")
    depth = int(label.removeprefix("resnet" if residual else "plain"))
    stem = nn.Conv2d(1, WIDTH, 3, 2, 1, bias=False)
    layers: list[nn.Module] = [stem, nn.BatchNorm2d(WIDTH), nn.ReLU()]
    inputs = WIDTH
    for stage in range(3):
        for block in range((depth - 2) // 6):
            outputs = WIDTH * 2**stage
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(Block(inputs, outputs, stride, residual))
            inputs = outputs
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10)]
    net = nn.Sequential(*layers)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return net


def read(directory: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the images (n, 28, 28) and labels of the files of train or t10k."""
    with gzip.open(directory / f"{part}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(directory / f"{part}-labels-idx1-ubyte.gz") as file:
        return images, np.frombuffer(file.read(), np.uint8, offset=8).astype(np.int64)


def held_out(labels: np.ndarray) -> np.ndarray:
    """Return where the images are of the validation split: the same share of each class."""
    order = np.random.Generator(np.random.Philox(key=[0, len(labels)])).permutation(len(labels))
    rank = np.empty(len(labels))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        rank[members] = (np.arange(len(members)) + 0.5) / len(members)
    chosen = np.zeros(len(labels), bool)
    chosen[np.argsort(rank, kind="stable")[:HELD_OUT]] = True
    return chosen


def batches(n: int, seed: int, steps: int):
    """Yield the numbers of the images in each batch; passes follow each other without a gap."""
    left, epoch = np.empty(0, np.int64), 0
    for _ in range(steps):
        if len(left) < BATCH:
            new = np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(n)
            left, epoch = np.concatenate([left, new]), epoch + 1
        yield left[:BATCH]
        left = left[BATCH:]


def rate(step: int, steps: int, peak: float = 0.1) -> float:
    """Return the learning rate of a step."""
    rise = round(0.1 * steps)
    if step < rise:
        return peak * step / rise
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def prepared(images: np.ndarray) -> torch.Tensor:
    """Return normalised images (n, 1, 28, 28)."""
    normalised = torch.from_numpy(((images.astype(np.float32) / 255 - MEAN) / STD)[:, None])
    return normalised.to(torch.get_default_dtype())


def error(net: nn.Module, images: np.ndarray, labels: np.ndarray) -> float:
    """Return the error in per cent."""
    net.eval()
    with torch.no_grad():
        parts = [net(prepared(images[i : i + 500])).argmax(1) for i in range(0, len(images), 500)]
    net.train()
    return 100 * float((torch.cat(parts).numpy() != labels).mean())


def begin(net: nn.Module, file: Path) -> None:
    """Take the weights of a file: arrays in the order of the net's parameters."""
    with np.load(file) as arrays, torch.no_grad():
        for number, parameter in enumerate(net.parameters()):
            parameter.copy_(torch.from_numpy(arrays[f"{number:03d}"]))


def train(label: str, seed: int, options: argparse.Namespace, data: tuple) -> dict:
    """Train a net; return the row of the table."""
    images, labels, test_images, test_labels = data
    torch.manual_seed(seed)
    net, started = net_of(label), time.monotonic()
    if options.start:
        begin(net, options.start)
    sgd = torch.optim.SGD(net.parameters(), 0.1, 0.9, weight_decay=1e-4, nesterov=True)
    steps = math.ceil(options.epochs * len(images) / BATCH - 1e-9)
    for step, numbers in enumerate(batches(len(images), seed, options.steps or steps)):
        for group in sgd.param_groups:
            group["lr"] = rate(step, steps)
        inputs = prepared(images[numbers])
        if options.flips:
            flipped = (torch.rand(len(inputs)) < 0.5)[:, None, None, None]
            inputs = torch.where(flipped, inputs.flip(3), inputs)
        loss = F.cross_entropy(net(inputs), torch.from_numpy(labels[numbers]))
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        if options.steps or step % 50 == 0:
            print(f"{label} seed {seed} step {step} loss {loss.item():.8f}", flush=True)
    return {
        "label": label,
        "seed": seed,
        "epochs": options.epochs,
        "test/error": round(error(net, test_images, test_labels), 4),
        "train/error": round(error(net, images[:10_000], labels[:10_000]), 4),
        "parameters": sum(p.numel() for p in net.parameters()),
        "seconds": round(time.monotonic() - started, 1),
        "torch": torch.__version__,
    }


def main() -> None:
    """Train the nets that the table lacks, a row at a time."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("fashion", type=Path)
    parser.add_argument("--nets", default=NETS)
    parser.add_argument("--seeds", default="4,5,6,7,8")
    parser.add_argument("--epochs", type=float, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "twin.csv")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--order", type=Path, help="numbers of the training images, in our order")
    parser.add_argument("--start", type=Path)
    parser.add_argument("--steps", type=int, help="stop after so many steps, and write no table")
    parser.add_argument("--no-flips", dest="flips", action="store_false")
    parser.add_argument("--float64", action="store_true")
    options = parser.parse_args()
    if options.float64:
        torch.set_default_dtype(torch.float64)
    torch.set_num_threads(options.threads)
    images, labels = read(options.fashion, "train")
    if options.order:
        order = np.load(options.order)
        images, labels = images[order], labels[order]
    kept = ~held_out(labels)
    data = (images[kept], labels[kept], *read(options.fashion, "t10k"))
    rows: list[dict] = []
    if options.out.exists() and not options.steps:
        with options.out.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    done = {(row["label"], int(row["seed"]), float(row["epochs"])) for row in rows}
    for seed in map(int, options.seeds.split(",")):
        for label in options.nets.split(","):
            if (label, seed, options.epochs) in done:
                continue
            row = train(label, seed, options, data)
            if options.steps:
                continue
            rows.append(row)
            with options.out.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, COLUMNS)
                writer.writeheader()
                writer.writerows(rows)


if __name__ == "__main__":
    main()
