"""Logs later results of a run (figures, evaluations) to W&B, as a separate W&B run.

They cannot be logged to the W&B run of the training run, since its step has to equal the row number
of ``metrics.jsonl`` (see `wandb_upload`).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from deeper.errors import UserError
from deeper.record.schema import read_config
from deeper.record.wandb_id import run_id
from deeper.track.wandb_media import LONGEST_TABLE
from deeper.track.wandb_run import arm_and_group, quiet_settings
from deeper.track.wandb_switches import choose
from deeper.track.wandb_upload import allowed_mode

Warn = Callable[[str], None]
BY_CLASS, COUNTS = "_by_class", "n_by_class"  # ends of names, and the name that comes first


def log_pictures(path: Path, pictures: Mapping[str, Path], out: Path, warn: Warn) -> str | None:
    """Log figures to W&B, in the ``tracker.mode`` of the run.

    Args:
        path: the run directory.
        pictures: name -> path of a PNG file.
        out: directory for W&B's own files.
        warn: called with a message if W&B fails or is turned off.

    Returns:
        The mode, online or offline; None if nothing was logged.
    """

    def media(wandb: Any) -> dict[str, Any]:
        return {name: wandb.Image(str(file)) for name, file in pictures.items()}

    return _log(path, "see", "seen", out, media, f"the sheets are in {out}", warn)


def log_evaluation(path: Path, result: Mapping[str, Any], warn: Warn) -> str | None:
    """Log an evaluation to W&B as tables, in the ``tracker.mode`` of the run.

    The first table has one row with all numbers and strings of the result. A second one, where the
    task tells of classes or labels, has a row for each. Both are named after the protocol, so that
    W&B shows several protocols together.

    Args:
        path: the run directory.
        result: result of ``deeper evaluate``, with ``protocol``, and ``NAME_by_class``: class ->
            value.
        warn: called with a message if W&B fails or is turned off.

    Returns:
        The mode, online or offline; None if nothing was logged.
    """
    scalars = {k: v for k, v in result.items() if isinstance(v, (str, int, float))}
    told = {
        key.removesuffix(BY_CLASS): result[key]
        for key in sorted(result, key=lambda key: key != COUNTS)
        if key.endswith(BY_CLASS)
    }
    by_class = [
        [name, *(values.get(name) for values in told.values())]
        for name in next(iter(told.values()), ())
    ]

    def media(wandb: Any) -> dict[str, Any]:
        overall = wandb.Table(columns=list(scalars), data=[list(scalars.values())])
        if not told:
            return {result["protocol"]: overall}
        classes = wandb.Table(columns=["class", *told], data=by_class[:LONGEST_TABLE])
        return {result["protocol"]: overall, f"{result['protocol']}, by class": classes}

    out = path / "evaluation"
    out.mkdir(exist_ok=True)
    lost = "the result is printed, and in the files that were written"
    return _log(path, "evaluate", "evaluated", out, media, lost, warn)


class ShownResult(Protocol):
    """A result with a table and a figure, see `deeper.run.suite_reports.Report`."""

    @property
    def title(self) -> str:
        """Its name."""

    @property
    def headings(self) -> tuple[str, ...]:
        """The table's headings."""

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The table's rows."""

    @property
    def picture(self) -> Path:
        """The figure's file."""


def log_report(path: Path, report: ShownResult, warn: Warn) -> str | None:
    """Log a suite or the calibration to W&B as a table and a figure.

    Args:
        path: the run directory.
        report: what is logged, under its title.
        warn: called with a message if W&B fails or is turned off.

    Returns:
        The mode, online or offline; None if nothing was logged.
    """

    def media(wandb: Any) -> dict[str, Any]:
        table = wandb.Table(columns=list(report.headings), data=[list(row) for row in report.rows])
        return {report.title: table, f"{report.title}, figure": wandb.Image(str(report.picture))}

    out = path / "evaluation"
    out.mkdir(exist_ok=True)
    lost = "the result is printed, and in the files that were written"
    return _log(path, "evaluate", "evaluated", out, media, lost, warn)


def _log(
    path: Path,
    job: str,
    done: str,
    out: Path,
    media: Callable[[Any], dict[str, Any]],
    lost: str,
    warn: Warn,
) -> str | None:
    """Log the values that ``media`` returns to a W&B run of their own.

    Args:
        path: the run directory.
        job: the verb, which becomes the job type.
        done: last word of the name of the W&B run.
        out: directory for W&B's own files.
        media: module wandb -> values to log.
        lost: sentence part for the message if W&B fails: where else the values are.
        warn: called with a message if W&B fails or is turned off.
    """
    config = read_config(path) or {}
    tracker = config.get("tracker") or {"mode": "auto", "project": "deeper", "entity": None}
    choice = choose(tracker["mode"])
    if choice.mode == "disabled":
        warn(choice.notice())
        return None
    try:
        import wandb

        mode = allowed_mode(wandb, tracker["mode"])
        run = wandb.init(
            mode=mode,  # type: ignore[arg-type] # one of the literals
            project=tracker["project"] or None,  # empty if WANDB_PROJECT is set to nothing
            entity=tracker["entity"] or None,
            dir=str(out),
            id=f"{run_id(path)}-{job}"[-128:],
            name=f"{config['label']}-s{config['seed']}, {done}",
            group=arm_and_group(path, config)[1],
            job_type=job,
            resume="allow",
            settings=quiet_settings(wandb),
        )
        run.log(media(wandb))
        run.finish()
    except UserError as notice:
        warn(str(notice))
        return None
    except Exception as error:  # W&B raises many types; the values are on disk in any case
        warn(f"Weights & Biases failed ({str(error)[:200]}); {lost}.")
        return None
    return mode
