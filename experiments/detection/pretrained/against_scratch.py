#!/usr/bin/env python
"""What pre-training gains: AP of the same net and seed, pre-trained minus from scratch.

    python experiments/detection/pretrained/against_scratch.py

It reads ``results.csv`` of the two studies, and writes the table of this directory's README.
"""

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np

from deeper.study.hypothesis_tests import sign_flip
from deeper.study.tables import insert_between_markers, markdown

HERE = Path(__file__).parent
SCRATCH = HERE.parent / "depth" / "results.csv"
METRIC = "test/ap"


def read(path: Path) -> dict[tuple[str, int], float]:
    """Return the metric of each run, by net and seed."""
    with path.open(encoding="utf-8", newline="") as file:
        return {
            (row["label"], int(row["seed"])): float(row[METRIC]) for row in csv.DictReader(file)
        }


def main() -> None:
    """Write the table."""
    began, scratch = read(HERE / "results.csv"), read(SCRATCH)
    pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for (net, seed), ap in sorted(began.items()):
        pairs[net].append((scratch[net, seed], ap))
    rows, gains = [], []
    for net, found in pairs.items():
        before, after = np.array(found).T
        gains.extend(after - before)
        rows.append(
            [
                net.removeprefix("faster_rcnn_"),
                f"{before.mean():.2f}",
                f"{after.mean():.2f}",
                f"{(after - before).mean():+.2f}",
                ", ".join(f"{gain:+.2f}" for gain in after - before),
            ]
        )
    p, _ = sign_flip(np.array(gains))
    told = (
        f"AP in per cent, means of the same seeds. Pre-trained nets are better in "
        f"{sum(gain > 0 for gain in gains)} of {len(gains)} pairs (sign-flip test, "
        f"p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}); this comparison was not stated before the "
        "runs."
    )
    head = ["net", "from scratch", "pre-trained", "gain", "of each seed"]
    text = f"{markdown(head, rows)}\n\n{told}"
    insert_between_markers(HERE / "README.md", "gain", text)
    print(text)


if __name__ == "__main__":
    main()
