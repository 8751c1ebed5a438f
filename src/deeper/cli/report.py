"""``deeper report study=NAME``: tables, figures and a page from the run directories alone."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from deeper.cli.study_directory import study_directory
from deeper.errors import UserError
from deeper.study.report import make_report, update_readme
from deeper.study.tables import HEADINGS, summary_rows


def run(config: DictConfig) -> None:
    """Make a study's report and print its summary."""
    if config.study is None:
        raise UserError("Say which study: deeper report study=depth_fashion.")
    console = Console(width=100, highlight=False)
    study: Any = OmegaConf.to_container(config.study, resolve=True)
    directory = study_directory(config.runs, study, config.mode.name)
    report = make_report(directory, study)
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for number, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if number == 0 else "right", no_wrap=True)
    for row in summary_rows(report.collection):
        table.add_row(*row)
    console.print(table)
    console.print()
    console.print(f"Claim: {config.study.claim}")
    console.print(report.verdict)
    for comparison in report.comparisons:
        console.print(f"  {comparison.claim} {comparison.verdict.capitalize()}.")
    unfinished = [r for r in report.collection.runs if r.status != "finished"]
    if unfinished or report.collection.missing:
        console.print(
            f"{len(unfinished)} runs are not finished, {len(report.collection.missing)} missing."
        )
    if config.readme is not None:
        update_readme(report, Path(config.readme))
        console.print(f"Updated {config.readme}")
    console.print(f"\n{report.page}", soft_wrap=True)
