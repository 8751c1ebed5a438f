"""Reads ILSVRC 2012 from its two tar files, or from a tree of class folders.

The classes are the WordNet ids in sorted order. The labels of the validation images, which are not
in their files, are read from the list in TensorFlow Datasets. The tar files are not unpacked:
photographs are read at their offsets.
"""

import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path, PurePath

from deeper.data.image_files import LeftOut, is_hidden
from deeper.data.prepare.atomic_directory import Progress
from deeper.data.prepare.image_folder import Photograph, Tree, shuffled
from deeper.errors import UserError

TRAIN_TAR, VALIDATION_TAR = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
SIZES = {"train": 1_281_167, "validation": 50_000}
CLASSES = 1000
# Folders that may contain train/ and val/: torchvision's layout, and those of Kaggle's archive.
ROOTS = ("", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "CLS-LOC")


def read_imagenet(
    source: Path,
    progress: Progress,
    sizes: Mapping[str, int] = SIZES,
    classes: int = CLASSES,
) -> Tree:
    """Find all photographs of ImageNet.

    Args:
        source: directory of the tar files, or of train/ and val/.
        progress: called while the tar files are read.
        sizes: split -> expected number of photographs.
        classes: expected number of classes.

    Raises:
        UserError: files are missing or damaged; the message says where to get them.
    """
    if not source.is_dir():
        raise UserError(f"data.source={source}: there is no such directory.")
    left_out: LeftOut = {}
    tars = (source / TRAIN_TAR, source / VALIDATION_TAR)
    if any(tar.is_file() for tar in tars):
        for tar in tars:
            if not tar.is_file():
                raise UserError(f"{tar} is missing: {_WHERE}")
        train = _nested(tars[0], classes, left_out, progress)
        validation = _members(tars[1], left_out)
    else:
        root = next((source / r for r in ROOTS if (source / r / "train").is_dir()), None)
        if root is None:
            raise UserError(
                f"{source} holds neither {TRAIN_TAR} and {VALIDATION_TAR} nor a folder train/ with "
                f"one folder per class: {_WHERE}"
            )
        if not (root / "val").is_dir():
            raise UserError(f"{root / 'val'} is missing: {_WHERE}")
        train, validation = _tree(root / "train", left_out), _tree(root / "val", left_out)
    names = sorted({photograph.name.split("/")[0] for photograph in train})
    if len(names) != classes:
        raise UserError(f"{source} has {len(names):,} classes to train on, not {classes:,}.")
    splits = {"train": _labelled(train, names), "validation": _labelled(validation, names)}
    for split, photographs in splits.items():
        if len(photographs) != sizes[split]:
            raise UserError(
                f"The {split} split in {source} has {len(photographs):,} photographs, not "
                f"{sizes[split]:,}: is something not copied, or not unpacked? {_WHERE}"
            )
    splits = {split: shuffled(found) for split, found in splits.items()}
    return Tree(splits, tuple(names), left_out=left_out)


_WHERE = (
    "image-net.org gives both tars (ILSVRC2012, Task 1 and 2) to who registers there, and Kaggle's "
    "imagenet-object-localization-challenge the tree."
)


def _tree(folder: Path, left_out: LeftOut) -> list[Photograph]:
    """Return the photographs below a folder, without labels (-1)."""
    paths = []
    for place, _, files in folder.walk():  # os.walk lists a link to a folder as a file
        for path in (place / name for name in files):
            if path.suffix != ".JPEG" and path.is_dir():
                left_out.setdefault("links to folders", []).append(str(path))
            elif _is_photograph(path, str(path), left_out):
                paths.append(path)
    return [
        Photograph(path, path.stat().st_size, str(path.relative_to(folder)), -1)
        for path in sorted(paths)
    ]


def _is_photograph(name: PurePath, told: str, left_out: LeftOut) -> bool:
    """Return whether a file has a name of ImageNet's photographs; if not, record it as left out."""
    if is_hidden(name):
        why = "hidden"
    elif name.suffix != ".JPEG":
        why = name.suffix or "without a suffix"
    else:
        return True
    left_out.setdefault(why, []).append(told)
    return False


def _members(path: Path, left_out: LeftOut) -> list[Photograph]:
    """Return the photographs in a tar file, without labels (-1)."""
    try:
        with tarfile.open(path) as tar:
            return [
                Photograph(path, member.size, Path(member.name).name, -1, member.offset_data)
                for member in tar
                if not member.isdir()
                and _is_photograph(PurePath(member.name), f"{path}: {member.name}", left_out)
            ]
    except (tarfile.TarError, EOFError) as error:
        raise UserError(f"{path} is damaged ({error}): get it again.") from error


def _nested(path: Path, classes: int, left_out: LeftOut, progress: Progress) -> list[Photograph]:
    """Return the photographs in a tar file that contains one tar file per class."""
    photographs = []
    try:
        with tarfile.open(path) as tar:
            for done, outer in enumerate(tar, 1):
                inside = tar.extractfile(outer) if outer.name.endswith(".tar") else None
                if inside is None:
                    if not outer.isdir():
                        left_out.setdefault("no tar", []).append(f"{path}: {outer.name}")
                    continue
                with tarfile.open(fileobj=inside) as inner:
                    photographs += [
                        Photograph(
                            path,
                            member.size,
                            f"{Path(outer.name).stem}/{Path(member.name).name}",
                            -1,
                            outer.offset_data + member.offset_data,
                        )
                        for member in inner
                        if not member.isdir()
                        and _is_photograph(
                            PurePath(member.name), f"{path}: {outer.name}: {member.name}", left_out
                        )
                    ]
                progress(f"contents of {path.name}", done, classes)
    except (tarfile.TarError, EOFError) as error:
        raise UserError(f"{path} is damaged ({error}): get it again.") from error
    return photographs


def _labelled(photographs: Sequence[Photograph], names: Sequence[str]) -> list[Photograph]:
    """Set the label of each photograph, from its folder or from the list of validation labels."""
    label_of = {name: i for i, name in enumerate(names)}
    validation = None
    labelled = []
    for photograph in photographs:
        folder, _, file = photograph.name.rpartition("/")
        if not folder:
            validation = validation or _validation_classes()
            folder = validation.get(file, "")
        if folder not in label_of:
            raise UserError(
                f"{photograph.name} in {photograph.path} belongs to none of the classes."
            )
        labelled.append(replace(photograph, label=label_of[folder]))
    return labelled


def wordnet_ids() -> tuple[str, ...]:
    """Return the WordNet ids of the 1000 classes, in the order of the labels."""
    place = resources.files("tensorflow_datasets") / "datasets/imagenet2012/labels.txt"
    return tuple(place.read_text(encoding="utf-8").split())


def _validation_classes() -> dict[str, str]:
    """Return file -> WordNet id of each validation photograph, from the list in TFDS."""
    place = resources.files("tensorflow_datasets") / "datasets/imagenet2012/validation_labels.txt"
    lines = place.read_text(encoding="utf-8").split()
    return {f"ILSVRC2012_val_{i:08d}.JPEG": name for i, name in enumerate(lines, 1)}
