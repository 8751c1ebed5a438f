"""Motif recovery: which of the planted motifs the first-layer filters of runs on data=motifs are.

    python experiments/dna/recovery.py RUNS [--csv FILE] [--figure RUN FILE]

RUNS is a directory of runs, such as runs/depth_dna. A line each: depth, width, seed, the share of
the planted motifs that a filter was found to be, and the test area under the ROC curve. The figure
shows the planted motifs, each beside the filter of one run that was found to be it.
"""

import argparse
import csv
import json
import sys
from pathlib import Path

import numpy as np

import deeper
from deeper.data.dna import ABOUT, BASES
from deeper.interpret.motifs import (
    filter_motifs,
    filters_of,
    recovery,
    split_matrices,
)
from deeper.interpret.sequence_logo import motif_figure

COLUMNS = ("run", "depth", "width", "seed", "recovery", "filters with a motif", "test/auroc")
SEQUENCES = 4000  # of the test split, of which filters' sites are taken


def known_motifs(directory: Path):
    """Return name -> matrix of all that were stored, the planted ones' names, and their factors."""
    about = json.loads((directory / ABOUT).read_text(encoding="utf-8"))
    arrays = (np.load(directory / f"{name}.npy") for name in ("matrices", "matrix-lengths"))
    return split_matrices(*arrays, list(about["matrices"])), about["planted"], about["matrices"]


def of_run(run):
    """Return a run's filters' motifs, and which planted ones they are."""
    data = run.config.data
    known, planted, _ = known_motifs(Path(data.dir) / data.call["folder"])
    bases = np.asarray(run.data("test")["dna"][:SEQUENCES])
    motifs = filter_motifs(filters_of(run.net("best").variables["params"]), bases)
    return motifs, recovery(motifs, known, planted)


def figure_of(run):
    """Return a figure of the planted motifs beside the filters that they were found to be."""
    data = run.config.data
    known, planted, factors = known_motifs(Path(data.dir) / data.call["folder"])
    motifs, found = of_run(run)
    empty = np.full((1, len(BASES)), 0.25)
    drawn = []
    for name in planted:
        number, p = found.found.get(name, (None, 1.0))
        drawn.append((f"planted: {factors[name]} ({name})", known[name]))
        title = "not found" if number is None else f"filter {number}, corrected p {p:.1e}"
        drawn.append((title, empty if number is None else motifs[number]))
    return motif_figure(f"{found.share:.0%} of the planted motifs are filters", drawn)


def main() -> None:
    """Write a table of all finished runs, and a figure of one if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--figure", nargs=2, metavar=("RUN", "FILE"), type=Path)
    given = parser.parse_args()
    paths = sorted(path.parent for path in given.runs.rglob("result.json"))
    if not paths:
        sys.exit(f"{given.runs} has no finished run.")
    rows = []
    for path in paths:
        run = deeper.load(path)
        motifs, found = of_run(run)
        model = run.config.model
        rows.append(
            (path.name, model.get("depth", 1), model.get("width", model.get("motifs")),
             run.config.seed, f"{found.share:.3f}", len(motifs),
             f"{run.metrics['test/auroc']:.4f}")
        )  # fmt: skip
        print(*rows[-1], sep="  ", flush=True)
    if given.csv:
        with given.csv.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([COLUMNS, *rows])
    if given.figure:
        figure_of(deeper.load(given.figure[0])).savefig(given.figure[1], dpi=120)


if __name__ == "__main__":
    main()
