"""``deeper report study=NAME``: tables, figures and a page from the run directories."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue
from rich.console import Console

from deeper.cli.output_files import check_file
from deeper.config.compose import directories_of
from deeper.config.identity import study_directory
from deeper.display.terminal import open_console, tables
from deeper.errors import UserError
from deeper.study.read_runs import LEFT_OPEN
from deeper.study.report import Report, make_report, update_readme
from deeper.study.tables import headings, spread_words, summary_rows


def run(config: DictConfig) -> None:
    """Make a study's report; print its summary, and the path of the page as the last line."""
    write_and_show(config, directories_of(HydraConfig.get()))


def write_and_show(config: DictConfig, directories: Sequence[Path] = ()) -> None:
    """Make the report; see `run`.

    Args:
        config: config of the command.
        directories: directories of the user's YAML files, for the commands that are shown.
    """
    if config.study is None:
        raise UserError("Say which study: deeper report study=depth_fashion.")
    if config.readme is not None:
        check_file(Path(config.readme), "readme")
    study = _stated(config)
    directory = study_directory(config.runs, study, config.mode.name)
    report = make_report(directory, study, config.mode.name, directories)
    console = open_console()
    _show(report, console)
    if config.readme is not None:
        update_readme(report, Path(config.readme))
        console.print(f"Brought up to date: {config.readme}", soft_wrap=True)
    console.print(str(report.page), soft_wrap=True)


def _stated(config: DictConfig) -> dict[str, Any]:
    """Return the study of the config, with `LEFT_OPEN` for values that only the runs were given.

    An example is ``data.name`` of a study on a user's photographs.
    """
    stated: dict[str, Any] = {}
    for key in config.study:
        try:
            value = config.study[key]
            is_node = OmegaConf.is_config(value)
            stated[str(key)] = (
                OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
                if is_node
                else value
            )
        except (MissingMandatoryValue, InterpolationToMissingValueError):
            stated[str(key)] = LEFT_OPEN
    return stated


def _show(report: Report, console: Console) -> None:
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
