"""A stand-in for ImageNet: crops of photographs in Debian packages.

ImageNet may not be redistributed. These photographs are free, can be installed with a package
manager, and give similar files: JPEG of about 500x375 pixels. Each class is one photograph. Its
training and validation crops come from two disjoint parts of it, so that a net has to recognise
colours, textures and blur at other scales and places.

Drawings, renderings and duplicates of a photograph in the packages are left out.
"""

import csv
import hashlib
import io
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from deeper.data.prepare.atomic_directory import Progress
from deeper.data.prepare.image_folder import Photograph, Tree, shuffled
from deeper.errors import UserError
from deeper.platform_support import core_count

_LOMIRI = "usr/share/backgrounds/{}.jpg"
_MATE = "usr/share/backgrounds/mate/nature/{}.jpg"
_PLASMA = "usr/share/wallpapers/{}/contents/images/2560x1600.jpg"

# Package -> class -> file in the package.
PHOTOGRAPHS: dict[str, dict[str, str]] = {
    "lomiri-wallpapers-16.04": {
        "bird": _LOMIRI.format("free_by_Peter_Nerlich"),
        "bridge": _LOMIRI.format("Bridge_by_Sander_Klootwijk"),
        "brook": _LOMIRI.format("life_by_Aitzol_Berasategi"),
        "brushes": _LOMIRI.format("Picture_1A_by_freespace"),
        "clock": _LOMIRI.format("greentock_by_Peter_Nerlich"),
        "dandelions": _LOMIRI.format("seeding_by_Clements_Engelhardt"),
        "dogs": _LOMIRI.format("friends_by_Aitzol_Berasategi"),
        "dragonfly": _LOMIRI.format("Dragonfly_by_Bolly"),
        "fig": _LOMIRI.format("Picture_0B_by_freespace"),
        "hills": _LOMIRI.format("sunset_by_Aitzol_Berasategi"),
        "meadow": _LOMIRI.format("aitzgorri_by_Aitzol_Berasategi"),
        "mountains": _LOMIRI.format("picosdeeuropa_by_Aitzol_Berasategi"),
        "wine": _LOMIRI.format("Wine_by_Jakkub_Mede"),
    },
    "mate-backgrounds": {
        "dune": _MATE.format("Dune"),
        "grass": _MATE.format("GreenMeadow"),
        "ladybird": _MATE.format("LadyBird"),
        "leaf": _MATE.format("Blinds"),
        "marigold": _MATE.format("Garden"),
        "rain": _MATE.format("RainDrops"),
        "red_flower": _MATE.format("FreshFlower"),
        "seeds": _MATE.format("TwoWings"),
        "splash": _MATE.format("Aqua"),
        "storm": _MATE.format("Storm"),
        "wood": _MATE.format("Wood"),
        "yellow_flower": _MATE.format("YellowFlower"),
    },
    "plasma-workspace-wallpapers": {
        "boats": _PLASMA.format("EveningGlow"),
        "cups": _PLASMA.format("ColorfulCups"),
        "dusk": _PLASMA.format("DarkestHour"),
        "facade": _PLASMA.format("Grey"),
        "fallen_leaves": _PLASMA.format("FallenLeaf"),
        "forest": _PLASMA.format("Path"),
        "jetty": _PLASMA.format("ColdRipple"),
        "kite": _PLASMA.format("Kite"),
        "lake": _PLASMA.format("summer_1am"),
        "moss": _PLASMA.format("OneStandsOut"),
        "planks": _PLASMA.format("BytheWater"),
    },
}

LONGER = 500  # longer side of a crop in pixels, as in most of ImageNet's photographs
SHORTER = (330, 400)  # range of the shorter side
PORTRAIT = 0.25  # share of crops in portrait format
FURTHEST = 4.0  # largest reduction: pixels of the photograph per pixel of a crop
TRAIN_SHARE = 0.6  # of the photograph's longer side, from the left or the top
# Wallpapers are softer than most photographs, so their files are smaller. They are sharpened, as
# web sites do when they reduce photographs, and saved at the lowest quality that gives ENOUGH
# bytes, or else at the highest: ImageNet's files have 110 kB on average.
SHARPEN = ImageFilter.UnsharpMask(radius=1, percent=100, threshold=0)
QUALITIES = (92, 94, 96, 98)
ENOUGH = 95_000


def cut_photographs(
    source: Path,
    packages: Sequence[str],
    crops: Mapping[str, int],
    scratch: Path,
    progress: Progress,
) -> Tree:
    """Cut the crops of all photographs; every call gives the same crops.

    Args:
        source: root of the installed packages, or the directory that they were extracted to.
        packages: names of packages in `PHOTOGRAPHS`.
        crops: split (train, validation) -> number of crops of each photograph.
        scratch: directory for the crops, which have to stay there until they are stored.
        progress: called with the number of photographs cut.

    Raises:
        UserError: a package is unknown or missing.
    """
    if not packages or min(crops.values()) < 1:
        raise UserError("data.packages and data.crops: give a package and a crop at least.")
    files = find_photographs(source, packages)
    labels = {name: label for label, name in enumerate(sorted(files))}
    shutil.rmtree(scratch, ignore_errors=True)
    splits: dict[str, list[Photograph]] = {split: [] for split in crops}
    with ThreadPoolExecutor(core_count()) as pool:
        cut = partial(_cut_one, crops=crops, scratch=scratch)
        jobs = [pool.submit(cut, path, name, labels[name]) for name, path in files.items()]
        for done, job in enumerate(jobs, 1):
            for split, photographs in job.result().items():
                splits[split] += photographs
            progress("cut photographs", done, len(jobs))
    return Tree(
        {split: shuffled(photographs) for split, photographs in splits.items()},
        tuple(labels),
        papers_of(source, packages, files),
    )


