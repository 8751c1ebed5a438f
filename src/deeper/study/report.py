"""The report of a study: the claim, the verdict, and the results behind it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import jinja2
import yaml

from deeper.errors import UserError
from deeper.record.schema import RunRecord
from deeper.study import baseline, published, tables
from deeper.study.checks import check_base
from deeper.study.comparability import warnings
from deeper.study.figures import make_figures
from deeper.study.hypothesis_tests import Finding, examine_all
from deeper.study.means import FEWEST
from deeper.study.metrics import in_words
from deeper.study.read_runs import Collection, collect
from deeper.study.verdict import Verdict, judge

CAPTIONS = {
    "error": "{Metric} against {x}",
    "curves": "Training curves",
    "macs": "{Metric} against multiply-accumulates",
    "parameters": "{Metric} against parameters",
    "difference": "Difference to {base}",
    "overfitting": "Test {metric} against training {metric}",
    "bars": "Published numbers of the winners of ILSVRC",
}


@dataclass(frozen=True)
class Report:
    """A study's report.

    Attributes:
        collection: the runs.
        findings: result of each of the study's tests.
        verdict: verdict on the claim.
        page: path of report.html.
        figures: name -> path of the SVG; the PNG has the same stem.
    """

    collection: Collection
    findings: tuple[Finding, ...]
    verdict: Verdict
    page: Path
    figures: dict[str, Path]

    @property
    def table(self) -> tables.Table:
        """Return the summary, one row per arm."""
        headings = tables.headings(self.collection)
        return tables.Table(headings, tuple(tables.summary_rows(self.collection)))


def make_report(
    directory: Path,
    definition: Mapping[str, Any] | None = None,
    mode: str | None = None,
    config_directories: Sequence[Path | str] = (),
) -> Report:
    """Write results.csv, figures/ and report.html beside a study's runs.

    Args:
        directory: the study's directory.
        definition: the study; by default taken from its runs.
        mode: mode of the study; by default taken from its runs.
        config_directories: directories of the user's YAML files, for the commands that are shown.

    Raises:
        UserError: no run is finished, or the definition cannot be understood.
    """
    collection = collect(directory, definition, mode, config_directories)
    if collection.complete:
        check_base(collection.study, collection.finished)
    findings = examine_all(collection)
    verdict = judge(findings, collection)
    csv = tables.results_csv(collection)
    (directory / "results.csv").write_text(csv, encoding="utf-8", errors="backslashreplace")
    figures = make_figures(collection, directory / "figures")
    report = Report(collection, findings, verdict, directory / "report.html", figures)
    report.page.write_text(_page(report), encoding="utf-8", errors="backslashreplace")
    return report


def _page(report: Report) -> str:
    collection = report.collection
    study = collection.study
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("deeper.study", "."),
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    newest = max(collection.finished, key=lambda run: str(run.environment.get("started")))
    config = {key: value for key, value in newest.config.items() if key != "study"}
    environment = {
        key: value
        for key, value in newest.environment.items()
        if key not in ("git_diff", "run") and value is not None
    }
    expected = len(study.expected())
    return templates.get_template("report.html.j2").render(
        study=study,
        metric=in_words(study.metric),
        verdict=report.verdict,
        findings=report.findings,
        svg={name: _inline(path, caption(report, name)) for name, path in report.figures.items()},
        headings=tables.headings(collection),
        rows=tables.summary_rows(collection),
        compared=published.comparison_rows(collection),
        compared_headings=published.HEADINGS,
        published=tables.published_rows(study.published),
        finished=len(collection.finished),
        expected=expected,
        spread=tables.spread_words(collection),
        fewest=FEWEST,
        least_seeds=min(len(runs) for runs in tables.by_arm(collection).values()),
        most_seeds=max(len(runs) for runs in tables.by_arm(collection).values()),
        comparisons=0 if study.base is None else baseline.comparisons(collection),
        missing=_missing(collection),
        others=[run for run in collection.runs if run.status not in ("finished", "superseded")],
        warnings=warnings(collection),
        config=yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
        environment=environment,
        example=newest.path.name,
        commits=sorted({str(run.environment.get("git_commit")) for run in collection.finished}),
        command=collection.command(),
        report_command=collection.command("report"),
    )


def caption(report: Report, name: str) -> str:
    """Return a figure's caption, also used as its alternative text."""
    study = report.collection.study
    x = (study.x_label or study.x).split(" (")[0]
    metric = in_words(study.metric)
    names = {"metric": metric, "Metric": metric[:1].upper() + metric[1:]}
    return CAPTIONS[name].format(x=x, base=study.line_of(study.base), **names)


