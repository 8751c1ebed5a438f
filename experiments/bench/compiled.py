"""Compiles the training step of every net for devices that are not there; see `deeper doctor`.

    JAX_PLATFORMS=cpu python experiments/bench/compiled.py h200 h200x4 v5e --nets lenet5 resnet50
    python experiments/bench/compiled.py --table       # the table in README.md from what is there

Needs the extras cuda and tpu. Each step is compiled in a process of its own, one after the other,
and recorded in compiled.json at once; one that is there at this JAX is left as it is. The detector
needs `deeper prepare data=scenes`.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from deeper.config.compose import configure
from deeper.record.environment import environment
from deeper.run.compile_for import KINDS, compile_for
from deeper.run.cost import cost_of
from deeper.study.tables import insert_between_markers, markdown

RECORD = Path(__file__).with_suffix(".json")
# Name -> kind of device, and how many share the batch, which grows with them.
TARGETS = {"h200": ("h200", 1), "h200x4": ("h200", 4), "v5e": ("v5e", 4)}
IMAGENET = ("data=imagenet", "train.dtype=bfloat16")
# The size of COCO's photographs in the papers; the examples themselves are not looked at.
BOXES = (
    "data=scenes", "data.canvas=[800,1344]", "data.most_boxes=100", "data.limit=64",
    "model.frozen_stages=1", "train.dtype=bfloat16",
)  # fmt: skip
# Net -> examples a device, and the rest of its config.
NETS: dict[str, tuple[int, tuple[str, ...]]] = {
    "lenet5": (128, ("model=lenet5", "data=fashion_mnist")),
    "resnet20": (128, ("model=resnet", "model.depth=20", "data=cifar10")),
    "alexnet": (256, ("model=alexnet", *IMAGENET)),
    "zfnet": (256, ("model=zfnet", *IMAGENET)),
    "vgg16": (128, ("model=vgg", "model.depth=16", *IMAGENET)),
    "googlenet": (256, ("model=googlenet", *IMAGENET)),
    "resnet18": (256, ("model=resnet", "model.depth=18", *IMAGENET)),
    "resnet34": (256, ("model=resnet", "model.depth=34", *IMAGENET)),
    "plain34": (256, ("model=plain", "model.depth=34", *IMAGENET)),
    "resnet50": (256, ("model=resnet", "model.depth=50", *IMAGENET)),
    "resnet101": (256, ("model=resnet", "model.depth=101", *IMAGENET)),
    "resnet152": (256, ("model=resnet", "model.depth=152", *IMAGENET)),
    "mobilenet_v2": (256, ("model=mobilenet_v2", *IMAGENET)),
    "densenet121": (128, ("model=densenet", "model.depth=121", *IMAGENET)),
    "convnext_tiny": (128, ("model=convnext", *IMAGENET)),
    "regnet_x_400mf": (256, ("model=regnet", *IMAGENET)),
    "inception_v3": (128, ("model=inception_v3", *IMAGENET, "data.image_shape=[299,299,3]")),
    "faster_rcnn_resnet50": (2, ("model=faster_rcnn", "model.backbone.depth=50", *BOXES)),
}


def overrides_of(net: str, target: str) -> list[str]:
    """Return what makes the config of a net for a target."""
    rows, words = NETS[net]
    devices = TARGETS[target][1]
    return [
        *words,
        "augment=none",
        f"train.batch_size={rows * devices}",
        f"train.devices={devices}",
    ]


def one(net: str, target: str) -> dict[str, Any]:
    """Compile one step and return its figures."""
    config = configure(*overrides_of(net, target))
    begun = time.monotonic()
    found = compile_for(config, TARGETS[target][0])
    seconds = time.monotonic() - begun
    program = found.program
    return {
        "overrides": overrides_of(net, target),
        "jax": environment()["jax"],
        "kernels": program.kernels,
        "convolutions": len(program.convolutions),
        "traffic": program.traffic,
        "largest_sort": max(program.sorts, default=0),
        "largest_selection": max(program.selections, default=0),
        "host_calls": program.host_calls,
        "loops": [(one.kernels, one.traffic) for one in program.loops],
        "exchanges": program.collectives,
        "beside_exchanges": program.beside_collectives,
        "memory": found.memory,
        "data": found.data,
        "predicted": cost_of(config, {}, devices=found.devices).memory,
        "fits": found.fits,
        "flops": found.flops,
        "least_seconds": found.seconds,
        "compile_seconds": round(seconds, 1),
    }


def main() -> None:
    """Compile what is asked for and is not there yet, and bring the table up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", help="h200, h200x4, v5e")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--limit", type=int, default=3600, help="seconds for one step")
    parser.add_argument("--one", nargs=2, metavar=("NET", "TARGET"), help=argparse.SUPPRESS)
    parser.add_argument("--table", action="store_true", help="write the table")
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(one(*asked.one)))
        return
    for target in asked.targets:
        for net in asked.nets:
            record(net, target, asked.limit)
    if asked.table:
        insert_between_markers(RECORD.with_name("README.md"), "compiled", table(recorded()))


def record(net: str, target: str, limit: int) -> None:
    """Compile one step in a process of its own and keep its figures."""
    key = f"{net} {target}"
    if recorded().get(key, {}).get("jax") == environment()["jax"]:
        return
    command = [sys.executable, __file__, "--one", net, target]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        print(f"{key}: not compiled after {limit} s", file=sys.stderr)
        return
    if done.returncode:
        sys.exit(f"{key}:\n{done.stderr[-2000:]}")
    figures = json.loads(done.stdout.splitlines()[-1])
    kept = recorded() | {key: figures}  # read again: another process may have written
    RECORD.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n", encoding="utf-8")
    print(key, figures["kernels"], f"{figures['traffic'] / 1e9:.2f} GB", file=sys.stderr)


def recorded() -> dict[str, dict[str, Any]]:
    """Return what was recorded: net and target -> figures."""
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}


def table(found: dict[str, dict[str, Any]]) -> str:
    """Return the table of all nets and targets, and a list of those not compiled yet."""
    headings = (
        "net", "on", "batch", "kernels", "GB moved", "exchanges, beside", "GB of memory",
        "predicted", "minimum ms", "at most img/s",
    )  # fmt: skip
    rows, missing = [], []
    for target, (kind, devices) in TARGETS.items():
        for net, (batch, _) in NETS.items():
            name = f"{devices} x {KINDS[kind].title}"
            one = found.get(f"{net} {target}")
            if one is None:
                missing.append(f"{net} on {name}")
                continue
            rows.append(
                (
                    net,
                    name,
                    f"{batch * devices:,}",
                    f"{one['kernels']:,}",
                    f"{one['traffic'] / 1e9:.2f}",
                    _exchanges(one),
                    f"{(one['memory'] - one['data']) / 1e9:.2f}",
                    f"{one['predicted'] / 1e9:.2f}",
                    f"{1e3 * one['least_seconds']:.2f}",
                    f"{batch * devices / one['least_seconds']:,.0f}",
                )
            )
    versions = sorted({one["jax"] for one in found.values()})
    note = (
        "Kernels, traffic, memory (without the examples) and time of one device; exchanges with "
        "the others, and how many kernels are started while one is under way; JAX "
        f"{', '.join(versions)}. Not compiled on this version: {', '.join(missing) or 'none'}."
    )
    return f"{markdown(headings, rows)}\n\n{note}"


def _exchanges(one: dict[str, Any]) -> str:
    beside = one.get("beside_exchanges", 0)
    return f"{len(one['exchanges'])}, {beside}" if one["exchanges"] else "0"


if __name__ == "__main__":
    main()
