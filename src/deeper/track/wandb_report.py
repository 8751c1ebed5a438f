"""The report of a study at W&B: its claim and table, error against depth, and curves by arm.

The panels are W&B's own, over the runs that count in the report here, so that they are of the same
numbers and stay interactive. The package wandb-workspaces writes what W&B reads.
"""

import io
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeper.errors import UserError
from deeper.record.atomic_files import read_json, to_json, write_whole
from deeper.track.wandb_process import has_api_key
from deeper.track.wandb_switches import choose

LONGEST_TITLE = 128  # characters that W&B takes
KEPT = "wandb-report.json"  # in the study's directory: the report that the next one replaces


@dataclass(frozen=True)
class Page:
    """What a report at W&B shows.

    Attributes:
        title: of the report.
        claim: of the study.
        verdict: in a sentence.
        findings: a sentence for each test.
        table: in Markdown.
        x: key of the x axis, and whether it is in the config or the summary; None if the nets have
            no order.
        metric: key of the summary that is compared.
        labels: of the x axis and the metric.
        curves: logged metrics that are drawn against the step.
        runs: W&B ids of the runs that count.
        tracker: section of the config with mode, project and entity.
    """

    title: str
    claim: str
    verdict: str
    findings: Sequence[str]
    table: str
    x: tuple[str, str] | None
    metric: str
    labels: tuple[str, str]
    curves: Sequence[str]
    runs: Sequence[str]
    tracker: Mapping[str, Any]


def publish(page: Page, directory: Path) -> str:
    """Write a study's report at W&B, in the place of an earlier one; return its address.

    Args:
        page: what it shows.
        directory: of the study, which keeps the report's id.

    Raises:
        UserError: the package is missing, W&B is turned off, offline, or refuses.
    """
    reports = _package()
    choice = choose(page.tracker["mode"])
    if choice.mode in ("disabled", "offline"):
        raise UserError(f"wandb=true: W&B is {choice.mode} by {choice.by}, and a report is online.")
    if not has_api_key():
        raise UserError(
            "wandb=true: there is no W&B API key. Run `wandb login`, or set WANDB_API_KEY."
        )
    said = io.StringIO()
    try:
        with redirect_stderr(said), redirect_stdout(said):
            report = report_of(page, reports)
            report.id = (read_json(directory / KEPT) or {}).get("id", "")
            report.save()
            address = str(report.url)
    except Exception as error:  # W&B raises many types
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"wandb=true: W&B has not taken the report ({reason[:200]}).") from error
    write_whole(directory / KEPT, to_json({"id": report.id, "url": address}))
    return address


def _package() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pydantic, about the package's own code
            import wandb_workspaces.reports.v2 as reports
    except ImportError as error:
        raise UserError(
            "wandb=true needs the extra workspaces: run scripts/setup workspaces, or pip install "
            "wandb-workspaces."
        ) from error
    return reports


def report_of(page: Page, reports: Any) -> Any:
    """Return the report, which is not saved.

    Args:
        page: what it shows.
        reports: the module ``wandb_workspaces.reports.v2``.
    """
    place: dict[str, Any] = {"project": page.tracker["project"] or "uncategorized"}
    if page.tracker["entity"]:
        place["entity"] = page.tracker["entity"]
    report = reports.Report(title=page.title[:LONGEST_TITLE], description=page.claim, **place)
    ids = ", ".join(f"'{one}'" for one in page.runs)
    runs = reports.Runset(
        entity=report.entity,
        project=report.project,
        name="runs that count",
        filters=f"Metric('ID') in [{ids}]",
        groupby=["group"],
    )
    report.blocks = [
        reports.CalloutBlock(text=[page.claim]),
        reports.P(page.verdict),
        *([reports.UnorderedList(list(page.findings))] if page.findings else []),
        reports.MarkdownBlock(page.table),
        reports.PanelGrid(runsets=[runs], panels=_panels(page, reports)),
    ]
    report.width = "fluid"
    return report


def _panels(page: Page, reports: Any) -> list[Any]:
    """Return the panels: the metric against x and by arm, and a curve for each logged metric."""
    x_label, metric_label = page.labels
    metric = reports.SummaryMetric(page.metric)
    panels = []
    if page.x is not None:
        section, key = page.x
        kind = reports.Config if section == "config" else reports.SummaryMetric
        title = f"{metric_label} against {x_label or key}"
        panels.append(reports.ScatterPlot(title=title, x=kind(key), y=metric))
    mean = {"groupby": "Group", "groupby_aggfunc": "mean"}
    panels.append(
        reports.BarPlot(
            title=f"{metric_label} by arm", metrics=[metric], groupby_rangefunc="minmax", **mean
        )
    )
    for curve in page.curves:
        panels.append(
            reports.LinePlot(title=curve, x="step", y=[curve], groupby_rangefunc="minmax", **mean)
        )
    for number, panel in enumerate(panels):
        panel.layout = reports.Layout(x=12 * (number % 2), y=9 * (number // 2), w=12, h=9)
    return panels
