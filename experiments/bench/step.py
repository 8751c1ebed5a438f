"""Compares our training step with PyTorch's: interleaved rounds, median of the ratios.

All processes of a net exist at the same time and work in turn, so that changes of the machine's
speed affect both sides. On a CPU PyTorch runs eagerly in two memory layouts, and compiled by
inductor in two modes; on a GPU in channels_last, eagerly and compiled with CUDA graphs, with
convolutions tuned by cuDNN. With bfloat16 PyTorch uses autocast. On a CPU ours runs with and
without XLA's calls of oneDNN (``onednn``), and with the plain formulations (``plain``). On
``cpu_thin``, nets of the depth study on garments, each process has one core, as an arm of that
study has.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import jax
from rich.console import Console
from rich.progress import track
from rich.table import Table

from deeper.record.environment import environment
from deeper.study.tables import insert_between_markers, markdown

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """A net with its batch size, and the lowest acceptable ratio, if any."""

    name: str
    batch: int
    size: int
    channels: int
    steps: int
    goal: float | None
    dtype: str = "float32"


# Enough steps to make the memory allocation of a call negligible; in training a call makes tens of
# steps.
CPU_CASES = (
    Case("resnet18", 16, 224, 3, 8, 0.95),
    Case("resnet50", 8, 224, 3, 6, 0.95),
    Case("vgg16", 64, 32, 3, 8, 0.95),
    Case("resnet20", 128, 32, 3, 16, 0.80),
    Case("lenet5", 128, 28, 1, 200, 0.70),
)
THIN_CASES = (
    Case("resnet20_thin", 128, 28, 1, 40, 1.0),
    Case("resnet44_thin", 128, 28, 1, 20, 1.0),
)
# Lengths, and how many tokens there are or one channel of samples.
SEQUENCE_CASES = (
    Case("vdcnn29", 32, 128, 70, 4, 1.0),
    Case("m11", 16, 8000, 1, 4, 1.0),
    Case("textcnn", 50, 56, 20000, 8, 1.0),
    Case("resnet20_log_mel", 32, 8000, 1, 4, 0.80),
)
GPU_CASES = (
    Case("resnet50", 256, 224, 3, 20, None, "bfloat16"),
    Case("resnet20", 128, 32, 3, 400, None),
    Case("lenet5", 128, 28, 1, 2000, None),
    Case("resnet18", 256, 224, 3, 40, None, "bfloat16"),
)


@dataclass(frozen=True)
class Platform:
    """The compared implementations on a kind of device; the first of ours gives the ratio."""

    cases: tuple[Case, ...]
    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    one_core: bool = False


CPU_PEERS = ("channels_last", "contiguous", "inductor", "inductor max-autotune")
PLATFORMS = {
    "cpu": Platform(CPU_CASES, ("kernels", "onednn", "plain"), CPU_PEERS),
    "cpu_thin": Platform(THIN_CASES, ("kernels", "onednn"), CPU_PEERS, one_core=True),
    "cpu_sequences": Platform(SEQUENCE_CASES, ("kernels", "features"), ("contiguous",)),
    "gpu": Platform(GPU_CASES, ("kernels",), ("eager", "compiled")),
}


class Worker:
    """A process that times steps."""

    def __init__(self, interpreter: str, script: str, case: Case, form: str, threads: int):
        self.steps = case.steps
        self._name = f"{script} {case.name} {form}"
        shape = (case.name, case.batch, case.size, case.channels, case.dtype)
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 # closed in close
        self._process = subprocess.Popen(
            [interpreter, str(HERE / script), *map(str, (*shape, form, threads))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            # Several processes share a GPU's memory.
            env=os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
        )

    def wait_until_ready(self) -> None:
        """Wait until it has compiled; exit with its last output if it has ended."""
        ready = self._process.stdout.readline().split()
        if not ready:
            self._errors.seek(0)
            sys.exit(f"{self._name} did not start:\n{self._errors.read()[-2000:]}")
        self.version = ready[1]

    def seconds(self) -> float:
        """Return the seconds of the case's number of steps."""
        self._process.stdin.write(f"{self.steps}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._errors.close()


def measure(case: Case, platform: Platform, rounds: int, threads: int) -> dict:
    """Return images per second of each implementation, and ratios to PyTorch's best.

    Args:
        case: the net with its batch size and number of steps.
        platform: the compared implementations.
        rounds: number of interleaved measurements of each implementation.
        threads: number of threads of each process.
    """
    torch, own, theirs = os.environ["BENCH_TORCH_PYTHON"], platform.ours, platform.theirs
    workers = {f: Worker(torch, "worker_torch.py", case, f, threads) for f in theirs}
    workers |= {f: Worker(sys.executable, "worker_deeper.py", case, f, threads) for f in own}
    seconds: dict[str, list[float]] = {form: [] for form in workers}
    for worker in workers.values():
        worker.wait_until_ready()
    for worker in workers.values():
        worker.seconds()
    for _ in track(range(rounds), case.name, transient=True):
        for form, worker in workers.items():
            seconds[form].append(worker.seconds())
    for worker in workers.values():
        worker.close()
    best = min(theirs, key=lambda form: statistics.median(seconds[form]))
    images = case.batch * case.steps
    return {
        "net": case.name,
        "batch": case.batch,
        "size": case.size,
        "dtype": case.dtype,
        "goal": case.goal,
        "torch_form": best,
        "torch": workers[best].version,
        "images_per_second": {
            form: images / statistics.median(values) for form, values in seconds.items()
        },
        "ratio": {
            form: statistics.median(
                their / our for their, our in zip(seconds[best], seconds[form], strict=True)
            )
            for form in own
        },
        "seconds": seconds,
    }


def main() -> None:
    """Measure and print; with --write, also update the JSON file and the README."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--platform", choices=PLATFORMS, default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--nets", help="comma-separated nets, such as resnet18,lenet5")
    parser.add_argument("--write", action="store_true", help="record in experiments/bench")
    options = parser.parse_args()
    chosen = PLATFORMS[options.platform]
    if chosen.one_core:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    threads = len(os.sched_getaffinity(0))
    wanted = options.nets.split(",") if options.nets else [case.name for case in chosen.cases]
    cases = [case for case in chosen.cases if case.name in wanted]
    results = [measure(case, chosen, options.rounds, threads) for case in cases]
    headings, rows = TABLES[options.platform](results)
    table = Table(*headings, box=None)
    for row in rows:
        table.add_row(*row)
    Console(width=100).print(table)
    if options.write:
        write(options.platform, options.rounds, threads, results, markdown(headings, rows))


def cpu_table(results: list[dict]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return headings and rows of the comparison on a CPU, on all cores or on one."""
    others = {"onednn": "oneDNN", "plain": "without"}
    shown = {form: name for form, name in others.items() if form in results[0]["ratio"]}
    headings = ("net", "batch", "px", "PyTorch img/s", "ours img/s", "ratio", "goal")
    return (*headings, *shown.values()), [
        (
            r["net"],
            str(r["batch"]),
            str(r["size"]),
            f"{r['images_per_second'][r['torch_form']]:,.1f} ({r['torch_form']})",
            f"{r['images_per_second']['kernels']:,.1f}",
            f"{r['ratio']['kernels']:.2f}",
            f"{r['goal']:.2f}",
            *(f"{r['ratio'][form]:.2f}" for form in shown),
        )
        for r in results
    ]


def gpu_table(results: list[dict]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return headings and rows of the comparison on a GPU."""
    forms = PLATFORMS["gpu"].theirs
    headings = ("net", "batch", "px", "dtype", *forms, "ours img/s", "ratio to the best")
    return headings, [
        (
            r["net"],
            str(r["batch"]),
            str(r["size"]),
            r["dtype"],
            *(f"{r['images_per_second'][form]:,.0f}" for form in forms),
            f"{r['images_per_second']['kernels']:,.0f}",
            f"{r['ratio']['kernels']:.2f}",
        )
        for r in results
    ]


def sequences_table(results: list[dict]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return headings and rows of the comparison of nets of sequences."""
    headings = ("net", "batch", "length", "ratio", "goal", "before the net")
    return headings, [
        (
            r["net"],
            str(r["batch"]),
            f"{r['size']:,}",
            f"{r['ratio']['kernels']:.2f}",
            f"{r['goal']:.2f}",
            f"{100.0 * r['ratio']['kernels'] / r['ratio']['features']:.1f} %",
        )
        for r in results
    ]


TABLES = {
    "cpu": cpu_table,
    "cpu_thin": cpu_table,
    "cpu_sequences": sequences_table,
    "gpu": gpu_table,
}
FILES = {
    "cpu": "step",
    "cpu_thin": "step_thin",
    "cpu_sequences": "step_sequences",
    "gpu": "step_gpu",
}


def write(name: str, rounds: int, threads: int, results: list[dict], table: str) -> None:
    """Write the results to the JSON file, and the table to the README."""
    facts = environment()
    machine = {"cpu": facts["cpu"], "cores": threads, "system": platform.platform()}
    if name == "gpu":
        machine["gpu"] = jax.devices()[0].device_kind
    record = {
        "machine": machine,
        "versions": {n: facts[n] for n in ("python", "jax", "jaxlib", "flax")},
        "commit": facts["git_commit"],
        "results": results,
    }
    file = FILES[name]
    (HERE / f"{file}.json").write_text(json.dumps(record, indent=1) + "\n")
    note = (
        f"Median of {rounds} interleaved rounds; {machine.get('gpu', machine['cpu'])}, {threads} "
        f"core{'s' if threads > 1 else ''}; JAX {facts['jax']}, PyTorch {results[0]['torch']}; "
        f"commit {str(facts['git_commit'])[:12]}."
    )
    if name == "cpu":
        note += " *Without* is the ratio with `cpu_kernels: false`, outside of the compiled loop."
    if name == "cpu_sequences":
        note += f" Load of the machine at the end: {os.getloadavg()[0]:.0f} processes."
    insert_between_markers(HERE / "README.md", file, f"{table}\n\n{note}")


main()
