"""Compares our photograph pipeline with others: interleaved rounds, median of the ratios.

All read the same photographs from a warm page cache and yield shuffled uint8 batches of 128 random
crops of 8 to 100 % of the area at 224 pixels, half of them mirrored. All pipelines exist at the
same time and work in turn; the others are stopped (SIGSTOP), so that batches that one computes
ahead cost the others no time. A turn is half an epoch, after two batches that are not timed.
"""

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from deeper.data.array_records import split_lengths
from deeper.record.environment import environment
from deeper.study.tables import insert_between_markers, markdown

HERE = Path(__file__).parent
BATCH = 128
BATCHES = 14  # per turn
STARTS = 2  # the faster one gives the time to the first batch
TF, TORCHVISION = "tf.data, decode_and_crop_jpeg", "torchvision v2, its decoder"


@dataclass(frozen=True)
class Case:
    """A pipeline of the comparison.

    Attributes:
        name: name in the table.
        script: script that runs it: ours in our interpreter, others in theirs.
        layout: layout of the files, untouched or restart.
        antialias: whether resizing is antialiased, or by what; None if nothing is resized.
        arguments: arguments of the script after the directory of the files.
        goal: lowest acceptable ratio to tf.data on untouched files.
    """

    name: str
    script: str
    layout: str
    antialias: bool | str | None
    arguments: tuple[str, ...] = ()
    goal: float | None = None

    def command(self, data: Path) -> list[str]:
        """Return the command that starts the pipeline."""
        place = data / self.layout
        if self.script in ("tf", "torch", "dali"):
            place /= "peers"
        if self.script in ("torch", "dali"):
            place /= "tree"
        python = sys.executable if self.script == "deeper" else os.environ["BENCH_DATA_PYTHON"]
        script = HERE / f"worker_data_{self.script}.py"
        return [python, str(script), str(place), *self.arguments]


CASES = (
    Case("ours, processes", "deeper", "restart", False, ("processes", "0"), 1.35),
    Case("ours, threads", "deeper", "restart", False, ("threads", "0"), 1.25),
    Case("ours, processes", "deeper", "untouched", False, ("processes", "0")),
    Case("ours, threads", "deeper", "untouched", False, ("threads", "0"), 1.05),
    Case("ours, threads", "deeper", "restart", True, ("threads", "1")),
    Case("ours, threads", "deeper", "untouched", True, ("threads", "1")),
    Case("ours, processes", "deeper", "untouched", "fast", ("processes", "fast")),
    Case("ours, threads", "deeper", "untouched", "fast", ("threads", "fast"), 1.0),
    Case("ours, threads", "deeper", "restart", "fast", ("threads", "fast")),
    Case(TF, "tf", "untouched", False),
    Case(TF, "tf", "restart", False),
    Case("Grain MapDataset, our decoder, threads", "grain", "untouched", False, ("threads",)),
    Case("Grain MapDataset, our decoder, processes", "grain", "untouched", False, ("processes",)),
    Case("Grain DataLoader, Pillow, as documented", "grain", "untouched", True, ("documented",)),
    Case("DALI on the CPU", "dali", "untouched", False, ("0",)),
    Case(TORCHVISION, "torch", "untouched", True, ("v2",)),
    Case("torchvision v1, Pillow", "torch", "untouched", True, ("v1",)),
    Case("libjpeg-turbo alone, whole photographs", "deeper", "untouched", None, ("limit", "0")),
    Case("libjpeg-turbo alone, what crops need", "deeper", "restart", None, ("limit", "0")),
)


class Pipeline:
    """The process group of a case, which is stopped except during its turns."""

    def __init__(self, command: list[str], cores: list[set[int]]):
        self._processes = [
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
                env=os.environ | {"PYTHONPATH": str(HERE.parents[1] / "src")},
            )
            for _ in cores
        ]
        for process, own in zip(self._processes, cores, strict=True):
            os.sched_setaffinity(process.pid, own)
        ready = [process.stdout.readline().split() for process in self._processes]
        if not all(ready):
            sys.exit(f"{' '.join(command)} did not start: run it alone to see why.")
        self.version = ready[0][1]
        self.first = max(float(one[2]) for one in ready)
        self._signal(signal.SIGSTOP)

    def _signal(self, number: int) -> None:
        for process in self._processes:
            os.killpg(process.pid, number)

    def images_per_second(self) -> float:
        """Return the images per second of one turn, over all processes of the case."""
        self._signal(signal.SIGCONT)
        self._seconds(2)
        seconds = self._seconds(BATCHES)
        self._signal(signal.SIGSTOP)
        return sum(BATCH * BATCHES / s for s in seconds)

    def _seconds(self, batches: int) -> list[float]:
        for process in self._processes:
            process.stdin.write(f"{batches}\n")
            process.stdin.flush()
        return [float(process.stdout.readline()) for process in self._processes]

    def megabytes(self) -> float:
        """Return the memory of the processes in MB, with shared memory counted once (PSS)."""
        groups, total = {process.pid for process in self._processes}, 0
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if os.getsid(int(path.name)) in groups:
                    total += int((path / "smaps_rollup").read_text().split("Pss:")[1].split()[0])
            except (ProcessLookupError, FileNotFoundError):
                continue  # the process has ended
        return total / 1024

    def close(self) -> None:
        """End all processes of the group."""
        self._signal(signal.SIGCONT)
        for process in self._processes:
            process.stdin.close()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # threads of another library that do not end
                process.wait()


