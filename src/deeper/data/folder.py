"""Photographs in a folder a class, as torchvision and Kaggle lay them out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from deeper.data.pictures import SUFFIXES
from deeper.errors import UserError

TEST_NAMES = ("test", "val", "valid", "validation")


@dataclass(frozen=True)
class Photograph:
    """A photograph that is to be stored.

    Attributes:
        path: of the file.
        size: in bytes.
        name: that it keeps: class folder and file.
        label: number of its class.
        offset: where it begins in a file that holds others; None where it is the file.
    """

    path: Path
    size: int
    name: str
    label: int
    offset: int | None = None

    def read(self) -> bytes:
        """Return its bytes.

        Raises:
            UserError: the file is not as long any more as it was.
        """
        with self.path.open("rb") as file:
            file.seek(self.offset or 0)
            data = file.read(self.size if self.offset is not None else -1)
        if len(data) != self.size:
            raise UserError(f"{self.path} has changed since `prepare` began.")
        return data


@dataclass(frozen=True)
class Tree:
    """What a folder tree holds.

    Attributes:
        splits: train and test (or validation); in a random order that is always the same.
        class_names: folders' names, sorted.
        papers: name -> content of files that go with the photographs, such as licences.
    """

    splits: dict[str, list[Photograph]]
    class_names: tuple[str, ...]
    papers: dict[str, bytes] = field(default_factory=dict)


def read_tree(source: Path, fraction: float) -> Tree:
    """Find the photographs of a tree: train/CLASS/FILE and val/CLASS/FILE, or CLASS/FILE.

    Args:
        source: the tree.
        fraction: share of each class that is the test split, where the tree has none.

    Raises:
        UserError: there are no classes, a class without photographs, or classes that differ.
    """
    if not source.is_dir():
        raise UserError(f"source={source}: there is no such directory.")
    train = source / "train"
    if not train.is_dir():
        if not 0 < fraction < 1:
            raise UserError(f"fraction={fraction}: give a share of each class between 0 and 1.")
        return _divided(_classes(source), fraction)
    tests = [source / name for name in TEST_NAMES if (source / name).is_dir()]
    if len(tests) != 1:
        found = ", ".join(path.name for path in tests) or "none"
        raise UserError(
            f"source={source} has train/ and must have one of {', '.join(TEST_NAMES)} beside it; "
            f"it has {found}."
        )
    parts = {"train": _classes(train), "test": _classes(tests[0])}
    differ = sorted(set(parts["train"]) ^ set(parts["test"]))
    if differ:
        raise UserError(
            f"The classes of {train} and {tests[0]} differ: {', '.join(differ[:5])}"
            + (f" and {len(differ) - 5} more." if len(differ) > 5 else ".")
        )
    return Tree(
        {
            name: shuffled([p for some in classes.values() for p in some])
            for name, classes in parts.items()
        },
        tuple(parts["train"]),
    )


def _classes(folder: Path) -> dict[str, list[Photograph]]:
    """Return class -> its photographs, by name."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    found = {}
    for label, name in enumerate(names):
        files = sorted(
            path
            for path in (folder / name).rglob("*")
            if path.suffix.lower() in SUFFIXES and path.is_file()
        )
        if not files:
            raise UserError(f"{folder / name} has no photograph ({' '.join(SUFFIXES)}).")
        found[as_text(name)] = [
            Photograph(path, path.stat().st_size, as_text(str(path.relative_to(folder))), label)
            for path in files
        ]
    if len(found) < 2:
        raise UserError(f"{folder} has {len(found)} class folders: there must be two or more.")
    return found


def as_text(name: str) -> str:
    """Return a file's name as one line of text; bytes that are no UTF-8 are written as numbers."""
    one_line = name.replace("\n", r"\n").replace("\r", r"\r")
    return one_line.encode(errors="backslashreplace").decode()


def _divided(classes: dict[str, list[Photograph]], fraction: float) -> Tree:
    train: list[Photograph] = []
    test: list[Photograph] = []
    for name, photographs in classes.items():
        some = shuffled(photographs)
        held = max(1, round(fraction * len(some)))
        if held == len(some):
            raise UserError(f"The class {name} has {len(some)} photographs: too few to divide.")
        test, train = test + some[:held], train + some[held:]
    return Tree({"train": shuffled(train), "test": shuffled(test)}, tuple(classes))


def shuffled(photographs: Sequence[Photograph]) -> list[Photograph]:
    """Return them in a random order, so that any beginning of a split is a sample of it."""
    order = np.random.Generator(np.random.Philox(key=[0, len(photographs)]))
    return [photographs[i] for i in order.permutation(len(photographs))]