def find_photographs(
    source: Path, packages: Sequence[str], section: str = "data"
) -> dict[str, Path]:
    """Return class -> path of its photograph.

    Args:
        source: where the packages were extracted to.
        packages: their names.
        section: where source and packages are settings, for what is said of mistakes.

    Raises:
        UserError: a package is unknown or missing.
    """
    files = {}
    for package in packages:
        if package not in PHOTOGRAPHS:
            raise UserError(f"{section}.packages: {package} is none of {', '.join(PHOTOGRAPHS)}.")
        for name, file in PHOTOGRAPHS[package].items():
            files[name] = source / file
            if not files[name].is_file():
                raise UserError(
                    f"{files[name]} of the Debian package {package} is missing. As root: "
                    f"apt-get install {' '.join(packages)}. Or without: mkdir debian; cd "
                    f"debian; apt-get download {' '.join(packages)}; for deb in *.deb; do "
                    f'dpkg-deb -x "$deb" .; done; and say {section}.source=debian.'
                )
    return files


def papers_of(source: Path, packages: Sequence[str], files: Mapping[str, Path]) -> dict[str, bytes]:
    """Return the files to store with the data: licences, and a table of the source of each class.

    Returns:
        File name -> content.
    """
    papers = {}
    for package in packages:
        licence = source / "usr/share/doc" / package / "copyright"
        if not licence.is_file():
            raise UserError(f"{licence} is missing, which tells under what terms {package} is.")
        papers[f"copyright-{package}.txt"] = licence.read_bytes()
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("class", "package", "file", "sha256"))
    for package in packages:
        for name, file in PHOTOGRAPHS[package].items():
            digest = hashlib.sha256(files[name].read_bytes()).hexdigest()
            writer.writerow((name, package, file, digest))
    return papers | {"photographs.csv": table.getvalue().encode()}


def _cut_one(
    path: Path, name: str, label: int, crops: Mapping[str, int], scratch: Path
) -> dict[str, list[Photograph]]:
    """Cut one photograph into files; return split -> its crops."""
    try:
        with Image.open(path) as file:
            picture = file.convert("RGB")
    except OSError as error:
        raise UserError(f"{path} is damaged ({error}): install its package again.") from error
    parts = _parts_of(picture.size)
    # The smaller part limits both, so that both splits show the photograph at the same scales.
    room = min(w for _, _, w, _ in parts.values()), min(h for _, _, _, h in parts.values())
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    made: dict[str, list[Photograph]] = {}
    for number, (split, count) in enumerate(crops.items()):
        (scratch / split / name).mkdir(parents=True)
        rng = np.random.Generator(np.random.Philox(key=[seed, number]))
        made[split] = []
        for i in range(count):
            box, size = _draw(rng, parts[split], room)
            target = scratch / split / name / f"{name}_{i:03d}.jpg"
            # Crop before resizing: the filter would otherwise read pixels of the other part.
            crop = picture.crop(box).resize(size, Image.Resampling.LANCZOS).filter(SHARPEN)
            target.write_bytes(_encode(crop))
            kept = f"{name}/{target.name}"
            made[split].append(Photograph(target, target.stat().st_size, kept, label))
    return made


def _encode(picture: Image.Image) -> bytes:
    """Encode as JPEG, at the lowest quality that gives `ENOUGH` bytes."""
    for quality in QUALITIES:
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=quality)
        if stream.tell() >= ENOUGH:
            break
    return stream.getvalue()


Part = tuple[int, int, int, int]  # left, top, width, height


def _parts_of(size: tuple[int, int]) -> dict[str, Part]:
    """Return split -> the part of a photograph of this (width, height) that it is cut from."""
    width, height = size
    if width >= height:
        at = round(TRAIN_SHARE * width)
        return {"train": (0, 0, at, height), "validation": (at, 0, width - at, height)}
    at = round(TRAIN_SHARE * height)
    return {"train": (0, 0, width, at), "validation": (0, at, width, height - at)}


def _draw(
    rng: np.random.Generator, part: Part, room: tuple[int, int]
) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
    """Draw a crop: its box (left, top, right, bottom), and the (width, height) to resize it to."""
    size = LONGER, int(rng.integers(SHORTER[0], SHORTER[1] + 1))
    if rng.random() < PORTRAIT:
        size = size[::-1]
    furthest = min(room[0] / size[0], room[1] / size[1], FURTHEST)
    scale = rng.uniform(min(1.0, furthest), furthest)
    width, height = (round(scale * side) for side in size)
    left = part[0] + int(rng.integers(part[2] - width + 1))
    top = part[1] + int(rng.integers(part[3] - height + 1))
    return (left, top, left + width, top + height), size
