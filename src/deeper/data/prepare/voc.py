"""Reads a folder of Pascal VOC: an XML file a photograph.

``Annotations/NAME.xml``, ``JPEGImages/`` and ``ImageSets/Main/SET.txt`` with a name a line, as in
the archives of VOC 2007 and 2012. VOC's corners count pixels from 1 and are part of the box: xmin
to xmax becomes xmin - 1 to before xmax. Boxes of parts, such as heads, are not read.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from deeper.data.box_tables import Classes
from deeper.data.image_files import LeftOut
from deeper.data.prepare.atomic_directory import Progress
from deeper.data.prepare.boxes import Annotated, Annotations, Box, held_out, store
from deeper.data.prepare.image_folder import as_text
from deeper.errors import UserError


def voc(
    dir: str,
    name: str,
    source: str | None,
    classes: Sequence[str],
    train: str | None = "trainval",
    test: str | None = "test",
    fraction: float = 0.1,
    on_bad: str = "raise",
    progress: Progress = lambda what, done, total: None,
) -> tuple[Path, list[str]]:
    """Prepare a folder of Pascal VOC, unless it is prepared.

    Args:
        dir: where prepared data sets are.
        name: of the data set.
        source: the folder, such as VOCdevkit/VOC2007.
        classes: names, in the order of the labels.
        train: the set to train on, a file of ImageSets/Main; None: all files of Annotations.
        test: the set to test on; None: a share of the training photographs.
        fraction: that share.
        on_bad: raise, or skip boxes and photographs that are wrong.
        progress: called while files are looked at and written.

    Returns:
        Its directory, and a sentence on each kind of fault.

    Raises:
        UserError: a file is missing or cannot be read, or see `boxes.store`.
    """
    root = None if source is None else Path(source)

    def read() -> Annotations:
        if root is None:
            raise UserError(
                f"Say where {name} is: data.prepare.source=DIRECTORY, which has Annotations, "
                "JPEGImages and ImageSets."
            )
        faults: LeftOut = {}
        number_of = {one: label for label, one in enumerate(classes)}

        def photographs(names: Sequence[str], first: int) -> list[Annotated]:
            read = [
                read_xml(root, one, first + i, number_of, faults) for i, one in enumerate(names)
            ]
            return [one for one in read if one is not None]

        named = _names(root, train)
        training = photographs(named, 0)
        if test is None:
            splits = held_out(training, fraction)
        else:
            splits = {"train": training, "test": photographs(_names(root, test), len(named))}
        about = Classes(tuple(classes), tuple(range(1, len(classes) + 1)))
        return Annotations(splits, about, _digests(root), faults, {})

    digests = None if root is None or not root.is_dir() else _digests(root)
    return store(dir, name, read, on_bad, progress, digests)


def _digests(root: Path) -> dict[str, str]:
    """Return a digest of the names and sizes of all annotations."""
    digest = hashlib.sha256()
    for path in sorted((root / "Annotations").glob("*.xml")):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode(errors="backslashreplace"))
    return {"data.prepare.source": digest.hexdigest()}


def _names(root: Path, chosen: str | None) -> list[str]:
    """Return the names of a set's photographs, each once."""
    if chosen is None:
        names = [path.stem for path in sorted((root / "Annotations").glob("*.xml"))]
        if not names:
            raise UserError(f"data.prepare.source={root} has no Annotations/*.xml.")
        return names
    path = root / "ImageSets" / "Main" / f"{chosen}.txt"
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}, the names of {chosen}, cannot be read: {error}.") from error
    names = [line.split()[0] for line in lines if line.strip()]
    if len(set(names)) < len(names):
        raise UserError(f"{path} names a photograph twice.")
    return names


def read_xml(
    root: Path, name: str, number: int, number_of: dict[str, int], faults: LeftOut
) -> Annotated | None:
    """Return a photograph with its boxes; None if its file of annotations cannot be read.

    Args:
        root: the folder.
        name: of the photograph, without a suffix.
        number: to give it.
        number_of: class -> label.
        faults: kind -> names, to which it is added if it cannot be read.
    """
    path = root / "Annotations" / f"{name}.xml"
    try:
        tree = ElementTree.parse(path).getroot()
        file = tree.findtext("filename") or f"{name}.jpg"
        boxes = tuple(
            _box(one, f"object {i}", number_of) for i, one in enumerate(tree.findall("object"), 1)
        )
        size = tree.find("size")
        stated = None if size is None else (_number(size, "height"), _number(size, "width"))
    except (OSError, ValueError, ElementTree.ParseError) as error:
        faults.setdefault("annotations that cannot be read", []).append(f"{path.name} ({error})")
        return None
    # Some tools write a whole path, of another machine.
    file = file.replace("\\", "/").rpartition("/")[2]
    known = stated is not None and min(stated) > 0  # some tools write 0
    whole = (round(stated[0]), round(stated[1])) if stated is not None and known else None
    return Annotated(root / "JPEGImages" / file, as_text(file), number, whole, boxes)


def _number(element: ElementTree.Element, name: str) -> float:
    text = element.findtext(name)
    if text is None:
        raise ValueError(f"there is no {name}")
    return float(text)


def _box(element: ElementTree.Element, called: str, number_of: dict[str, int]) -> Box:
    corners = element.find("bndbox")
    if corners is None:
        raise ValueError(f"{called} has no bndbox")
    x1, y1, x2, y2 = (_number(corners, side) for side in ("xmin", "ymin", "xmax", "ymax"))
    name = element.findtext("name")
    difficult = (element.findtext("difficult") or "0").strip()
    label = None if name is None else number_of.get(name.strip())
    return Box((x1 - 1, y1 - 1, x2, y2), label, called, difficult=difficult not in ("", "0"))