def _missing(collection: Collection) -> dict[str, str]:
    """Return the runs that have not been started: arm -> its seeds."""
    seeds: dict[str, list[str]] = {}
    for arm, seed in collection.missing:
        seeds.setdefault(arm, []).append(str(seed))
    return {
        arm: ("seeds " if len(those) > 1 else "seed ") + ", ".join(those)
        for arm, those in seeds.items()
    }


def _inline(svg: Path, title: str) -> str:
    """Return an SVG for inclusion in a page, at the full width of its container."""
    text = re.sub(r"^.*?(?=<svg)", "", svg.read_text(encoding="utf-8"), flags=re.S)
    # Ids are unique within an SVG file, but not in a page with several.
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{svg.stem}-", text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    head, tail = text.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    return f'{head} role="img" aria-label="{escape(title)}">{tail}'


def update_readme(report: Report, readme: Path) -> None:
    """Write a study's verdict, table and figures into a README, and its data into the same
    directory.

    Args:
        report: the report.
        readme: path of the README, with markers for ``verdict``, ``table`` and ``figure``;
            results.csv and figures/ are written to its directory.

    Raises:
        UserError: the file or a marker is missing.
    """
    collection = report.collection
    findings = "\n".join(
        f"- {f.claim} **{_capital(f.verdict)}**: {f.words}." for f in report.findings
    )
    notes = "\n".join(f"- {warning}" for warning in warnings(collection))
    table = tables.markdown(tables.headings(collection), tables.summary_rows(collection))
    parts = {
        "verdict": f"**{_capital(report.verdict.word)}.** {report.verdict.sentence}\n\n{findings}",
        "table": f"{table}\n\n{_origin(report)}\n\n{notes}",
        "figure": "\n\n".join(
            f"![{caption(report, name)}](figures/{name}.png)" + _under(report, name)
            for name in report.figures
        ),
    }
    if not readme.is_file():
        raise UserError(f"There is no {readme} to update: create it, with its markers.")
    before = readme.read_text(encoding="utf-8")
    try:
        for name, text in parts.items():
            tables.insert_between_markers(readme, name, text)
    except UserError:
        readme.write_text(before, encoding="utf-8")
        raise
    source, target = report.page.parent, readme.parent
    (target / "results.csv").write_bytes((source / "results.csv").read_bytes())
    (target / "figures").mkdir(exist_ok=True)
    for svg in report.figures.values():
        for path in (svg, svg.with_suffix(".png")):
            (target / "figures" / path.name).write_bytes(path.read_bytes())


def _under(report: Report, name: str) -> str:
    """Return what has to be known of the intervals in a figure, unlike those of the table."""
    count = baseline.comparisons(report.collection) if name == "difference" else 0
    if count < 2:
        return ""
    return (
        f"\n\n*Its {count} intervals hold at once with 95 % (Bonferroni); those of the table hold "
        "each by itself.*"
    )


def _origin(report: Report) -> str:
    """Return how the numbers of the table were measured."""
    made = {_machine(run) for run in report.collection.finished}
    return (
        f"{tables.spread_words(report.collection)}; every test image once, one view, one net. "
        f"Made by `{report.collection.command(places=False)}` ({'; '.join(sorted(made))})."
    )


def _machine(run: RunRecord) -> str:
    facts = run.environment
    device = facts.get("cpu") if facts.get("platform") == "cpu" else facts.get("device_kind")
    commit = str(facts.get("git_commit"))[:12]
    cores = f", {facts['cores']} cores a run" if facts.get("cores", 0) > 1 else ""
    return f"commit {commit}, JAX {facts.get('jax')}, {device}{cores}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
