"""``deeper prepare data=NAME``: make a data set ready."""

import sys
from pathlib import Path

from omegaconf import DictConfig
from rich import box
from rich.table import Table

from deeper.cli.run_keys import data_section
from deeper.config.data_sections import OwnDataset, Tfds
from deeper.data.dataset import open_dataset
from deeper.data.encoded_images import Photographs
from deeper.data.image_files import describe_left_out
from deeper.data.prepare.image_folder import NAMED, UNREADABLE
from deeper.display.run_display import progress_bar
from deeper.display.terminal import open_console
from deeper.run.dataset import open_data, view_of
from deeper.run.prepare_data import prepare_data

NAMES_SHOWN = 10


def run(config: DictConfig) -> None:
    """Prepare a data set, decode it once, and say what is there."""
    # The file is named because it is written to while TFDS's own output is held back.
    console = open_console(file=sys.stdout)
    data = data_section(config, classes=None)
    name, own = data.name, isinstance(data, OwnDataset)
    with progress_bar(console) as progress:
        prepared = prepare_data(
            data, layout=config.layout, shorter_side=config.shorter_side, progress=progress
        )
        for sentence in prepared.sentences:
            print(sentence)
        dataset = (
            open_data(data, progress)
            if own
            else open_dataset(name, Path(data.dir), progress, view_of(data))
        )
    names = ", ".join(dataset.class_names[:NAMES_SHOWN])
    if len(dataset.class_names) > NAMES_SHOWN:
        names += " ..."
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("split")
    table.add_column("examples" if own else "images", justify="right")
    for split, part in dataset.splits.items():
        table.add_row(split, f"{len(part):,}")
    console.print(f"{name} is ready in {prepared.path}", soft_wrap=True)
    console.print(table)
    if prepared.kinds:
        taken = ", ".join(f"{count:,} {kind}" for kind, count in prepared.kinds.most_common())
        console.print(f"files taken in: {taken}", soft_wrap=True, markup=False)
    if prepared.left_out:
        console.print(describe_left_out(prepared.left_out), soft_wrap=True, markup=False)
        for error in prepared.left_out.get(UNREADABLE, [])[:NAMED]:
            console.print(f"  {error}", soft_wrap=True, markup=False)
    for split, why in dataset.unused.items():
        console.print(f"not read: {split}, {why}", soft_wrap=True, markup=False)
    if own:
        console.print(f"{len(dataset.class_names)} classes: {names}", soft_wrap=True, markup=False)
        return
    height, width, channels = dataset.image_shape
    of_any_size = any(isinstance(part.images, Photographs) for part in dataset.splits.values())
    what = "photographs, shown" if of_any_size else "images"
    console.print(
        f"{what} at {height}x{width}x{channels}; {len(dataset.class_names)} classes: {names}"
    )
    if isinstance(data, Tfds):
        command = f"deeper train data=tfds data.name={name} data.classes={len(dataset.class_names)}"
        if not of_any_size:
            command += f" data.crop=null data.image_shape=[{height},{width},{channels}]"
        console.print(command, soft_wrap=True)
