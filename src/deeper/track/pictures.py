"""Sheets drawn of a run, as a W&B run of their own beside the run's mirror.

In the mirror itself they would take steps that belong to rows of the record (see `upload`).
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from deeper.track.mirror import chosen_mode
from deeper.track.run_directory import read_config
from deeper.track.upload import quiet_settings, run_id


def log_pictures(
    path: Path, pictures: Mapping[str, Path], out: Path, warn: Callable[[str], None]
) -> str | None:
    """Send pictures to W&B, as ``tracker.mode`` of the run says.

    Args:
        path: the run directory.
        pictures: name -> PNG.
        out: where W&B's own files go.
        warn: told if W&B is off or fails.

    Returns:
        The mode that they were sent in; None if they were not.
    """
    config = read_config(path) or {}
    tracker = config.get("tracker") or {"mode": "auto", "project": "deeper", "entity": None}
    mode = chosen_mode(tracker["mode"])
    if mode == "disabled":
        warn("Weights & Biases is turned off: the sheets were not sent.")
        return None
    try:
        import wandb

        run = wandb.init(
            mode=mode,  # type: ignore[arg-type] # a str that is one of them
            project=tracker["project"],
            entity=tracker["entity"],
            dir=str(out),
            id=f"{run_id(path)}-see"[-128:],
            name=f"{config['label']}-s{config['seed']}, seen",
            group=(config.get("study") or {}).get("name"),
            job_type="see",
            resume="allow",
            settings=quiet_settings(wandb),
        )
        run.log({name: wandb.Image(str(file)) for name, file in pictures.items()})
        run.finish()
    except Exception as error:  # whatever W&B raises: the sheets lie on the disk all the same
        warn(f"Weights & Biases failed ({str(error)[:200]}); the sheets are in {out}.")
        return None
    return mode
