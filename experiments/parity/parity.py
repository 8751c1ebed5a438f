"""Compares our nets with torchvision's on the same weights; makes the table and the golden files.

Run by scripts/parity. For each seed, a net runs in PyTorch and in ours. The largest relative errors
are written to README.md, and the results of PyTorch for seed 0 to golden/.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from deeper.xla_flags import set_flags

set_flags()

import jax
import numpy as np
from nets import KEPT, NETS, Net
from our_side import error, logits, root_mean_square, step
from rich.console import Console
from rich.progress import track

from deeper.record.environment import environment
from deeper.study.tables import insert_between_markers, markdown

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
LIMITS = {
    "logits": 1e-4,
    "loss": 1e-3,
    "statistics": 1e-3,
    "statistics, float64": 1e-3,
    "gradient, float64": 1e-3,
}
COLUMNS = (*LIMITS, "gradient, float32", "PyTorch's own, float32")
OWN_STATISTICS = "PyTorch's own statistics, float32"


def answers(net: Net, seeds: range) -> Iterator[dict[str, np.ndarray]]:
    """Yield torchvision's results for each seed."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "answers.npz"
        command = [
            os.environ["PARITY_PYTHON"],
            HERE / "torch_side.py",
            net.name,
            net.step_size or 0,
            out,
        ]
        pipe = subprocess.PIPE
        with subprocess.Popen(map(str, command), stdin=pipe, stdout=pipe, text=True) as process:
            for seed in seeds:
                # One side at a time: VGG's float64 step takes 14 GB.
                print(seed, file=process.stdin, flush=True)
                if process.stdout.readline() != "done\n":
                    sys.exit("PyTorch's side ended early; its own message stands above.")
                with np.load(out) as file:
                    given = dict(file)
                yield given
            process.stdin.close()


def compare(net: Net, seed: int, theirs: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the relative errors of a net and seed."""
    found = {"logits": error("logits", {"logits": logits(net, seed)}, theirs)}
    if net.step_size:
        single, double = (step(net, seed, dtype) for dtype in ("float32", "float64"))
        own = {n.removeprefix("single/"): a for n, a in theirs.items() if n.startswith("single/")}
        found["loss"] = error("loss", single, theirs)
        if any(name.startswith("statistics/") for name in theirs):  # ConvNeXt has none
            found["statistics"] = error("statistics", single, theirs)
            found["statistics, float64"] = error("statistics", double, theirs)
            found[OWN_STATISTICS] = error("statistics", own, theirs)
        found["gradient, float64"] = error("gradient", double, theirs)
        for column, given in zip(COLUMNS[-2:], (single, own)):
            found[column] = error("gradient", given, theirs, root_mean_square)
    return found


def golden(theirs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the reference values of the tests: logits, loss, norms and some values of the rest."""
    kept = {name: theirs[name] for name in ("logits", "loss") if name in theirs}
    for name, array in theirs.items():
        if "/" in name and not name.startswith("single/"):
            flat = array.ravel()
            some = flat[:: max(1, flat.size // KEPT)][:KEPT]
            kept[name] = np.float64([np.linalg.norm(flat), np.abs(flat).max(), *some])
    return kept


def main() -> None:
    """Compare and print; record every seed when it is done, and continue after the recorded
    seeds.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", default=",".join(net.name for net in NETS))
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--write", action="store_true", help="record in experiments/parity")
    parser.add_argument("--afresh", action="store_true", help="start again with the first seed")
    options = parser.parse_args()
    console = Console(width=100, highlight=False)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"nets": {}}
    failed = False
    for net in NETS:
        if net.name not in options.nets.split(","):
            continue
        known = results["nets"].get(net.name, {}).get("rows", [])
        rows = [] if options.afresh else known
        seeds = range(len(rows), options.seeds)
        everything = answers(net, seeds)
        for seed, theirs in zip(
            track(seeds, net.name, console=console, transient=True), everything, strict=True
        ):
            rows.append(compare(net, seed, theirs))
            if seed == 0 and options.write:
                (HERE / "golden").mkdir(exist_ok=True)
                np.savez_compressed(HERE / "golden" / f"{net.name}.npz", **golden(theirs))
            worst = {kind: float(np.max([row[kind] for row in rows])) for kind in rows[0]}
            results["nets"][net.name] = {
                "seeds": len(rows),
                "worst": worst,
                "median": {kind: statistics.median(row[kind] for row in rows) for kind in worst},
                **{name: str(theirs[name]) for name in ("torch", "torchvision")},
                "rows": rows,
            }
            if options.write:
                facts = environment()
                results |= {name: facts[name] for name in ("python", "jax", "jaxlib", "cpu")}
                RESULTS.write_text(json.dumps(results, indent=1) + "\n")
                _write_table(results)
        jax.clear_caches()
        worst = results["nets"][net.name]["worst"]
        over = [kind for kind, limit in LIMITS.items() if not worst.get(kind, 0.0) <= limit]
        if "statistics" in over and not worst.get(OWN_STATISTICS, 0.0) <= LIMITS["statistics"]:
            over.remove("statistics")  # float32 cannot tell them: float64 decides
        failed |= bool(over)
        shown = ", ".join(f"{kind} {worst[kind]:.1e}" for kind in worst)
        console.print(f"{net.name}: {shown}{'  BEYOND THE LIMIT: ' * bool(over)}{', '.join(over)}")
    sys.exit(int(failed))


def _write_table(results: dict) -> None:
    rows = []
    for name in (net.name for net in NETS if net.name in results["nets"]):
        one = results["nets"][name]
        cells = (f"{one['worst'][c]:.1e}" if c in one["worst"] else "" for c in COLUMNS)
        rows.append((name, str(one["seeds"]), *cells))
    note = (
        f"torch {one['torch']}, torchvision {one['torchvision']}; JAX {results['jax']}, Python "
        f"{results['python']}; {results['cpu']}."
    )
    table = markdown(("net", "seeds", *COLUMNS), rows)
    insert_between_markers(HERE / "README.md", "parity", f"{table}\n\n{note}")


main()
