"""Does depth help robustness? Corrupted images and calibration, for every run of a depth study.

    .venv/bin/python experiments/robustness/depth.py runs/depth_fashion-full [--minutes 50]

For each finished run: `deeper evaluate suite=corrupt` (without frost, whose pictures are not at
hand) and `calibration=true`, unless the run directory has their results already; so it may be
stopped and started again, and with --minutes begins no evaluation after that time. Corrupted
images are made once, for all runs, in STUDY/.corrupted (0.6 GB of Fashion-MNIST). Seeds are taken
one after the other, all depths of a seed together. With --page the numbers of the runs that are
there are written to depth/results.csv, depth/figures/ and the page depth/README.md.

The tests were stated before the first of these runs was evaluated.
"""

import argparse
import csv
import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import deeper
from deeper.plotting import COLOURS, STYLE
from deeper.record.atomic_files import read_json
from deeper.record.schema import RESULT, RunRecord
from deeper.run.calibration import FILE as CALIBRATION
from deeper.run.calibration import calibrate_run
from deeper.run.robustness import corrupt_run, file_of
from deeper.study.definition import Study
from deeper.study.figures import save
from deeper.study.hypothesis_tests import examine_all
from deeper.study.means import mean_of
from deeper.study.read_runs import Collection, collect, missing_runs
from deeper.study.tables import insert_between_markers, markdown
from deeper.study.verdict import judge

PAGE = Path(__file__).parent / "depth"
KINDS = {True: "residual", False: "plain"}
CORRUPTED = "test/corrupted_error_without_frost"
GAP, ECE, FITTED = "test/corruption_gap", "test/ece", "test/ece_with_temperature"
MEASURES = {
    "test/error": "error %",
    CORRUPTED: "error on corrupted images %",
    GAP: "difference, points",
    ECE: "ECE %",
    FITTED: "ECE with temperature %",
}
SHOWN = {
    CORRUPTED: "Error on corrupted images (%)",
    GAP: "Error that corruption adds (points)",
    ECE: "Calibration error, ECE (%)",
}
SHIFT = 0.35  # layers, of the lines' points to either side
DEFINITION: dict[str, Any] = {
    "name": "depth_robustness",
    "claim": "Deeper nets with shortcuts are more robust to corruption, and worse calibrated.",
    "metric": CORRUPTED,
    "metric_label": "error on corrupted images (%)",
    "x": "depth",
    "x_label": "depth (layers)",
    "line": "residual",
    "line_names": {"true": "residual", "false": "plain"},
    "tests": [
        {
            "claim": "With shortcuts, more depth means less error on corrupted images.",
            "among": {"residual": True},
            "trend": "falls",
        },
        {
            "claim": "With shortcuts, more depth means that corruption adds less to the error.",
            "among": {"residual": True},
            "trend": "falls",
            "metric": GAP,
        },
        {
            "claim": "Shortcuts lower the error on corrupted images, on average over the depths.",
            "better": {"residual": True},
            "worse": {"residual": False},
        },
        {
            "claim": "With shortcuts, more depth means worse calibration (Guo et al. 2017).",
            "among": {"residual": True},
            "trend": "rises",
            "metric": ECE,
        },
    ],
}


def steps_of(path: Path) -> int | None:
    """Return the length of a finished run."""
    result = read_json(path / RESULT)
    return result["steps"] if result and result.get("status") == "finished" else None


def is_there(path: Path, file: str) -> bool:
    """Return whether a run directory has an evaluation of the last checkpoint."""
    return (read_json(path / file) or {}).get("step") == steps_of(path)


def evaluate(study: Path, minutes: float | None) -> None:
    """Evaluate what is not evaluated yet, until the time is over."""
    began = time.monotonic()
    runs = [deeper.load(path) for path in study.glob("*/") if steps_of(path) is not None]
    runs.sort(key=lambda run: (run.config.seed, run.config.model.get("depth"), str(run.path)))
    for number, run in enumerate(runs, start=1):
        path, at = run.path, time.monotonic()
        todo = not is_there(path, file_of("corrupt")), not is_there(path, CALIBRATION)
        if minutes is not None and at - began > 60 * minutes:
            print(f"The time is over after {number - 1} of {len(runs)} runs.")
            return
        if todo[0]:
            corrupt_run(path, run.config, kept=study / ".corrupted")
        if todo[1]:
            calibrate_run(path, run.config)
        if any(todo):
            seconds = time.monotonic() - at
            print(f"[{number} of {len(runs)}] {path.name}: {seconds:.0f} s", flush=True)


