"""``deeper report study=NAME``: tables, figures and a page from the run directories."""

from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from deeper.cli.output_files import check_file
from deeper.config.compose import directories_of, set_also, stated
from deeper.config.identity import study_directory
from deeper.display.study_report import print_report
from deeper.display.terminal import open_console
from deeper.errors import UserError
from deeper.run.study_at_wandb import publish_report
from deeper.study.read_runs import LEFT_OPEN, words_of_all
from deeper.study.report import make_report, update_readme


def run(config: DictConfig) -> None:
    """Make a study's report; print its summary, and the path of the page as the last line."""
    hydra = HydraConfig.get()
    write_and_show(config, directories_of(hydra), hydra.overrides.task)


def write_and_show(
    config: DictConfig, directories: Sequence[Path] = (), typed: Sequence[str] = ()
) -> None:
    """Make the report; see `run`.

    Args:
        config: config of the command.
        directories: directories of the user's YAML files, for the commands that are shown.
        typed: overrides of the command.
    """
    if config.study is None:
        raise UserError("Say which study: deeper report study=depth_fashion.")
    if config.readme is not None:
        check_file(Path(config.readme), "readme")
    directory = study_directory(config.runs, config.study, config.mode.name)
    set_also(config, words_of_all(directory, "study."), typed)
    study = stated(config.study, LEFT_OPEN)
    report = make_report(directory, study, config.mode.name, directories)
    console = open_console()
    print_report(report, console)
    if config.readme is not None:
        update_readme(report, Path(config.readme))
        console.print(f"Brought up to date: {config.readme}", soft_wrap=True)
    if config.wandb:
        console.print(f"Weights & Biases: {publish_report(report)}", soft_wrap=True)
    console.print(str(report.page), soft_wrap=True)
