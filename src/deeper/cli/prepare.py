"""``deeper prepare data=NAME``: make a data set ready."""

import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich import box
from rich.table import Table

from deeper.cli.live_display import bar
from deeper.cli.run_keys import data_section
from deeper.cli.terminal import open_console
from deeper.config.data_sections import DebianPhotographs, Tfds
from deeper.data.catalogue import CATALOGUE
from deeper.data.dataset import open_dataset, prepared_directory
from deeper.data.encoded_images import Photographs
from deeper.data.image_files import LeftOut, told
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
    data = data_section(config, classes=None)
    name, data_dir = data.name, Path(data.dir)
    with bar(console) as shown:
        tasks = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(what, total=total)
            shown.update(tasks[what], completed=done)

        left_out: LeftOut = {}
        kinds: Counter[str] = Counter()
        path = _make(config, progress, left_out, kinds)
        dataset = open_dataset(name, data_dir, progress, view_of(data))
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
    if kinds:
        taken = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
        console.print(f"files taken in: {taken}", soft_wrap=True, markup=False)
    if left_out:
        console.print(told(left_out), soft_wrap=True, markup=False)
        for error in left_out.get(UNREADABLE, [])[:NAMED]:
            console.print(f"  {error}", soft_wrap=True, markup=False)
    for split, why in dataset.unused.items():
        console.print(f"not read: {split}, {why}", soft_wrap=True, markup=False)
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


def _make(
    config: DictConfig,
    progress: Callable[[str, int, int], None],
    left_out: LeftOut,
    kinds: Counter[str],
) -> Path:
    """Prepare the data set, unless it is; return where, and note what is taken in and left out."""
    data = data_section(config, classes=None)
    name, data_dir = data.name, Path(data.dir)
    view = view_of(data)
    of_a_tree = view is not None and not isinstance(data, Tfds)
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
    if isinstance(data, Tfds):
        return find_prepared(name, data_dir)
    if view is None:
        original = Path(data.original_dir) if data.original_dir else None
        return prepare(name, data_dir, original, progress)
    scratch = data_dir / f".{name}-crops"

    def read() -> Tree:
        if isinstance(data, DebianPhotographs):
            root = Path(data.source or "/")
            return cut_photographs(
                root, list(data.packages), dict(data.crops or {}), scratch, progress
            )
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
            tree = read_imagenet(Path(data.source), progress)
            left_out.update(tree.left_out)
            return tree
        if data.on_bad not in ("raise", "skip"):
            raise UserError(f"data.on_bad={data.on_bad} is unknown; choose raise or skip.")
        tree = checked(read_tree(Path(data.source), data.fraction), data.on_bad, progress)
        left_out.update(tree.left_out)
        kinds.update(p.path.suffix.lower() for some in tree.splits.values() for p in some)
        return tree

    storage = Storage(config.layout, config.shorter_side)
    before = prepared_directory(name, data_dir)
    path = prepare_photographs(name, data_dir, read, view.image_shape[2], storage, progress)
    shutil.rmtree(scratch, ignore_errors=True)
    if path == before:
        left_out.update(shard_writer.noted_left_out(path))
        if data.source is not None:
            _compare(data, path, left_out)
    return path


def _compare(data: Any, path: Path, left_out: LeftOut) -> None:
    """Refuse a folder that is not what was prepared; say so where that is not looked at.

    Args:
        data: the section of the config.
        path: where it was prepared.
        left_out: as it was noted then; brought up to date.

    Raises:
        UserError: it does not exist, or its files have other names or sizes.
    """
    source, anew = Path(data.source), f"To prepare it anew, move {path} away and repeat the command"
    if not source.is_dir():
        raise UserError(
            f"data.source={source}: there is no such directory; {data.name} was prepared before, "
            f"and is in {path}."
        )
    same = None
    if is_own_folder(data):
        tree = read_tree(source, data.fraction)
        same = shard_writer.is_of(path, tree)
        unreadable = left_out.pop(UNREADABLE, None)
        left_out.clear()
        left_out.update(tree.left_out | ({UNREADABLE: unreadable} if unreadable else {}))
    if same is None:
        print(f"{data.name} was prepared before: data.source={source} was not looked at. {anew}.")
    elif not same:
        raise UserError(
            f"data.source={source} has changed since {data.name} was prepared of it, or "
            f"data.fraction has: files have other names, sizes or splits. {anew}."
        )
