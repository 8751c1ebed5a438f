"""Prepares the data set of a config for training, unless it is already prepared."""

import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deeper.config.data_sections import DebianPhotographs, OwnDataset, Tfds
from deeper.config.instantiate import build
from deeper.data.catalogue import CATALOGUE
from deeper.data.dataset import prepared_directory
from deeper.data.image_files import LeftOut
from deeper.data.prepare import shard_writer
from deeper.data.prepare.debian_photographs import cut_photographs
from deeper.data.prepare.image_folder import UNREADABLE, Tree, checked, read_tree
from deeper.data.prepare.imagenet import read_imagenet
from deeper.data.prepare.jpeg_storage import UNTOUCHED, Storage
from deeper.data.prepare.prepare import prepare, prepare_photographs
from deeper.data.prepare.tfds_prepared import find_prepared
from deeper.errors import UserError
from deeper.progress import Progress, quiet
from deeper.run.dataset import is_own_folder, view_of

KNOWN_NAMES = (*CATALOGUE, "imagenet", "imagenet2012", "photos")


@dataclass(frozen=True)
class Prepared:
    """A prepared data set.

    Attributes:
        path: directory of the data set.
        left_out: reason -> files of ``data.source`` that were left out.
        kinds: suffix -> number of files that were read from a user's folder.
        sentences: further messages for the user.
    """

    path: Path
    left_out: LeftOut = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)
    sentences: tuple[str, ...] = ()


def prepare_data(
    data: Any,
    *,
    layout: str = UNTOUCHED,
    shorter_side: int | None = None,
    progress: Progress = quiet,
) -> Prepared:
    """Prepare a data set, unless it is prepared.

    Args:
        data: a section of `config.data_sections`.
        layout: layout of photographs, see `Storage`.
        shorter_side: shorter side of photographs, see `Storage`.
        progress: called with the progress.

    Raises:
        UserError: the originals are not there or cannot be read, the data set is not one that is
            prepared here, or it was prepared of another source or in another way.
    """
    if isinstance(data, OwnDataset):
        return _prepare_own(data, progress)
    name, data_dir = data.name, Path(data.dir)
    view = view_of(data)
    of_a_tree = view is not None and not isinstance(data, Tfds)
    if not of_a_tree and (layout != UNTOUCHED or shorter_side is not None):
        raise UserError(
            f"layout and shorter_side are for photographs that are prepared here; {name} is stored "
            "as it is."
        )
    if is_own_folder(data) and name in KNOWN_NAMES:
        raise UserError(
            f"data.name={name} is the name of a known data set (deeper prepare data={name}): call "
            "your own by another."
        )
    if isinstance(data, Tfds):
        return Prepared(find_prepared(name, data_dir))
    if view is None:
        original = Path(data.original_dir) if data.original_dir else None
        return Prepared(prepare(name, data_dir, original, progress))
    return _prepare_tree(data, view.image_shape[2], Storage(layout, shorter_side), progress)


def _prepare_own(data: OwnDataset, progress: Progress) -> Prepared:
    """Call what a data set of the user's own is prepared by.

    It returns the data set's directory, or that and sentences for the user.
    """
    if data.prepare is None:
        raise UserError(f"{data.name} is what its function returns: nothing to prepare.")
    made = build(data.prepare, progress=progress)
    path, sentences = made if isinstance(made, tuple) else (made, ())
    return Prepared(Path(path), sentences=tuple(sentences))


def _prepare_tree(data: Any, channels: int, storage: Storage, progress: Progress) -> Prepared:
    """Store the photographs of a tree, unless they are already stored."""
    name, data_dir = data.name, Path(data.dir)
    scratch = data_dir / f".{name}-crops"
    trees: list[Tree] = []

    def read() -> Tree:
        trees.append(_read(data, scratch, progress))
        return trees[-1]

    before = prepared_directory(name, data_dir)
    path = prepare_photographs(name, data_dir, read, channels, storage, progress)
    shutil.rmtree(scratch, ignore_errors=True)
    if path == before:
        left_out = shard_writer.noted_left_out(path)
        return Prepared(path, left_out) if data.source is None else _compare(data, path, left_out)
    if not trees:  # another process has prepared it in the meantime
        return Prepared(path)
    [tree] = trees
    taken = tree.splits if is_own_folder(data) else {}
    kinds = Counter(p.path.suffix.lower() for some in taken.values() for p in some)
    return Prepared(path, tree.left_out, kinds)


def _read(data: Any, scratch: Path, progress: Progress) -> Tree:
    """Find the photographs of a data section.

    Args:
        data: the section.
        scratch: directory for photographs that are cut here, until they are stored.
        progress: called with the progress.
    """
    if isinstance(data, DebianPhotographs):
        root = Path(data.source or "/")
        return cut_photographs(root, list(data.packages), dict(data.crops or {}), scratch, progress)
    if data.source is None:
        raise UserError(
            f"Say where the photographs of {data.name} are: data.source=DIRECTORY, with "
            + (
                "ImageNet's two tars or its tree of class folders in it."
                if data.name == "imagenet"
                else "train/CLASS and val/CLASS in it, or CLASS alone."
            )
        )
    if data.name == "imagenet":
        return read_imagenet(Path(data.source), progress)
    if data.on_bad not in ("raise", "skip"):
        raise UserError(f"data.on_bad={data.on_bad} is unknown; choose raise or skip.")
    return checked(read_tree(Path(data.source), data.fraction), data.on_bad, progress)


def _compare(data: Any, path: Path, left_out: LeftOut) -> Prepared:
    """Compare ``data.source`` with the prepared data; report it if that is not possible.

    Args:
        data: the section of the config.
        path: the prepared directory.
        left_out: recorded reason -> files that were left out.

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
        unreadable = left_out.get(UNREADABLE)
        left_out = tree.left_out | ({UNREADABLE: unreadable} if unreadable else {})
    if same is None:
        not_seen = f"{data.name} was prepared before: data.source={source} was not looked at."
        return Prepared(path, left_out, sentences=(f"{not_seen} {anew}.",))
    if not same:
        raise UserError(
            f"data.source={source} has changed since {data.name} was prepared of it, or "
            f"data.fraction has: files have other names, sizes or splits. {anew}."
        )
    return Prepared(path, left_out)
