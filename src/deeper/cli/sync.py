"""``deeper sync``: send the records of runs to Weights & Biases."""

from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from deeper.display.run_display import bar
from deeper.display.terminal import open_console
from deeper.errors import UserError
from deeper.track.sync import find_runs, sync


def run(config: DictConfig) -> None:
    """Send the rows that W&B does not have yet, and print their number."""
    console = open_console()
    paths = find_runs(Path(config.runs))
    sent: dict[Path, int] = {}
    with bar(console) as progress:
        task = progress.add_task("sending", total=len(paths))
        for path in paths:
            sent |= sync([path], mode=config.upload, warn=partial(console.print, soft_wrap=True))
            progress.advance(task)
    fresh = {path: rows for path, rows in sent.items() if rows}
    for path, rows in fresh.items():
        console.print(f"{path}: {rows} rows", soft_wrap=True)
    console.print(f"{len(paths)} runs, {len(fresh)} of them with something new")
    if len(sent) < len(paths):
        raise UserError(
            f"{len(paths) - len(sent)} of {len(paths)} runs could not be sent, for the reasons "
            "above. Repeat the command for them."
        )
