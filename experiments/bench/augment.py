"""Compares the speed of our RandAugment(2, 9) with torchvision's: interleaved rounds, median ratio.

Each side has one process per core, as a data loader and a sweep have. All processes exist at the
same time and work in turn, so that changes of the machine's speed affect both sides. Ours is also
timed as one process on all cores. The cost of the batched form for accelerators is taken from its
HLO.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib import cbook
from rich.console import Console
from rich.progress import track
from rich.table import Table

from deeper.record.environment import environment
from deeper.study.tables import insert_between_markers, markdown

HERE = Path(__file__).parent
SIZE, BATCH, BATCHES = 224, 128, 6
THEIRS = ("pil", "v2", "tensor")
OURS = ("ours", "ours, one process")
GOAL = 3.0


class Team:
    """Processes that time the same work at the same time, each on its own cores."""

    def __init__(self, command: list[str], cores: list[set[int]]):
        self._processes = []
        for own in cores:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                preexec_fn=partial(os.sched_setaffinity, 0, own),
            )
            self._processes.append(process)
        for process in self._processes:
            ready = process.stdout.readline().split()
            if not ready:
                sys.exit(f"{' '.join(command)} did not start: run it alone to see why.")
            self.version = ready[1]

    def images_per_second(self) -> float:
        """Return the images per second, summed over the processes."""
        for process in self._processes:
            process.stdin.write(f"{BATCHES}\n")
            process.stdin.flush()
        seconds = [float(process.stdout.readline()) for process in self._processes]
        return sum(BATCH * BATCHES / s for s in seconds)

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.stdin.close()
            process.wait(timeout=30)


def teams() -> dict[str, Team]:
    """Start the processes of all cases."""
    every = sorted(os.sched_getaffinity(0))
    one_each = [{core} for core in every]
    torch = os.environ["BENCH_TORCH_PYTHON"]
    theirs = [torch, str(HERE / "worker_augment_torch.py"), str(SIZE)]
    ours = [sys.executable, str(HERE / "worker_augment_deeper.py"), str(SIZE)]
    out = {form: Team([*theirs, form], one_each) for form in THEIRS}
    return out | {"ours": Team(ours, one_each), "ours, one process": Team(ours, [{*every}])}


def hlo_cost() -> dict[str, float]:
    """Return operations and bytes per image of RandAugment's batched form, from XLA's cost
    analysis.
    """
    import jax
    import jax.numpy as jnp

    from deeper.augment import pillow_ops as engine
    from deeper.augment.op_table import KINDS

    branches = engine._branches(3, 0, False)
    chosen = jnp.array([engine._branch_of(kind, 3, False) for kind in KINDS])

    def both(kinds, strengths, words):
        return engine._batched(branches, chosen[kinds], kinds, strengths, words)

    shapes = (
        jax.ShapeDtypeStruct((BATCH, 2), jnp.int32),
        jax.ShapeDtypeStruct((BATCH, 2), jnp.float32),
        jax.ShapeDtypeStruct((BATCH, SIZE, SIZE), jnp.uint32),
    )
    analysis: Any = jax.jit(both).lower(*shapes).compile().cost_analysis()
    return {
        "operations": analysis["flops"] / BATCH,
        "bytes": analysis["bytes accessed"] / BATCH,
    }


def main() -> None:
    """Measure and print; with --write, also update the JSON file and the README."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="record in experiments/bench")
    options = parser.parse_args()
    os.environ["BENCH_PHOTOGRAPH"] = str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    members = teams()
    found: dict[str, list[float]] = {name: [] for name in members}
    for team in members.values():
        team.images_per_second()
    for _ in track(range(options.rounds), "rounds", transient=True):
        for name, team in members.items():
            found[name].append(team.images_per_second())
            time.sleep(0.2)
    version = members["pil"].version
    for team in members.values():
        team.close()
    best = max(THEIRS, key=lambda form: statistics.median(found[form]))
    headings = ("RandAugment(2, 9), 224x224x3", "images/s", f"beside torchvision's best ({best})")
    rows = [
        (
            {"pil": "torchvision, Pillow", "v2": "torchvision v2, Pillow"}.get(
                name, "torchvision, tensors" if name == "tensor" else name
            ),
            f"{statistics.median(values):,.0f}",
            f"{statistics.median(a / b for a, b in zip(values, found[best], strict=True)):.2f}",
        )
        for name, values in found.items()
    ]
    table = Table(*headings, box=None)
    for row in rows:
        table.add_row(*row)
    Console(width=100).print(table)
    if not options.write:
        return
    facts, cost = environment(), hlo_cost()
    record = {
        "machine": {"cpu": facts["cpu"], "system": platform.platform()},
        "versions": {n: facts[n] for n in ("python", "jax", "jaxlib")} | {"torchvision": version},
        "commit": facts["git_commit"],
        "images_per_second": found,
        "hlo_an_image": cost,
    }
    (HERE / "augment.json").write_text(json.dumps(record, indent=1) + "\n")
    cores = len(os.sched_getaffinity(0))
    note = (
        f"Median of {options.rounds} interleaved rounds of {BATCHES} batches of {BATCH}; "
        f"{facts['cpu']}, {cores} cores; goal {GOAL:g}. One process a core, but for the last row; "
        f"JAX {facts['jax']}, torchvision {version}; commit {str(facts['git_commit'])[:12]}.\n\n"
        "The batched form, which accelerators run, costs "
        f"{cost['operations'] / 1e6:,.0f} million operations and "
        f"{cost['bytes'] / 1e6:,.1f} MB of memory traffic an image, by the cost analysis of its "
        "compiled HLO; ResNet-50's training step costs 24,500 million."
    )
    insert_between_markers(HERE / "README.md", "augment", f"{markdown(headings, rows)}\n\n{note}")


main()
