"""Put the errors of twin.py beside those of the study, with tests, into twin.md.

    .venv/bin/python experiments/depth/twin_table.py

Reads twin.csv and results.csv. Both sides draw their initial weights and flips anew, so that their
runs are independent: Welch's t test and the 95 % interval of the difference of means, p corrected
for the number of comparisons by Holm's method.
"""

import csv
from pathlib import Path

from scipy import stats

from deeper.study.hypothesis_tests import holm
from deeper.study.means import LEVEL, mean_of
from deeper.study.tables import insert_between_markers, markdown

HERE = Path(__file__).parent
METRICS = {"test/error": "test", "train/error": "training"}


def errors(file: str) -> dict[str, dict[str, list[float]]]:
    """Return net -> metric -> its values, one a seed."""
    found: dict[str, dict[str, list[float]]] = {}
    with (HERE / file).open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            of_net = found.setdefault(row["label"], {name: [] for name in METRICS})
            for name in METRICS:
                of_net[name].append(float(row[name]))
    return found


def main() -> None:
    """Write the table."""
    ours, theirs = errors("results.csv"), errors("twin.csv")
    pairs = [(net, name) for net in theirs for name in METRICS]
    tests = [
        stats.ttest_ind(theirs[net][name], ours[net][name], equal_var=False) for net, name in pairs
    ]
    rows = []
    for (net, name), test, p in zip(pairs, tests, holm([t.pvalue for t in tests]), strict=True):
        own, other = mean_of(ours[net][name]), mean_of(theirs[net][name])
        low, high = test.confidence_interval(LEVEL)
        apart = f"{other.mean - own.mean:+.2f} ({low:+.2f} to {high:+.2f})".replace("-", "−")
        inside = own.half_width is not None and abs(other.mean - own.mean) <= own.half_width
        within = "yes" if inside else "no"
        rows.append((net, METRICS[name], str(own), str(other), apart, f"{p:.2f}", within))
    headings = (
        "net", "error % on", "deeper", "PyTorch", "difference", "p (Holm)", "in our interval",
    )  # fmt: skip
    seeds = {mean_of(values).n for of_net in theirs.values() for values in of_net.values()}
    note = (
        f"Means over {', '.join(map(str, sorted(seeds)))} seeds, ± half the 95 % t interval; the "
        "difference is PyTorch minus deeper, with the 95 % interval of Welch's t test."
    )
    insert_between_markers(HERE / "twin.md", "twin", f"{markdown(headings, rows)}\n\n{note}")


if __name__ == "__main__":
    main()
