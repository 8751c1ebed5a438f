"""Our training step beside PyTorch eager's: interleaved rounds, median of the rounds' ratios.

All processes of a net live at once and work in turn, so that the machine's moods hit them alike.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from deeper.study.tables import insert_between_markers, markdown
from deeper.track.environment import environment

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """A net with its batch, and the least ratio that we mean to keep."""

    name: str
    batch: int
    size: int
    channels: int
    steps: int
    goal: float


# Steps enough that the memory a call asks the system for, once, does not tell: in training a call
# makes tens of steps.
CASES = (
    Case("resnet18", 16, 224, 3, 8, 0.95),
    Case("resnet50", 8, 224, 3, 6, 0.95),
    Case("vgg16", 64, 32, 3, 8, 0.95),
    Case("resnet20", 128, 32, 3, 16, 0.80),
    Case("lenet5", 128, 28, 1, 200, 0.70),
)
OURS = ("kernels", "plain")
THEIRS = ("channels_last", "contiguous")


class Worker:
    """A process that times steps."""

    def __init__(self, interpreter: str, script: str, case: Case, form: str, threads: int):
        self.steps = case.steps
        self._process = subprocess.Popen(
            [interpreter, str(HERE / script)]
            + [str(v) for v in (case.name, case.batch, case.size, case.channels, form, threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        ready = self._process.stdout.readline().split()
        if not ready:
            sys.exit(f"{script} {case.name} {form} did not start: run it alone to see why.")
        self.version = ready[1]

    def seconds(self) -> float:
        """Time the case's number of steps."""
        self._process.stdin.write(f"{self.steps}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """Let the process end."""
        self._process.stdin.close()
        self._process.wait(timeout=30)


def measure(case: Case, rounds: int, threads: int) -> dict:
    """Return images a second of each form, and ratios to PyTorch's better layout."""
    torch = os.environ["BENCH_TORCH_PYTHON"]
    workers = {f: Worker(torch, "worker_torch.py", case, f, threads) for f in THEIRS}
    workers |= {f: Worker(sys.executable, "worker_deeper.py", case, f, threads) for f in OURS}
    seconds: dict[str, list[float]] = {form: [] for form in workers}
    for worker in workers.values():
        worker.seconds()
    for _ in track(range(rounds), case.name, transient=True):
        for form, worker in workers.items():
            seconds[form].append(worker.seconds())
    for worker in workers.values():
        worker.close()
    best = min(THEIRS, key=lambda form: statistics.median(seconds[form]))
    images = case.batch * case.steps
    return {
        "net": case.name,
        "batch": case.batch,
        "size": case.size,
        "goal": case.goal,
        "torch_layout": best,
        "torch": workers[best].version,
        "images_per_second": {
            form: images / statistics.median(values) for form, values in seconds.items()
        },
        "ratio": {
            form: statistics.median(
                theirs / ours for theirs, ours in zip(seconds[best], seconds[form], strict=True)
            )
            for form in OURS
        },
        "seconds": seconds,
    }


def main() -> None:
    """Measure and tell; with --write, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--nets", default=",".join(case.name for case in CASES))
    parser.add_argument("--write", action="store_true", help="record in experiments/bench")
    options = parser.parse_args()
    threads = len(os.sched_getaffinity(0))
    chosen = [case for case in CASES if case.name in options.nets.split(",")]
    results = [measure(case, options.rounds, threads) for case in chosen]
    headings = ("net", "batch", "px", "PyTorch img/s", "ours img/s", "ratio", "goal", "without")
    rows = [
        (
            r["net"],
            str(r["batch"]),
            str(r["size"]),
            f"{r['images_per_second'][r['torch_layout']]:,.1f} ({r['torch_layout']})",
            f"{r['images_per_second']['kernels']:,.1f}",
            f"{r['ratio']['kernels']:.2f}",
            f"{r['goal']:.2f}",
            f"{r['ratio']['plain']:.2f}",
        )
        for r in results
    ]
    table = Table(*headings, box=None)
    for row in rows:
        table.add_row(*row)
    Console(width=100).print(table)
    if options.write:
        facts = environment()
        record = {
            "machine": {"cpu": facts["cpu"], "cores": threads, "system": platform.platform()},
            "versions": {n: facts[n] for n in ("python", "jax", "jaxlib", "flax")},
            "commit": facts["git_commit"],
            "results": results,
        }
        (HERE / "step.json").write_text(json.dumps(record, indent=1) + "\n")
        note = (
            f"Median of {options.rounds} interleaved rounds; {facts['cpu']}, {threads} cores; "
            f"JAX {facts['jax']}, PyTorch {results[0]['torch']}; commit "
            f"{str(facts['git_commit'])[:12]}. *Without* is the ratio "
            "with `cpu_kernels: false`, outside of the compiled loop."
        )
        insert_between_markers(HERE / "README.md", "step", f"{markdown(headings, rows)}\n\n{note}")


main()
