"""``deeper report study=NAME``: tables, figures and a page from the run directories alone."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from deeper.cli.outputs import check_file
from deeper.config.identity import study_directory
from deeper.errors import UserError
from deeper.study.report import Report, make_report, update_readme
from deeper.study.tables import headings, summary_rows


def run(config: DictConfig) -> None:
    """Make a study's report, print its summary, and as the last line the page's path."""
    if config.study is None:
        raise UserError("Say which study: deeper report study=depth_fashion.")
    if config.readme is not None:
        check_file(Path(config.readme), "readme")
    study: Any = OmegaConf.to_container(config.study, resolve=True)
    directory = study_directory(config.runs, study, config.mode.name)
    report = make_report(directory, study, config.mode.name)
    console = Console(width=100, highlight=False)
    _show(report, console)
    if config.readme is not None:
        update_readme(report, Path(config.readme))
        console.print(f"Brought up to date: {config.readme}", soft_wrap=True)
    console.print(str(report.page), soft_wrap=True, markup=False)


def _show(report: Report, console: Console) -> None:
    collection = report.collection
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for number, heading in enumerate(headings(collection)):
        table.add_column(heading, justify="left" if number == 0 else "right")
    for row in summary_rows(collection):
        table.add_row(*row)
    console.print(table)
    console.print("Means over n seeds, ± half the 95 % t interval.\n", style="dim")
    console.print(f"Claim: {collection.study.claim}", markup=False)
    word = report.verdict.word
    console.print(f"{word.capitalize()}. {report.verdict.sentence}", markup=False, style="bold")
    for finding in report.findings:
        console.print(f"- {finding.claim} {finding.verdict.capitalize()}.", markup=False)
    if not collection.complete:
        console.print(f"\nTo run what lacks: {collection.command()}", soft_wrap=True)
    console.print()
