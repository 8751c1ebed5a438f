"""``deeper prepare data=NAME``: make a data set ready."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig
from rich import box
from rich.table import Table

from deeper.cli.live_display import bar
from deeper.cli.terminal import open_console
from deeper.data.catalogue import CATALOGUE
from deeper.data.dataset import open_dataset, prepared_directory
from deeper.data.encoded_images import Photographs
from deeper.data.image_files import LeftOut, describe_left_out
from deeper.data.prepare import shard_writer
from deeper.data.prepare.debian_photographs import cut_photographs
from deeper.data.prepare.image_folder import NAMED, UNREADABLE, Tree, checked, read_tree
from deeper.data.prepare.imagenet import read_imagenet
from deeper.data.prepare.jpeg_storage import UNTOUCHED, Storage
from deeper.data.prepare.prepare import prepare, prepare_photographs
from deeper.data.prepare.tfds_prepared import find_prepared
from deeper.errors import UserError
from deeper.run.dataset import is_own_folder, view_of

NAMES_SHOWN = 10


def run(config: DictConfig) -> None:
    """Prepare a data set, decode it once, and say what is there."""
    # The file is named because it is written to while TFDS's own output is held back.
    console = open_console(file=sys.stdout)
    name, data_dir = config.data.name, Path(config.data.dir)
    with bar(console) as shown:
        tasks = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(what, total=total)
            shown.update(tasks[what], completed=done)

        left_out: LeftOut = {}
        path = _make(config, progress, left_out)
        dataset = open_dataset(name, data_dir, progress, view_of(config.data))
    names = ", ".join(dataset.class_names[:NAMES_SHOWN])
    if len(dataset.class_names) > NAMES_SHOWN:
        names += " ..."
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("split")
    table.add_column("images", justify="right")
    for split, part in dataset.splits.items():
        table.add_row(split, f"{len(part):,}")
    height, width, channels = dataset.image_shape
    console.print(f"{name} is ready in {path}", soft_wrap=True)
    console.print(table)
    if left_out:
        console.print(describe_left_out(left_out), soft_wrap=True, markup=False)
        for error in left_out.get(UNREADABLE, [])[:NAMED]:
            console.print(f"  {error}", soft_wrap=True, markup=False)
    of_any_size = any(isinstance(part.images, Photographs) for part in dataset.splits.values())
    what = "photographs, shown" if of_any_size else "images"
    console.print(
        f"{what} at {height}x{width}x{channels}; {len(dataset.class_names)} classes: {names}"
    )
    if "test_fraction" in config.data:
        command = f"deeper train data=tfds data.name={name} data.classes={len(dataset.class_names)}"
        if not of_any_size:
            command += f" data.crop=null data.image_shape=[{height},{width},{channels}]"
        console.print(command, soft_wrap=True)


def _make(config: DictConfig, progress: Callable[[str, int, int], None], left_out: LeftOut) -> Path:
    """Prepare the data set, unless it is; return where, and note what is left out of it."""
    data = config.data
    name, data_dir = data.name, Path(data.dir)
    view = view_of(data)
    of_a_tree = view is not None and "test_fraction" not in data
    if not of_a_tree and (config.layout != UNTOUCHED or config.shorter_side is not None):
        raise UserError(
            f"layout and shorter_side are for photographs that are prepared here; {name} is stored "
            "as it is."
        )
    if is_own_folder(data) and name in (*CATALOGUE, "imagenet", "imagenet2012", "photos"):
        raise UserError(
            f"data.name={name} is the name of a known data set (deeper prepare data={name}): call "
            "your own by another."
        )
    if "test_fraction" in data:
        return find_prepared(name, data_dir)
    if view is None:
        original = Path(data.original_dir) if data.original_dir else None
        return prepare(name, data_dir, original, progress)
    scratch = data_dir / f".{name}-crops"

    def read() -> Tree:
        if "packages" in data:
            root = Path(data.source or "/")
            return cut_photographs(root, list(data.packages), dict(data.crops), scratch, progress)
        if data.source is None:
            raise UserError(
                f"Say where the photographs of {name} are: data.source=DIRECTORY, with "
                + (
                    "ImageNet's two tars or its tree of class folders in it."
                    if name == "imagenet"
                    else "train/CLASS and val/CLASS in it, or CLASS alone."
                )
            )
        if name == "imagenet":
            return read_imagenet(Path(data.source), progress)
        if data.on_bad not in ("raise", "skip"):
            raise UserError(f"data.on_bad={data.on_bad} is unknown; choose raise or skip.")
        tree = checked(read_tree(Path(data.source), data.fraction), data.on_bad, progress)
        left_out.update(tree.left_out)
        return tree

    storage = Storage(config.layout, config.shorter_side)
    before = prepared_directory(name, data_dir)
    path = prepare_photographs(name, data_dir, read, view.image_shape[2], storage, progress)
    shutil.rmtree(scratch, ignore_errors=True)
    if path == before and data.source is not None:
        _compare(data, path)
    return path


def _compare(data: DictConfig, path: Path) -> None:
    """Refuse a folder that is not what was prepared; say so where that is not looked at.

    Raises:
        UserError: it does not exist, or its files have other names or sizes.
    """
    source, anew = Path(data.source), f"To prepare it anew, move {path} away and repeat the command"
    if not source.is_dir():
        raise UserError(
            f"data.source={source}: there is no such directory; {data.name} was prepared before, "
            f"and is in {path}."
        )
    same = (
        shard_writer.is_of(path, read_tree(source, data.fraction)) if is_own_folder(data) else None
    )
    if same is None:
        print(f"{data.name} was prepared before: data.source={source} was not looked at. {anew}.")
    elif not same:
        raise UserError(
            f"data.source={source} has changed since {data.name} was prepared of it, or "
            f"data.fraction has: files have other names, sizes or splits. {anew}."
        )
