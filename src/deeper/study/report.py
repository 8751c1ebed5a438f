"""A study's page: the claim, whether the numbers support it, and everything behind that."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml

from deeper.study import tables
from deeper.study.collect import Collection, collect
from deeper.study.figures import make_figures
from deeper.study.statistics import Comparison, compare, verdict


@dataclass(frozen=True)
class Report:
    """What was made.

    Attributes:
        collection: the runs.
        comparisons: what the runs say of each of the study's tests.
        verdict: of the claim, in words.
        page: path of report.html.
        figures: name -> path of the SVG.
    """

    collection: Collection
    comparisons: tuple[Comparison, ...]
    verdict: str
    page: Path
    figures: dict[str, Path]


def make_report(directory: Path, definition: Mapping[str, Any] | None = None) -> Report:
    """Write results.csv, figures/ and report.html beside a study's runs.

    Args:
        directory: the study's directory.
        definition: the study; by default as its runs state it.

    Raises:
        UserError: no run is finished.
    """
    collection = collect(directory, definition)
    study = collection.definition
    comparisons = tuple(
        compare(test, collection.finished, study["metric"]) for test in study.get("tests") or []
    )
    complete = not collection.missing and all(r.status == "finished" for r in collection.runs)
    words = verdict(comparisons, complete)
    (directory / "results.csv").write_text(tables.results_csv(collection))
    figures = make_figures(collection, directory / "figures")
    page = directory / "report.html"
    page.write_text(_page(collection, comparisons, words, figures))
    return Report(collection, comparisons, words, page, figures)


def _page(
    collection: Collection,
    comparisons: tuple[Comparison, ...],
    words: str,
    figures: dict[str, Path],
) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("deeper.study", "."), autoescape=True, trim_blocks=True
    )
    study = collection.definition
    first = collection.finished[0]
    return environment.get_template("report.html.j2").render(
        study=study,
        title=study.get("title", study["name"]),
        verdict=words,
        comparisons=comparisons,
        figures={name: _inline(path) for name, path in figures.items()},
        headings=tables.HEADINGS,
        rows=tables.summary_rows(collection),
        published=tables.published(study.get("published")),
        finished=len(collection.finished),
        missing=[f"{label}, seed {seed}" for label, seed in collection.missing],
        other=[run for run in collection.runs if run.status != "finished"],
        warnings=warnings(collection),
        config=yaml.safe_dump(
            {k: v for k, v in first.config.items() if k != "study"}, sort_keys=False
        ),
        environment={
            k: v
            for k, v in first.environment.items()
            if k not in ("git_diff", "run") and v is not None
        },
        command=command(collection),
    )


def command(collection: Collection) -> str:
    """Return the command that repeats the study."""
    mode = collection.finished[0].config.get("mode", {}).get("name", "full")
    return f"deeper train -m study={collection.definition['name']} mode={mode}"


def warnings(collection: Collection) -> list[str]:
    """Return what makes the runs less than comparable."""
    out = []
    for key, name in (
        ("git_commit", "commits of the code"),
        ("jax", "versions of JAX"),
        ("device_kind", "kinds of device"),
        ("cpu", "processors"),
    ):
        values = sorted({str(run.environment.get(key)) for run in collection.finished})
        if len(values) > 1:
            out.append(f"The runs come from different {name}: {', '.join(v[:12] for v in values)}.")
    dirty = sum(bool(run.environment.get("git_dirty")) for run in collection.finished)
    if dirty:
        out.append(
            f"{dirty} runs were made with uncommitted changes; environment.json holds the diff."
        )
    return out


def _inline(svg: Path) -> str:
    """Return an SVG to stand inside a page, scaled to the width there is."""
    text = re.sub(r"^.*?(?=<svg)", "", svg.read_text(), flags=re.S)
    # Ids are unique in a file, not in a page of several.
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{svg.stem}-", text)
    # Without a size of its own it takes the width that the page gives it.
    head, tail = text.split(">", 1)
    return re.sub(r' (width|height)="[^"]*"', "", head) + ">" + tail


def update_readme(report: Report, readme: Path) -> None:
    """Put the study's table, figure and verdict into a README, and its data beside it.

    Args:
        report: what was made.
        readme: has markers for ``table``, ``figure`` and ``verdict``.
    """
    directory = readme.parent
    source = report.page.parent
    (directory / "results.csv").write_bytes((source / "results.csv").read_bytes())
    (directory / "figures").mkdir(exist_ok=True)
    for svg in report.figures.values():
        for path in (svg, svg.with_suffix(".png")):
            (directory / "figures" / path.name).write_bytes(path.read_bytes())
    first = report.collection.finished[0]
    commit = str(first.environment.get("git_commit"))[:12]
    versions = f"JAX {first.environment.get('jax')}, {first.environment.get('cpu')}"
    table = tables.markdown(tables.HEADINGS, tables.summary_rows(report.collection))
    note = (
        f"Means over seeds with 95 % t intervals. Commit {commit}, {versions}. Made by "
        f"`{command(report.collection)}`."
    )
    tables.insert_between_markers(readme, "table", f"{table}\n\n{note}")
    tables.insert_between_markers(
        readme, "figure", "\n\n".join(f"![{n}](figures/{n}.png)" for n in report.figures)
    )
    tests = "\n".join(f"- {c.claim} **{c.verdict}**: {c.words}." for c in report.comparisons)
    tables.insert_between_markers(readme, "verdict", f"{report.verdict}\n\n{tests}")