def start(case: Case, data: Path) -> Pipeline:
    """Start a case; the decoder alone runs as one process per core."""
    every = sorted(os.sched_getaffinity(0))
    alone = "limit" in case.arguments
    return Pipeline(case.command(data), [{core} for core in every] if alone else [{*every}])


def measure(data: Path, rounds: int) -> list[dict]:
    """Return the measurements of each case.

    Args:
        data: root of the prepared data sets and of their exports.
        rounds: number of turns of each case.
    """
    results: dict[Case, dict] = {case: defaultdict(list) for case in CASES}
    live: dict[Case, Pipeline] = {}
    try:
        for case in track(CASES, "starting", transient=True):
            for _ in range(1 if "limit" in case.arguments else STARTS):
                if case in live:
                    live.pop(case).close()
                live[case] = start(case, data)
                results[case]["first_batch_seconds"].append(live[case].first)
            results[case]["version"] = live[case].version
        for round_ in track(range(rounds + 1), "rounds", transient=True):
            for case, pipeline in live.items():
                speed = pipeline.images_per_second()
                if round_:  # the first turn fills prefetched batches
                    results[case]["images_per_second"].append(speed)
                results[case]["megabytes"] = max(
                    results[case]["megabytes"] or 0, pipeline.megabytes()
                )
    finally:
        for pipeline in live.values():
            pipeline.close()
    return [
        {"name": case.name, "layout": case.layout, "antialias": case.antialias, "goal": case.goal}
        | values
        for case, values in results.items()
    ]


HEADINGS = (
    "pipeline", "files", "antialias", "images/s", "/ tf.data", "goal", "/ torchvision v2",
    "first batch s", "MB",
)  # fmt: skip


def rows_of(results: list[dict]) -> list[tuple[str, ...]]:
    """Return the rows of the table."""

    def speeds(name: str) -> list[float]:
        at = [one for one in results if one["name"] == name and one["layout"] == "untouched"]
        return at[0]["images_per_second"]

    rows = []
    for one in results:
        ratio, to_torchvision = (
            statistics.median(a / b for a, b in zip(one["images_per_second"], theirs, strict=True))
            for theirs in (speeds(TF), speeds(TORCHVISION))
        )
        alone = one["antialias"] is None
        rows.append(
            (
                one["name"],
                one["layout"],
                {None: "", False: "no", True: "yes", "fast": "fast"}[one["antialias"]],
                f"{statistics.median(one['images_per_second']):,.0f}",
                f"{ratio:.2f}",
                "" if one["goal"] is None else f"{one['goal']:.2f}",
                f"{to_torchvision:.2f}",
                "" if alone else f"{min(one['first_batch_seconds']):.1f}",
                "" if alone else f"{one['megabytes']:,.0f}",
            )
        )
    return rows


def write(record: dict) -> None:
    """Update the README from the recorded results."""
    results, machine, files = record["results"], record["machine"], record["photographs"]
    versions = {one["name"].split(",")[0].split()[0]: one["version"] for one in results}
    note = (
        f"Median of {len(results[0]['images_per_second'])} interleaved rounds of {BATCHES} batches "
        f"of {BATCH}; {machine['cpu']}, {machine['cores']} cores; {files['count']:,} photographs "
        f"of about 500x375 pixels and {files['kilobytes']:.0f} kB. Ratios are to the other on "
        "untouched files in the same round, the goal is of that to tf.data. The first batch is the "
        f"better of {STARTS} starts, without imports. Memory is of all processes of a pipeline, "
        f"what they share counted once. Python {record['python']} (peers 3.11), simplejpeg "
        f"{versions['ours']}, TensorFlow {versions['tf.data']}, Grain {versions['Grain']}, DALI "
        f"{versions['DALI']}, torchvision {versions['torchvision']}; commit "
        f"{str(record['commit'])[:12]}."
    )
    table = markdown(HEADINGS, rows_of(results))
    insert_between_markers(HERE / "README.md", "data", f"{table}\n\n{note}")


def main() -> None:
    """Measure and print; with --write, also update the JSON file and the README."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="record in experiments/bench")
    options = parser.parse_args()
    data = Path(os.environ["BENCH_DATA"])
    results = measure(data, options.rounds)
    table = Table(*HEADINGS, box=None)
    for row in rows_of(results):
        table.add_row(*row)
    Console(width=120).print(table)
    if not options.write:
        return
    facts, cores = environment(), len(os.sched_getaffinity(0))
    count = sum(split_lengths(data / "untouched/photos/1.0.0")["train"])
    size = sum(path.stat().st_size for path in (data / "untouched/peers").glob("*.tfrecord"))
    record = {
        "machine": {"cpu": facts["cpu"], "cores": cores, "system": platform.platform()},
        "python": facts["python"],
        "commit": facts["git_commit"],
        "photographs": {"count": count, "kilobytes": size / count / 1e3},
        "results": results,
    }
    (HERE / "data.json").write_text(json.dumps(record, indent=1) + "\n")
    write(record)


if __name__ == "__main__":
    main()
