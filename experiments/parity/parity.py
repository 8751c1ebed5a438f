"""Our nets beside torchvision's on the same weights: the table and the golden files.

Run by scripts/parity. Each net and seed runs in PyTorch, in float64 and in float32, and here, one
after the other; largest relative errors against float64 go into README.md, seed 0's answers into
golden/.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from deeper.cli.xla_flags import set_cpu_flags

set_cpu_flags()

import jax
import numpy as np
from nets import IMAGES, KEPT, NETS, Net
from our_side import answers, errors
from rich.console import Console
from rich.progress import track

from deeper.models import cpu
from deeper.study.tables import insert_between_markers, markdown
from deeper.track.environment import environment

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
KINDS = ("logits", "loss", "gradient", "statistics")
# A gradient may be as far from float64 as this many times PyTorch's own in float32.
SLACK = 2.0
LIMITS = {"logits": 1e-4, "loss": 1e-3, "gradient": 1e-3, "statistics": 1e-3}


def torchvision_answers(net: Net, seed: int) -> dict[str, np.ndarray]:
    """Run torchvision's net."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "answers.npz"
        arguments = (net.name, seed, IMAGES, int(net.step), out)
        subprocess.run(
            [os.environ["PARITY_PYTHON"], HERE / "torch_side.py", *map(str, arguments)], check=True
        )
        with np.load(out) as file:
            return dict(file)


def golden(theirs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return what the tests compare with: logits, loss, norms and some values of the rest."""
    kept = {name: theirs[name] for name in ("logits", "loss") if name in theirs}
    for name, array in theirs.items():
        if "/" in name and not name.startswith("single/"):
            flat = array.ravel()
            some = flat[:: max(1, flat.size // KEPT)][:KEPT]
            kept[name] = np.float64([np.linalg.norm(np.float64(flat)), np.abs(flat).max(), *some])
    return kept


def main() -> None:
    """Compare and tell; record every net as soon as it is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", default=",".join(net.name for net in NETS))
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--write", action="store_true", help="record in experiments/parity")
    options = parser.parse_args()
    console = Console(width=100, highlight=False)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"nets": {}}
    failed = False
    for net in NETS:
        if net.name not in options.nets.split(","):
            continue
        found: dict[str, list[float]] = {}
        for seed in track(range(options.seeds), net.name, console=console, transient=True):
            theirs = torchvision_answers(net, seed)
            single = {n.removeprefix("single/"): a for n, a in theirs.items() if "single/" in n}
            forms = {"torch": single}
            for form, kernels in (("ours", True), ("plain", False)):
                cpu.use(kernels)
                jax.clear_caches()  # they do not know of the switch
                forms[form] = answers(net, seed, IMAGES, net.step)
            for form, given in forms.items():
                for kind, error in errors(given, theirs).items():
                    found.setdefault(f"{form} {kind}", []).append(error)
            if seed == 0 and options.write:
                (HERE / "golden").mkdir(exist_ok=True)
                np.savez_compressed(HERE / "golden" / f"{net.name}.npz", **golden(theirs))
        worst = {kind: max(values) for kind, values in found.items()}
        over = [
            kind
            for kind in KINDS
            for error, own in zip(found.get(f"ours {kind}", ()), found.get(f"torch {kind}", ()))
            if error > max(LIMITS[kind], SLACK * own if kind == "gradient" else 0.0)
        ]
        failed |= bool(over)
        shown = ", ".join(f"{kind} {worst[kind]:.1e}" for kind in worst)
        console.print(f"{net.name}: {shown}{'  BEYOND THE LIMIT' if over else ''}")
        versions = {"torch": str(theirs["torch"]), "torchvision": str(theirs["torchvision"])}
        results["nets"][net.name] = {"seeds": options.seeds, "worst": worst} | {
            "median": {kind: statistics.median(values) for kind, values in found.items()},
            **versions,
        }
        if options.write:
            facts = environment()
            results |= {name: facts[name] for name in ("python", "jax", "jaxlib", "cpu")}
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
            _write_table(results)
    sys.exit(int(failed))


def _write_table(results: dict) -> None:
    def cell(worst: dict[str, float], kind: str) -> str:
        return f"{worst[kind]:.1e}" if kind in worst else ""

    kinds = ("ours logits", "plain logits", "torch logits", "ours loss")
    kinds += ("ours gradient", "plain gradient", "torch gradient", "ours statistics")
    rows = [
        (net.name, str(r["seeds"]), *(cell(r["worst"], kind) for kind in kinds))
        for net in NETS
        if (r := results["nets"].get(net.name))
    ]
    one = next(iter(results["nets"].values()))
    note = (
        f"torch {one['torch']}, torchvision {one['torchvision']}; JAX {results['jax']}, Python "
        f"{results['python']}; {results['cpu']}."
    )
    table = markdown(("net", "seeds", *kinds), rows)
    insert_between_markers(HERE / "README.md", "parity", f"{table}\n\n{note}")


main()
