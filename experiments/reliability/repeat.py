"""Measures whether repeated runs give the same bits on this device, and the cost of that.

    python experiments/reliability/repeat.py data=photos model=resnet model.depth=18 ...

Trains the same run several times, each in a process of its own with an empty compilation cache, so
that the compiler selects its kernels again: with the default flags, and without the flag for
deterministic operations on a GPU (`src/deeper/xla_flags.py`). Prints for both the number of
different results, and images per second.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

FLAGS = {"as always": "", "without the flag": "--xla_gpu_deterministic_ops=false"}


def once(overrides: list[str], flags: str) -> tuple[str, float]:
    """Train once; return the SHA-256 of all numbers in the rows, and images per second."""
    with tempfile.TemporaryDirectory() as place:
        environment = os.environ | {
            "DEEPER_CACHE": f"{place}/cache",
            "WANDB_MODE": "disabled",
            "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip(),
        }
        command = [sys.executable, "-m", "deeper", "train", *overrides, f"runs={place}/runs"]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        [run] = Path(place).glob("runs/single/*")
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        result = json.loads((run / "result.json").read_text())
    clock = ("time", "images_per_second")
    numbers = [{k: v for k, v in row.items() if k not in clock} for row in rows]
    text = json.dumps([numbers, result["metrics"]])
    return hashlib.sha256(text.encode()).hexdigest(), result["images_per_second"]


def main() -> None:
    """Compare interleaved runs with and without the flag, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("overrides", nargs="+")
    parser.add_argument("--times", type=int, default=3)
    asked = parser.parse_args()
    found: dict[str, list[tuple[str, float]]] = {name: [] for name in FLAGS}
    for _ in range(asked.times):
        for name, flags in FLAGS.items():
            found[name].append(once(asked.overrides, flags))
    told: dict[str, Any] = {"command": f"deeper train {' '.join(asked.overrides)}"}
    for name, ones in found.items():
        told[name] = {
            "times": len(ones),
            "different": len({digest for digest, _ in ones}),
            "images_per_second": statistics.median(rate for _, rate in ones),
        }
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
