"""Faster R-CNN beside torchvision's: training step at 320 pixels, suppression, RoIAlign.

    python experiments/bench/detection.py --torch PYTHON [--rounds 7] [--write]

Both processes exist at the same time and work in turn, so that changes of the machine's speed
affect both; the ratio is torchvision's time over ours, the median over rounds. PYTHON has torch and
torchvision. Two images a step, ResNet-50 with frozen BatchNorm, 90 classes, ten objects an image.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).with_name("detection.json")
SIDE, IMAGES, OBJECTS, CLASSES, REGIONS, CHANNELS = 320, 2, 10, 90, 512, 256
COUNTS = {"step": 2, "suppression": 20, "align": 5, "align and gradient": 3}  # a round
NAMES = {
    "step": "training step, 2 images of 320 pixels",
    "suppression": "suppression of 2,000 boxes",
    "align": "RoIAlign of 1,024 regions, 256 channels",
    "align and gradient": "RoIAlign and its gradient",
}


def drawn() -> dict[str, np.ndarray]:
    """Return the inputs of both sides."""
    rng = np.random.default_rng(0)

    def boxes(*shape: int) -> np.ndarray:
        corner = rng.uniform(0, SIDE - 40, (*shape, 2))
        sides = np.exp(rng.uniform(np.log(10), np.log(200), (*shape, 2)))
        found = np.concatenate([corner, np.minimum(corner + sides, SIDE)], axis=-1)
        return found.astype(np.float32)

    shapes = [(SIDE // s, SIDE // s) for s in (4, 8, 16, 32)]
    return {
        "images": rng.normal(size=(IMAGES, SIDE, SIDE, 3)).astype(np.float32),
        "boxes": boxes(IMAGES, OBJECTS),
        "labels": rng.integers(0, CLASSES, (IMAGES, OBJECTS)),
        "candidates": boxes(2000),
        "regions": boxes(IMAGES, REGIONS),
    } | {
        f"map_{i}": rng.normal(size=(IMAGES, *shape, CHANNELS)).astype(np.float32)
        for i, shape in enumerate(shapes)
    }


def ours(given: dict[str, np.ndarray]) -> dict:
    """Return what is timed of ours, by name."""
    from deeper.xla_flags import set_flags

    set_flags()
    import jax
    import jax.numpy as jnp
    import optax

    from deeper.models.detection import regions, suppression
    from deeper.models.detection.faster_rcnn import Scenes, faster_rcnn
    from deeper.models.initializers import initialise
    from deeper.models.resnet import resnet
    from deeper.tasks.detection import Detection
    from deeper.train.phases import Phase

    net = faster_rcnn(resnet(50, 1), CLASSES)
    variables = initialise(net, 0, (64, 64, 3))
    task = Detection(CLASSES, (), lambda images: images, False)
    optimizer = optax.sgd(1e-4, momentum=0.9)
    phase = Phase(0, 1, optimizer, lambda step: 0.0, fixed=net.fixed)
    apply = phase.apply_of(net)
    scenes = Scenes(
        jnp.asarray(given["images"]), None, jnp.asarray(given["boxes"]),
        jnp.asarray(given["labels"], jnp.int32), jax.random.split(jax.random.key(0), IMAGES),
    )  # fmt: skip

    @jax.jit
    def step(params, memory):
        def loss_of(params):
            rest = {"batch_stats": variables["batch_stats"]}
            outputs, _ = apply({"params": params, **rest}, scenes, train=True,
                               mutable=["batch_stats"])  # fmt: skip
            return task.loss(outputs, None, jnp.zeros(()))[0]

        updates, memory = optimizer.update(jax.grad(loss_of)(params), memory, params)
        return phase.keeping(optax.apply_updates(params, updates), params), memory

    state = [variables["params"], optimizer.init(variables["params"])]

    def one_step() -> None:
        state[:] = jax.block_until_ready(step(*state))

    candidates, kept = jnp.asarray(given["candidates"]), jnp.ones(2000, bool)
    suppress = jax.jit(lambda b, m: suppression.keep_sorted(b, m, 0.7))
    maps = [jnp.asarray(given[f"map_{i}"]) for i in range(4)]
    some, sizes = jnp.asarray(given["regions"]), jnp.full((IMAGES, 2), SIDE)

    def align(maps):
        return regions.align(maps, some, sizes, (4, 8, 16, 32), 7)

    forward, backward = jax.jit(align), jax.jit(jax.grad(lambda maps: (align(maps) ** 2).sum()))
    return {
        "step": one_step,
        "suppression": lambda: jax.block_until_ready(suppress(candidates, kept)),
        "align": lambda: jax.block_until_ready(forward(maps)),
        "align and gradient": lambda: jax.block_until_ready(backward(maps)),
    }


def theirs(given: dict[str, np.ndarray]) -> dict:
    """Return what is timed of torchvision, by name."""
    from collections import OrderedDict

    import torch
    from torchvision.models import resnet50
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
    from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign, nms

    torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(0)
    body = resnet50(weights=None, norm_layer=FrozenBatchNorm2d)
    net = FasterRCNN(_resnet_fpn_extractor(body, 5), CLASSES + 1, min_size=SIDE, max_size=SIDE,
                     image_mean=[0, 0, 0], image_std=[1, 1, 1])  # fmt: skip
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), 1e-4, momentum=0.9)
    images = [torch.tensor(image).permute(2, 0, 1) for image in given["images"]]
    targets = [
        {"boxes": torch.tensor(b), "labels": torch.tensor(n) + 1}
        for b, n in zip(given["boxes"], given["labels"])
    ]

    def one_step() -> None:
        optimizer.zero_grad()
        sum(net(images, targets).values()).backward()
        optimizer.step()

    candidates = torch.tensor(given["candidates"])
    scores = torch.linspace(1, 0, len(candidates))
    maps = OrderedDict(
        (str(i), torch.tensor(given[f"map_{i}"]).permute(0, 3, 1, 2).contiguous()) for i in range(4)
    )
    some = [torch.tensor(one) for one in given["regions"]]
    pool = MultiScaleRoIAlign(list(maps), 7, 2)

    def align() -> torch.Tensor:
        return pool(maps, some, [(SIDE, SIDE)] * IMAGES)

    def with_gradient() -> None:
        for one in maps.values():
            one.requires_grad_(True).grad = None
        (align() ** 2).sum().backward()
        for one in maps.values():
            one.requires_grad_(False)

    return {
        "step": one_step,
        "suppression": lambda: nms(candidates, scores, 0.7),
        "align": align,
        "align and gradient": with_gradient,
    }


def work(side: str) -> None:
    """Read names, do each as often as `COUNTS` says, and answer the seconds of one."""
    timed = {"ours": ours, "theirs": theirs}[side](drawn())
    for line in sys.stdin:
        name = line.strip()
        begin = time.perf_counter()
        for _ in range(COUNTS[name]):
            timed[name]()
        print((time.perf_counter() - begin) / COUNTS[name], flush=True)


def main() -> None:
    """Compare, print, and write the results if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch", help="a Python that has torch and torchvision")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    parser.add_argument("--side", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        work(asked.side)
        return
    if not asked.torch:
        sys.exit("Say --torch PYTHON: a Python that has torch and torchvision.")
    workers = {
        side: subprocess.Popen(
            [python, __file__, "--side", side],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for side, python in (("ours", sys.executable), ("theirs", asked.torch))
    }  # fmt: skip

    def seconds(side: str, name: str) -> float:
        worker = workers[side]
        assert worker.stdin and worker.stdout
        worker.stdin.write(f"{name}\n")
        worker.stdin.flush()
        return float(worker.stdout.readline())

    results = {}
    for name in COUNTS:
        for side in workers:  # compiles and warms up
            seconds(side, name)
        rounds = [(seconds("ours", name), seconds("theirs", name)) for _ in range(asked.rounds)]
        results[name] = {
            "ours_ms": 1e3 * statistics.median(own for own, _ in rounds),
            "torchvision_ms": 1e3 * statistics.median(other for _, other in rounds),
            "ratio": statistics.median(other / own for own, other in rounds),
        }
        print(name, results[name], flush=True)
    for worker in workers.values():
        assert worker.stdin
        worker.stdin.close()
        worker.wait()
    if asked.write:
        write(asked.torch, asked.rounds, results)


def write(python: str, rounds: int, results: dict) -> None:
    """Write the results, and the table of the README."""
    from deeper.record.environment import environment
    from deeper.study.tables import insert_between_markers, markdown

    text = "import torch, torchvision; print(torch.__version__, torchvision.__version__)"
    told = subprocess.run([python, "-c", text], capture_output=True, text=True, check=True)
    torch, torchvision = told.stdout.split()
    facts = environment()
    record = {key: facts[key] for key in ("cpu", "cpu_count", "jax", "git_commit")}
    record |= {"torch": torch, "torchvision": torchvision, "rounds": rounds, "results": results}
    RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    rows = [
        (NAMES[name], f"{r['torchvision_ms']:,.1f}", f"{r['ours_ms']:,.1f}", f"{r['ratio']:.2f}")
        for name, r in results.items()
    ]
    made = (
        f"Median of {rounds} interleaved rounds; {facts['cpu']}, {facts['cpu_count']} cores; JAX "
        f"{facts['jax']}, PyTorch {torch}, torchvision {torchvision}; commit "
        f"{str(facts['git_commit'])[:12]}."
    )
    headings = ("what", "torchvision ms", "ours ms", "ratio")
    text = f"{markdown(headings, rows)}\n\n{made}"
    insert_between_markers(RESULTS.with_name("README.md"), "detection", text)


if __name__ == "__main__":
    main()
