"""Logs later results of a run (figures, evaluations) to W&B, as a separate W&B run.

They cannot be logged to the W&B run of the training run, since its step has to equal the row number
of ``metrics.jsonl`` (see `wandb_upload`).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deeper.errors import UserError
from deeper.record.schema import read_config
from deeper.record.wandb_id import run_id
from deeper.track.wandb_switches import choose
from deeper.track.wandb_upload import LONGEST_TABLE, allowed_mode, quiet_settings

Warn = Callable[[str], None]
BY_CLASS = "_by_class"  # ends the keys of numbers by class


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
    """Log an evaluation to W&B as two tables, in the ``tracker.mode`` of the run.

    The first table has one row with all numbers and strings of the result, the second one row per
    class. Both are named after the protocol, so that W&B shows several protocols together.

    Args:
        path: the run directory.
        result: result of ``deeper evaluate``, with ``protocol``, ``n_by_class`` and other numbers
            by class, such as ``error_by_class``.
        warn: called with a message if W&B fails or is turned off.

    Returns:
        The mode, online or offline; None if nothing was logged.
    """
    scalars = {k: v for k, v in result.items() if isinstance(v, (str, int, float))}
    counts = result["n_by_class"]
    numbers = {
        key.removesuffix(BY_CLASS): values
        for key, values in result.items()
        if key.endswith(BY_CLASS) and key != "n_by_class"
    }
    by_class = [
        [name, count, *(values.get(name) for values in numbers.values())]
        for name, count in counts.items()
    ]

    def media(wandb: Any) -> dict[str, Any]:
        overall = wandb.Table(columns=list(scalars), data=[list(scalars.values())])
        classes = wandb.Table(columns=["class", "n", *numbers], data=by_class[:LONGEST_TABLE])
        return {result["protocol"]: overall, f"{result['protocol']}, by class": classes}

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
            group=(config.get("study") or {}).get("name"),
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
