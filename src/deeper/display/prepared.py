"""Output of ``deeper prepare``: the splits and classes of a data set, and what was left out."""

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from deeper.config.data_sections import OwnDataset, Tfds
from deeper.data.encoded_images import Photographs
from deeper.data.image_files import describe_left_out
from deeper.data.prepare.image_folder import NAMED, UNREADABLE
from deeper.run.prepare_data import Prepared

NAMES_SHOWN = 10


def print_prepared(data: Any, prepared: Prepared, dataset: Any, console: Console) -> None:
    """Print where a data set is, what it has, and the command that trains on one of TFDS's.

    Args:
        data: a section of `config.data_sections`.
        prepared: what was done.
        dataset: as it was opened.
        console: where to print.
    """
    name, own = data.name, isinstance(data, OwnDataset)
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
