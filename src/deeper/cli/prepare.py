"""``deeper prepare data=NAME``: make a data set ready."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from deeper.cli.splits import view_of
from deeper.data.debian import cut_photographs
from deeper.data.folder import Tree, read_tree
from deeper.data.imagenet import read_imagenet
from deeper.data.prepare import known_entry, prepare, prepare_photographs
from deeper.data.sources import open_dataset, prepared_directory
from deeper.errors import UserError

NAMES_SHOWN = 10


def run(config: DictConfig) -> None:
    """Prepare a data set, decode it once, and say what is there."""
    # The file is named because it is written to while TFDS's own output is held back.
    console = Console(file=sys.stdout, highlight=False)
    name, data_dir = config.data.name, Path(config.data.dir)
    photographs = view_of(config.data)
    there = prepared_directory(name, data_dir) is not None
    if photographs is None:
        known_entry(name)
    elif config.data.source is None and not there and "packages" not in config.data:
        raise UserError(
            f"Say where the photographs of {name} are: data.source=DIRECTORY, with "
            + (
                "ImageNet's two tars or its tree of class folders in it."
                if name == "imagenet"
                else "train/CLASS and val/CLASS in it, or CLASS alone."
            )
        )
    original = Path(config.data.original_dir) if config.data.original_dir else None
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        tasks = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)

        if photographs is None:
            path = prepare(name, data_dir, original, progress)
        else:
            channels, scratch = photographs.image_shape[2], data_dir / f".{name}-crops"
            read = _reader(config, scratch, progress)
            path = prepare_photographs(name, data_dir, read, channels, progress)
            shutil.rmtree(scratch, ignore_errors=True)
        dataset = open_dataset(name, data_dir, progress, photographs)
    shown = ", ".join(dataset.class_names[:NAMES_SHOWN])
    if len(dataset.class_names) > NAMES_SHOWN:
        shown += " ..."
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("split")
    table.add_column("images", justify="right")
    for split, part in dataset.splits.items():
        table.add_row(split, f"{len(part):,}")
    height, width, channels = dataset.image_shape
    console.print(f"{name} is ready in {path}", soft_wrap=True)
    console.print(table)
    what = "photographs, shown" if photographs else "images"
    console.print(
        f"{what} at {height}x{width}x{channels}; {len(dataset.class_names)} classes: {shown}"
    )


def _reader(
    config: DictConfig, scratch: Path, progress: Callable[[str, int, int], None]
) -> Callable[[], Tree]:
    """Return what finds the photographs; it is not called if they are prepared."""
    data = config.data
    source = Path(data.source or "")
    if "packages" in data:
        root = Path(data.source or "/")
        return lambda: cut_photographs(root, data.packages, data.crops, scratch, progress)
    if data.name == "imagenet":
        return lambda: read_imagenet(source, progress)
    return lambda: read_tree(source, data.fraction)
