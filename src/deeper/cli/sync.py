"""``deeper sync``: send the records of runs to Weights & Biases."""

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track

from deeper.errors import UserError
from deeper.track.sync import find_runs, sync


def run(config: DictConfig) -> None:
    """Send what W&B does not have yet, and say how much that was."""
    console = Console(width=100, highlight=False)
    paths = find_runs(Path(config.runs))
    sent: dict[Path, int] = {}
    for path in track(paths, "sending", console=console, transient=True):
        sent |= sync([path], mode=config.upload, warn=console.print)
    fresh = {path: rows for path, rows in sent.items() if rows}
    for path, rows in fresh.items():
        console.print(f"{path}: {rows} rows", soft_wrap=True)
    console.print(f"{len(paths)} runs, {len(fresh)} of them with something new")
    if len(sent) < len(paths):
        raise UserError(
            f"{len(paths) - len(sent)} of {len(paths)} runs could not be sent, for the reasons "
            "above. Repeat the command for them."
        )
