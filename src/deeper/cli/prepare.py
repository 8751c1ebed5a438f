"""``deeper prepare data=NAME``: make a data set ready."""

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from deeper.data.prepare import known_entry, prepare
from deeper.data.sources import open_dataset


def run(config: DictConfig) -> None:
    """Prepare a data set, decode it once, and say what is there."""
    console = Console(width=100, highlight=False)
    name, data_dir = config.data.name, Path(config.data.dir)
    known_entry(name)
    original = Path(config.data.original_dir) if config.data.original_dir else None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        tasks = {}

        def progress(split: str, done: int, total: int) -> None:
            if split not in tasks:
                tasks[split] = bar.add_task(f"{name} {split}", total=total)
            bar.update(tasks[split], completed=done)

        path = prepare(name, data_dir, original, progress)
        dataset = open_dataset(name, data_dir, progress)
    sizes = ", ".join(f"{split} {len(part):,}" for split, part in dataset.splits.items())
    height, width, channels = dataset.image_shape
    console.print(
        f"{name} is ready in {path}: {sizes} images of {height}x{width}x{channels}, "
        f"{len(dataset.class_names)} classes",
        soft_wrap=True,
    )
