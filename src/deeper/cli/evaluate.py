"""``deeper evaluate run=DIRECTORY protocol=NAME``: evaluates a checkpoint on a split."""

import json
from pathlib import Path

from omegaconf import DictConfig

from deeper.cli.output_files import check_file
from deeper.cli.run_keys import moved_to, other_data
from deeper.config.settings import plain
from deeper.display.run_display import progress_bar
from deeper.display.terminal import open_console
from deeper.record.atomic_files import finite, to_json
from deeper.run import load
from deeper.run.evaluate import evaluate_run
from deeper.run.protocols import ProtocolRequest
from deeper.track.wandb_results import log_evaluation

TOO_LONG = ("_by_class", "unreadable")  # ends of keys whose values are not printed


def run(config: DictConfig) -> None:
    """Evaluate a checkpoint; print and write the metrics."""
    if config.out is not None:
        check_file(Path(config.out), "out")
    if config.results is not None:
        check_file(Path(config.results), "results")
    path, console = Path(config.run), open_console(stderr=True)
    keys = ("protocol", "size", "shorter_side", "scales", "padding")
    request = ProtocolRequest(**{key: plain(config[key]) for key in keys})
    of_run = load.config_of(path, "run", moved_to(config))
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
    shown = {key: value for key, value in result.items() if not key.endswith(TOO_LONG)}
    open_console().print(json.dumps(finite(shown), indent=2), soft_wrap=True)
    split = config.split
    if unanswered := result.get(f"{split}/n_unanswered"):
        console.print(
            f"{unanswered:,} of {result[f'{split}/n_seen']:,} answers of the net are NaN or "
            "infinite; they count as wrong."
        )
    if (count := result.get("classes_in_data")) is not None:
        console.print(
            f"{result['data']} has {count:,} of the net's {result['classes_of_net']:,} classes; it "
            f"chose among {result['chosen_among']} (only=subset: among those in the data)."
        )
    if config.out is not None:
        Path(config.out).write_bytes(to_json(result, indent=2))
    if config.wandb:
        mode = log_evaluation(path, result, lambda line: console.print(line, soft_wrap=True))
        if mode:
            console.print(f"{result['protocol']}: two tables to Weights & Biases, {mode}")
