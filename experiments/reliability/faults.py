"""Runs the tests that inject faults many times, and records how often and at what cost.

    python experiments/reliability/faults.py --kills 9 --checkpoints 1 --cluster 3

runs the tests that many times (those of the cluster need root and Debian's packages of Slurm), adds
one line per fault to faults.jsonl, and writes the table in README.md. A test fails unless the
disturbed run ends with the parameters, rows and result of the undisturbed one.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RECORD, README = HERE / "faults.jsonl", HERE / "README.md"
BEGIN, END = "<!-- faults -->\n", "<!-- end of faults -->"

TESTS = {
    "kills": ["tests/cli/test_faults.py"],
    "checkpoints": ["tests/train/test_loop.py", "-k", "damaged"],
    "cluster": ["tests/cluster/test_faults.py", "tests/cluster/test_sbatch.py"],
}


def inject(tests: list[str], kills: int) -> None:
    """Run tests, and record the faults of those that passed."""
    with tempfile.TemporaryDirectory() as place:
        faults_file = Path(place) / "faults.jsonl"
        environment = os.environ | {
            "DEEPER_FAULTS": str(faults_file),
            "DEEPER_KILLS": str(kills),
            "CI": "true",
        }
        command = [sys.executable, "-m", "pytest", "-q", "-n", "2", *tests]
        done = subprocess.run(command, cwd=ROOT, env=environment)
        lines = faults_file.read_text() if faults_file.exists() else ""
        if done.returncode:
            sys.exit(f"a fault changed an end, see above; not recorded:\n{lines}")
        with RECORD.open("a") as record:
            record.write(lines)


def table() -> str:
    """Return the record as a table in Markdown."""
    faults: dict[str, list[dict]] = {}
    for line in RECORD.read_text().splitlines():
        fault = json.loads(line)
        faults.setdefault(fault["fault"], []).append(fault)
    lines = ["| fault | injected | steps done again: mean | most |", "| --- | --: | --: | --: |"]
    for name, injected in sorted(faults.items()):
        lost = [fault["steps_lost"] for fault in injected]
        inside = sum(fault.get("in_checkpoint", False) for fault in injected)
        label = f"{name} ({inside} inside a checkpoint's write)" if inside else name
        mean = sum(lost) / len(lost)
        lines.append(f"| {label} | {len(injected)} | {mean:.1f} | {max(lost)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the tests as often as requested, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in TESTS:
        parser.add_argument(f"--{name}", type=int, default=0, help="how many rounds")
    parser.add_argument("--kills-a-round", type=int, default=12)
    given = parser.parse_args()
    for name, tests in TESTS.items():
        for _ in range(getattr(given, name)):
            inject(tests, given.kills_a_round)
    text = README.read_text()
    before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    README.write_text(before + table() + after)


if __name__ == "__main__":
    main()
