"""What a study's report shows at Weights & Biases."""

from deeper.errors import UserError
from deeper.record.schema import nested
from deeper.record.wandb_id import run_id
from deeper.study import tables
from deeper.study.report import Report
from deeper.track.wandb_report import Page, publish


def publish_report(report: Report) -> str:
    """Write a study's report at W&B, in the project of its newest run; return its address.

    Raises:
        UserError: wandb-workspaces is missing, W&B is turned off, offline, or refuses; or the runs
            are in several projects.
    """
    return publish(page_of(report), report.page.parent)


def page_of(report: Report) -> Page:
    """Return what the report shows: its runs, words and table.

    Raises:
        UserError: the runs are in several projects, and a report shows one.
    """
    collection, study = report.collection, report.collection.study
    trackers = [nested(run.config, "tracker", {}) for run in collection.finished]
    places = {(one.get("entity"), one.get("project")) for one in trackers}
    if len(places) > 1:
        named = ", ".join(sorted(f"{entity or 'default'}/{project}" for entity, project in places))
        raise UserError(f"wandb=true: the runs are in several projects of W&B ({named}).")
    word = report.verdict.word
    findings = [f"{f.claim} {f.verdict.capitalize()}: {f.words}." for f in report.findings]
    table = tables.markdown(tables.headings(collection), tables.summary_rows(collection))
    return Page(
        title=study.title or study.name,
        claim=study.claim,
        verdict=f"{word.capitalize()}. {report.verdict.sentence}",
        findings=findings,
        table=f"{table}\n\n{tables.spread_words(collection)}.",
        x=_axis(report),
        metric=study.metric,
        labels=(study.x_label, study.metric_label),
        curves=_curves(report),
        runs=[run_id(run.path) for run in collection.finished],
        tracker={"mode": "auto", "project": "deeper", "entity": None, **trackers[-1]},
    )


def _axis(report: Report) -> tuple[str, str] | None:
    """Return where W&B has the numbers of the x axis; None if they are no numbers."""
    collection, key = report.collection, report.collection.study.x
    if any(run.number(key) is None for run in collection.finished):
        return None
    in_summary = all(key in run.facts for run in collection.finished)
    return ("summary" if in_summary else "config", key)


def _curves(report: Report) -> list[str]:
    """Return the losses and metrics of training and validation that the runs have logged."""
    name = report.collection.study.metric.rpartition("/")[2]
    logged = {key for run in report.collection.finished for row in run.rows for key in row}
    wished = ("train/loss", "validation/loss", f"train/{name}", f"validation/{name}")
    return [key for key in dict.fromkeys(wished) if key in logged]