def collected(study: Path) -> Collection:
    """Return the runs that are evaluated, with the measures of both evaluations."""
    collection = collect(study, {**DEFINITION, "tests": []})  # of measures that are added here
    evaluated = []
    for run in collection.finished:
        calibration = read_json(run.path / CALIBRATION)
        corrupted, clean = run.number(CORRUPTED), run.number("test/error")
        if corrupted is None or clean is None or not is_there(run.path, CALIBRATION):
            continue
        assert calibration is not None
        run.evaluations["robustness"] = {
            GAP: corrupted - clean,
            ECE: calibration["before"]["calibration_error"],
            FITTED: calibration["after"]["calibration_error"],
        }
        evaluated.append(run)
    planned = Study.of(collection.finished[0].config["study"])
    missing = missing_runs(planned, evaluated)
    own = Study.of(DEFINITION)
    return Collection(collection.directory, own, collection.mode, evaluated, missing)


def groups_of(runs: Sequence[RunRecord]) -> dict[tuple[bool, int], list[RunRecord]]:
    """Return the runs by shortcuts and depth."""
    groups: dict[tuple[bool, int], list[RunRecord]] = {}
    for run in sorted(runs, key=lambda run: (run.value("residual"), run.depth, run.seed or 0)):
        groups.setdefault((bool(run.value("residual")), int(run.depth)), []).append(run)
    return groups


def numbers(runs: Sequence[RunRecord], measure: str) -> list[float]:
    """Return a measure of several runs."""
    return [value for run in runs if (value := run.number(measure)) is not None]


def figure_of(groups: dict[tuple[bool, int], list[RunRecord]]) -> Figure:
    """Draw the measures against depth, with the single runs and 95 % intervals over seeds."""
    figure = Figure(figsize=(9.6, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, measure in zip(figure.subplots(1, len(SHOWN)), SHOWN, strict=True):
        for colour, (kind, name) in zip(COLOURS, KINDS.items()):
            means = {
                depth: mean_of(numbers(runs, measure))
                for (residual, depth), runs in groups.items()
                if residual is kind
            }
            spread = [mean.half_width or 0.0 for mean in means.values()]
            at = {depth: depth + (SHIFT if kind else -SHIFT) for depth in means}
            axes.errorbar(
                [*at.values()], [mean.mean for mean in means.values()], spread, fmt="o-", ms=5,
                color=colour, mec="white", capsize=3, elinewidth=1, label=name,
            )  # fmt: skip
            for depth, mean in means.items():
                axes.plot([at[depth]] * mean.n, mean.values, ".", color=colour, alpha=0.5, ms=5)
        axes.set_title(SHOWN[measure], fontsize=10)
        axes.set_xlabel("depth (layers)")
        axes.set_xticks(sorted({depth for _, depth in groups}))
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    return figure


def write_page(study: Path, page: Path) -> None:
    """Write table, figure, verdict and results.csv of the runs that are evaluated."""
    collection = collected(study)
    groups = groups_of(collection.finished)
    rows = [
        (
            f"{KINDS[residual]} {depth}",
            str(len(runs)),
            *(str(mean_of(numbers(runs, measure))).replace("nan", "–") for measure in MEASURES),
        )
        for (residual, depth), runs in groups.items()
    ]
    findings = examine_all(collection)
    verdict = judge(findings, collection)
    said = "\n".join(f"- {f.claim} **{f.verdict.capitalize()}**: {f.words}." for f in findings)
    table = markdown(("net", "n", *MEASURES.values()), rows)
    readme = page / "README.md"
    word = f"**{verdict.word.capitalize()}.** {verdict.sentence}"
    insert_between_markers(readme, "verdict", f"{word}\n\n{said}")
    insert_between_markers(readme, "table", table)
    insert_between_markers(readme, "figure", "![Robustness and depth](figures/depth.png)")
    (page / "figures").mkdir(exist_ok=True)
    with mpl.rc_context({**mpl.rcParamsDefault, **STYLE, "backend": "agg"}):
        save(figure_of(groups), page / "figures" / "depth")
    (page / "results.csv").write_text(table_of(groups), encoding="utf-8")


def table_of(groups: dict[tuple[bool, int], list[RunRecord]]) -> str:
    """Return a row for each run: the measures, and the mean error of each corruption."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names: list[str] = []
    for (residual, depth), runs in groups.items():
        for run in runs:
            by_name = (read_json(run.path / file_of("corrupt")) or {})["mean_by_corruption"]
            if not names:
                names = [*by_name]
                writer.writerow(["net", "depth", "seed", *MEASURES, *names, "config_hash"])
            measures = [run.number(measure) for measure in MEASURES]
            values = [
                f"{v:.6g}" for v in (*measures, *(by_name[n] for n in names)) if v is not None
            ]
            row = [KINDS[residual], depth, run.seed, *values, run.config.get("config_hash")]
            writer.writerow(row)
    return stream.getvalue()


def main() -> None:
    """Evaluate a study's runs, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("study", type=Path, help="directory of the study's runs")
    parser.add_argument("--minutes", type=float, help="begin no evaluation after so many")
    parser.add_argument("--page", type=Path, nargs="?", const=PAGE, help="write the page")
    given = parser.parse_args()
    evaluate(given.study, given.minutes)
    if given.page is not None:
        write_page(given.study, given.page)


if __name__ == "__main__":
    main()
