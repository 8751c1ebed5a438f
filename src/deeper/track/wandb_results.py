"""What is found out about a run afterwards, as a W&B run of its own beside the run's mirror.

In the mirror itself it would take steps that belong to rows of the record (see `wandb_upload`).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deeper.errors import UserError
from deeper.record.run_directory import read_config
from deeper.record.wandb_id import run_id
from deeper.track.wandb_switches import choose
from deeper.track.wandb_upload import LONGEST_TABLE, allowed_mode, quiet_settings

Warn = Callable[[str], None]


def log_pictures(path: Path, pictures: Mapping[str, Path], out: Path, warn: Warn) -> str | None:
    """Send pictures to W&B, as ``tracker.mode`` of the run says.

    Args:
        path: the run directory.
        pictures: name -> PNG.
        out: where W&B's own files go.
        warn: told if W&B is off or fails.

    Returns:
        The mode that they were sent in; None if they were not.
    """

    def media(wandb: Any) -> dict[str, Any]:
        return {name: wandb.Image(str(file)) for name, file in pictures.items()}

    return _log(path, "see", "seen", out, media, f"the sheets are in {out}", warn)


def log_evaluation(path: Path, result: Mapping[str, Any], warn: Warn) -> str | None:
    """Send an evaluation to W&B as two tables, as ``tracker.mode`` of the run says.

    One has a row with every number and word of the result, the other a row a class. They are called
    by the protocol, so that those of several protocols lie beside each other.

    Args:
        path: the run directory.
        result: of ``deeper evaluate``, with ``protocol``, ``error_by_class`` and ``n_by_class``.
        warn: told if W&B is off or fails.

    Returns:
        The mode that it was sent in; None if it was not.
    """
    scalars = {k: v for k, v in result.items() if isinstance(v, (str, int, float))}
    counts = result["n_by_class"]
    by_class = [[name, counts[name], error] for name, error in result["error_by_class"].items()]

    def media(wandb: Any) -> dict[str, Any]:
        whole = wandb.Table(columns=list(scalars), data=[list(scalars.values())])
        classes = wandb.Table(columns=["class", "n", "error"], data=by_class[:LONGEST_TABLE])
        return {result["protocol"]: whole, f"{result['protocol']}, by class": classes}

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
    """Send what ``media`` makes of W&B's module.

    Args:
        path: the run directory.
        job: the verb.
        done: what the W&B run's name says of the run.
        out: where W&B's own files go.
        media: wandb -> what is logged.
        lost: where it is all the same if W&B fails.
        warn: told if W&B is off or fails.
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
            mode=mode,  # type: ignore[arg-type] # a str that is one of them
            project=tracker["project"] or None,  # empty: WANDB_PROJECT= was
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
    except Exception as error:  # whatever W&B raises: it lies on the disk all the same
        warn(f"Weights & Biases failed ({str(error)[:200]}); {lost}.")
        return None
    return mode
