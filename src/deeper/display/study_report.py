"""Output of ``deeper report``: a study's summary and verdict."""

from rich.console import Console

from deeper.display.terminal import tables
from deeper.study.report import Report
from deeper.study.tables import headings, spread_words, summary_rows


def print_report(report: Report, console: Console) -> None:
    """Print the summary, the verdict on the claim, and the command for missing runs."""
    collection = report.collection
    for table in tables(headings(collection), summary_rows(collection), console.width):
        console.print(table)
    console.print(f"{spread_words(collection)}.\n", style="dim")
    console.print(f"Claim: {collection.study.claim}")
    word = report.verdict.word
    console.print(f"{word.capitalize()}. {report.verdict.sentence}", style="bold")
    for finding in report.findings:
        console.print(f"- {finding.claim} {finding.verdict.capitalize()}.")
    if not collection.complete:
        console.print(f"\nTo run what is missing: {collection.command()}", soft_wrap=True)
    console.print()
