"""``deeper evaluate run=DIRECTORY protocol=NAME|suite=NAME``: evaluates a checkpoint."""

from pathlib import Path

from omegaconf import DictConfig

from deeper.cli.output_files import check_file
from deeper.cli.run_keys import moved_to, other_data
from deeper.config.schema import RunConfig
from deeper.config.settings import plain
from deeper.display.evaluation import print_result, print_suite
from deeper.display.run_display import progress_bar
from deeper.display.terminal import open_console
from deeper.record.atomic_files import to_json
from deeper.run import load
from deeper.run.evaluate import evaluate_run
from deeper.run.protocols import ProtocolRequest
from deeper.run.suite_reports import report_of, require_fitting_keys
from deeper.track.wandb_results import log_evaluation, log_report


def run(config: DictConfig) -> None:
    """Evaluate a checkpoint; print and write the metrics."""
    require_fitting_keys(config)
    if config.out is not None:
        check_file(Path(config.out), "out")
    if config.results is not None:
        check_file(Path(config.results), "results")
    path, console = Path(config.run), open_console(stderr=True)
    keys = ("protocol", "size", "shorter_side", "scales", "padding")
    request = ProtocolRequest(**{key: plain(config[key]) for key in keys})
    of_run = load.config_of(path, "run", moved_to(config))
    if config.suite is not None or config.calibration:
        _report(config, path, of_run, request)
        return
    with progress_bar(console) as progress:
        result = evaluate_run(
            path,
            of_run,
            request=request,
            split=config.split,
            checkpoint=config.checkpoint,
            other=other_data(config, of_run.data.classes),
            labels=None if config.labels is None else Path(config.labels),
            batch_size=config.batch_size,
            only=config.only,
            results=None if config.results is None else Path(config.results),
            progress=progress,
        )
    print_result(result, config.split, open_console(), console)
    if config.out is not None:
        Path(config.out).write_bytes(to_json(result, indent=2))
    if config.wandb:
        mode = log_evaluation(path, result, lambda line: console.print(line, soft_wrap=True))
        if mode:
            console.print(f"{result['protocol']}: tables to Weights & Biases, {mode}")


def _report(config: DictConfig, path: Path, of_run: RunConfig, request: ProtocolRequest) -> None:
    """Run a suite, or measure the calibration; print the table, and name what was written."""
    console = open_console(stderr=True)
    with progress_bar(console) as progress:
        report = report_of(config, path, of_run, request, progress)
    print_suite(report, open_console(), console)
    if config.out is not None:
        Path(config.out).write_bytes(to_json(report.result, indent=2))
    if config.wandb:
        log_report(path, report, lambda line: console.print(line, soft_wrap=True))
