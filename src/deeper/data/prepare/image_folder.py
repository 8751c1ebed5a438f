"""Reads photographs from one folder per class, the layout of torchvision and Kaggle."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from deeper.data import jpeg
from deeper.data.image_files import SUFFIXES, LeftOut, describe_left_out, is_hidden, pictures_below
from deeper.data.prepare.atomic_directory import Progress
from deeper.errors import UserError
from deeper.platform_support import core_count

TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "testing", "val", "valid", "validation")


@dataclass(frozen=True)
class Photograph:
    """A photograph to be stored in a prepared data set.

    Attributes:
        path: path of its file, or of the archive that contains it.
        size: size in bytes.
        name: name under which it is stored: class folder and file.
        label: number of its class; 0 where photographs have no class each.
        offset: its first byte in an archive; None if it is a file of its own.
    """

    path: Path
    size: int
    name: str
    label: int
    offset: int | None = None

    def read(self) -> bytes:
        """Return its encoded content.

        Raises:
            UserError: the length of the file has changed.
        """
        with self.path.open("rb") as file:
            file.seek(self.offset or 0)
            data = file.read(self.size if self.offset is not None else -1)
        if len(data) != self.size:
            raise UserError(f"{self.path} has changed since `prepare` began.")
        return data


@dataclass(frozen=True)
class FileKind:
    """What a tree of class folders holds.

    Attributes:
        name: of one file, for messages.
        suffixes: of the files, in lower case.
    """

    name: str
    suffixes: tuple[str, ...]


PHOTOGRAPHS = FileKind("photograph", SUFFIXES)


@dataclass(frozen=True)
class Tree:
    """The photographs of a data set, before they are stored.

    Attributes:
        splits: train and test (or validation), in a fixed random order.
        class_names: names of the folders, sorted; empty where photographs have no class each, and
            are stored without labels.
        papers: name -> content of files that go with the photographs, such as licences.
        left_out: reason -> files of the tree that were left out.
        found: the splits before unreadable files were left out.
    """

    splits: dict[str, list[Photograph]]
    class_names: tuple[str, ...]
    papers: dict[str, bytes] = field(default_factory=dict)
    left_out: LeftOut = field(default_factory=dict)
    found: dict[str, list[Photograph]] | None = None


def read_tree(source: Path, fraction: float, kind: FileKind = PHOTOGRAPHS) -> Tree:
    """Find the photographs of a tree: train/CLASS/FILE and val/CLASS/FILE, or CLASS/FILE.

    Args:
        source: root of the tree.
        fraction: share of each class that becomes the test split, if the tree has none.
        kind: of the files: photographs, or others that lie in such a tree.

    Raises:
        UserError: there are fewer than two classes, a class has no photographs, or the classes of
            the two splits differ.
    """
    if not source.is_dir():
        raise UserError(f"data.source={source}: there is no such directory.")
    left_out: LeftOut = {}
    folders = [path for path in sorted(source.iterdir()) if path.is_dir()]
    trains = [path for path in folders if path.name.lower() in TRAIN_NAMES]
    if not trains:
        if not 0 < fraction < 1:
            raise UserError(
                f"data.fraction={fraction}: give a share of each class between 0 and 1."
            )
        return _divided(_classes(source, source, left_out, kind), fraction, left_out, kind)
    tests = [path for path in folders if path.name.lower() in TEST_NAMES]
    if len(trains) != 1 or len(tests) != 1:
        others = ", ".join(path.name for path in trains[1:] + tests) or "none"
        raise UserError(
            f"data.source={source} has {trains[0].name}/ and must have one of "
            f"{', '.join(TEST_NAMES)} beside it; it has {others}."
        )
    train = trains[0]
    for path in sorted(source.iterdir()):
        if path not in (train, tests[0]):
            left_out.setdefault(f"beside {train.name}/", []).append(path.name)
    parts = {
        "train": _classes(train, source, left_out, kind),
        "test": _classes(tests[0], source, left_out, kind),
    }
    differ = sorted(set(parts["train"]) ^ set(parts["test"]))
    if differ:
        raise UserError(
            f"The classes of {train} and {tests[0]} differ: {', '.join(differ[:5])}"
            + (f" and {len(differ) - 5} more." if len(differ) > 5 else ".")
        )
    return Tree(
        {
            name: shuffled([p for photographs in classes.values() for p in photographs])
            for name, classes in parts.items()
        },
        tuple(parts["train"]),
        left_out=left_out,
    )


def _classes(
    folder: Path, root: Path, left_out: LeftOut, kind: FileKind
) -> dict[str, list[Photograph]]:
    """Return class -> its photographs, sorted by path."""
    entries = sorted(folder.iterdir())
    back = {path.name for path in entries if _leads_back(path, root)}
    names = [
        path.name
        for path in entries
        if path.is_dir() and not is_hidden(path) and path.name not in back
    ]
    for path in entries:
        if path.name not in names:
            why = "hidden" if is_hidden(path) else "in no class folder"
            why = "links to folders of the tree itself" if path.name in back else why
            left_out.setdefault(why, []).append(str(path.relative_to(root)))
    classes = {}
    for label, name in enumerate(names):
        files = pictures_below(folder / name, root, left_out, kind.suffixes)
        if not files:
            more = f" {describe_left_out(left_out)}." if left_out else ""
            raise UserError(
                f"{folder / name} has no {kind.name} ({' '.join(kind.suffixes)}).{more}"
            )
        classes[as_text(name)] = [
            Photograph(path, path.stat().st_size, as_text(str(path.relative_to(folder))), label)
            for path in files
        ]
    if len(classes) < 2:
        raise UserError(f"{folder} has {len(classes)} class folders: there must be two or more.")
    return classes


def _leads_back(path: Path, root: Path) -> bool:
    """Return whether a link leads into its own tree, or to a parent, so that files would be found
    twice.
    """
    if not path.is_symlink() or not path.is_dir():
        return False
    target, whole = path.resolve(), root.resolve()
    return target.is_relative_to(whole) or whole.is_relative_to(target)


def as_text(name: str) -> str:
    """Return a file name as one line of valid text, with other bytes as escape sequences."""
    one_line = name.replace("\n", r"\n").replace("\r", r"\r")
    return one_line.encode(errors="backslashreplace").decode()


UNREADABLE = "that cannot be read"
NAMED = 20  # largest number of unreadable files that a message lists


def checked(tree: Tree, on_bad: str, progress: Progress) -> Tree:
    """Check the header of every photograph; return the tree without unreadable files.

    Args:
        tree: tree from `read_tree`.
        on_bad: raise a UserError for unreadable files, or skip them.
        progress: called with the number of files checked.

    Raises:
        UserError: files are unreadable and ``on_bad`` is not skip, or no photograph of a class is
            left.
    """
    bad: dict[str, str] = {}

    def check(photograph: Photograph) -> tuple[str, str | None]:
        try:
            jpeg.size_of(photograph.read(), photograph.name)
        except OSError as error:
            return photograph.name, f"{photograph.name} cannot be opened: {error.strerror}"
        except jpeg.UnreadableError as error:
            return photograph.name, str(error)
        return photograph.name, None

    splits = {}
    for split, photographs in tree.splits.items():
        readable = []
        with ThreadPoolExecutor(core_count()) as pool:
            checks = zip(photographs, pool.map(check, photographs), strict=True)
            for done, (photograph, (name, error)) in enumerate(checks, 1):
                if error is None:
                    readable.append(photograph)
                else:
                    bad[f"{split} {name}"] = error
                progress(f"look at {split}", done, len(photographs))
        splits[split] = readable
    if not bad:
        return tree
    errors = sorted(bad.values())
    if on_bad != "skip":
        more = [f"and {len(errors) - NAMED:,} more"] if len(errors) > NAMED else []
        raise UserError(
            "\n".join(
                [
                    f"{len(errors):,} files cannot be read; remove them, or say data.on_bad=skip:",
                    *errors[:NAMED],
                    *more,
                ]
            )
        )
    for split, photographs in splits.items():
        missing = set(range(len(tree.class_names))) - {p.label for p in photographs}
        if missing:
            name = tree.class_names[min(missing)]
            raise UserError(f"No photograph of the class {name} in {split} can be read.")
    left_out = tree.left_out | {UNREADABLE: errors}
    return replace(tree, splits=splits, left_out=left_out, found=tree.splits)


def _divided(
    classes: dict[str, list[Photograph]], fraction: float, left_out: LeftOut, kind: FileKind
) -> Tree:
    """Divide each class at random into a training and a test part."""
    train: list[Photograph] = []
    test: list[Photograph] = []
    for name, photographs in classes.items():
        drawn = shuffled(photographs)
        held = max(1, round(fraction * len(drawn)))
        if held == len(drawn):
            raise UserError(f"The class {name} has {len(drawn)} {kind.name}s: too few to divide.")
        test, train = test + drawn[:held], train + drawn[held:]
    splits = {"train": shuffled(train), "test": shuffled(test)}
    return Tree(splits, tuple(classes), left_out=left_out)


def shuffled(photographs: Sequence[Photograph]) -> list[Photograph]:
    """Shuffle with a fixed seed, so that any prefix of a split is a random sample of it."""
    order = np.random.Generator(np.random.Philox(key=[0, len(photographs)]))
    return [photographs[i] for i in order.permutation(len(photographs))]
