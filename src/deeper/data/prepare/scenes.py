"""Scenes: garments of Fashion-MNIST on crops of photographs, with boxes around what is seen.

A stand-in for COCO that may be made anywhere. Training and test scenes have no garment and no
photograph in common. Each scene is a function of the seed, the split and its number alone.

A garment's box is around its visible pixels and its area is their number, as in COCO. One of which
less than a quarter is seen is difficult, one of which less than a twentieth is seen has no box.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image

from deeper.data.box_tables import Classes
from deeper.data.dataset import Split, open_dataset, prepared_directory
from deeper.data.prepare.atomic_directory import Progress, scratch_directory
from deeper.data.prepare.boxes import Annotated, Annotations, Box, store
from deeper.data.prepare.debian_photographs import find_photographs, papers_of
from deeper.data.prepare.prepare import prepare
from deeper.errors import UserError
from deeper.platform_support import core_count

GARMENTS = "fashion_mnist"
TEST_SHARE = 3  # one in so many photographs is tested on
MOST = 1280  # longer side of photographs in memory, pixels
QUALITY = 92
SPLITS = ("train", "test")
SEEN, HARDLY_SEEN = 0.05, 0.25  # shares of a garment
SOLID = 48  # grey value of a garment's pixels from which on they are opaque


class Difficulty(NamedTuple):
    """What a scene is drawn by.

    Attributes:
        garments: the least and the largest number of them.
        sides: the least and the largest side of one, a share of the scene's.
        hidden: the largest share of a garment that later ones may cover, as long as places are
            found.
        tint: how much of its colour is drawn, against grey.
        opacity: the least; what is behind shines through.
        others: pieces of other photographs in garments' shapes cut up, the largest number.
    """

    garments: tuple[int, int]
    sides: tuple[float, float]
    hidden: float
    tint: float
    opacity: float
    others: int


DIFFICULTIES: dict[str, Difficulty] = {
    "easy": Difficulty((1, 3), (0.3, 0.55), 0.1, 0.0, 1.0, 0),
    "medium": Difficulty((1, 6), (0.15, 0.55), 0.5, 0.5, 0.9, 1),
    "hard": Difficulty((2, 10), (0.1, 0.5), 0.8, 0.8, 0.6, 4),
}


def scenes(
    dir: str,
    name: str,
    side: int,
    train: int,
    test: int,
    difficulty: str,
    packages: Sequence[str],
    source: str | None = None,
    seed: int = 0,
    progress: Progress = lambda what, done, total: None,
) -> tuple[Path, list[str]]:
    """Draw the scenes, unless they are prepared.

    Args:
        dir: where prepared data sets are; Fashion-MNIST is prepared there, too.
        name: of the data set.
        side: of a scene in pixels.
        train: scenes to train on.
        test: scenes to test on.
        difficulty: one of `DIFFICULTIES`.
        packages: Debian's packages of photographs, see `debian_photographs.PHOTOGRAPHS`.
        source: where they were extracted to; None: they are installed.
        seed: of everything that is drawn.
        progress: called with the number of scenes drawn.

    Returns:
        Its directory, and no sentences.

    Raises:
        UserError: a package or Fashion-MNIST is missing, or the difficulty is unknown.
    """
    if difficulty not in DIFFICULTIES:
        raise UserError(
            f"data.prepare.difficulty={difficulty} is unknown; choose {', '.join(DIFFICULTIES)}."
        )
    if side < 32 or min(train, test) < 1:
        raise UserError("Scenes have 32 pixels a side at least, and one is drawn for each split.")
    drawn_by = {
        "side": side, "train": train, "test": test, "difficulty": difficulty,
        "packages": list(packages), "seed": seed,
    }  # fmt: skip
    sources = {"data.prepare": str(drawn_by)}
    if prepared_directory(name, Path(dir)) is not None:
        return store(dir, name, _nothing, "raise", progress, sources)
    root = Path(source or "/")
    files = find_photographs(root, packages, "data.prepare")
    prepare(GARMENTS, Path(dir), None, progress)
    garments = open_dataset(GARMENTS, Path(dir), progress)
    photographs = _photographs(files, progress)

    def read(scratch: Path) -> Annotations:
        splits = {}
        for number, (split, count) in enumerate(zip(SPLITS, (train, test), strict=True)):
            material = _Material(
                [pixels for one, pixels in photographs.items() if side_of(one, files) == split],
                garments.splits[split],
            )
            draw = partial(
                _store_one, material, DIFFICULTIES[difficulty], side, (seed, number), scratch, split
            )
            with ThreadPoolExecutor(core_count()) as pool:
                found = []
                for one in pool.map(draw, range(count)):
                    found.append(one)
                    progress(f"draw scenes of {split}", len(found), count)
            splits[split] = found
        classes = Classes(garments.class_names, tuple(range(1, len(garments.class_names) + 1)))
        return Annotations(splits, classes, sources, {}, papers_of(root, packages, files))

    with scratch_directory(Path(dir), f"{name}-scenes", progress) as scratch:
        return store(dir, name, partial(read, scratch), "raise", progress, sources)


def _nothing() -> Annotations:
    raise AssertionError("a data set that is prepared is not read")


def side_of(photograph: str, files: Mapping[str, Path]) -> str:
    """Return the split of a photograph: in the order of names, one in `TEST_SHARE` is tested on."""
    return "test" if sorted(files).index(photograph) % TEST_SHARE == 1 else "train"


def _photographs(files: Mapping[str, Path], progress: Progress) -> dict[str, np.ndarray]:
    """Return class -> pixels of the photograph, reduced to `MOST`."""

    def read(path: Path) -> np.ndarray:
        try:
            with Image.open(path) as file:
                scale = MOST / max(file.size)
                file.draft("RGB", (int(scale * file.width), int(scale * file.height)))
                picture = file.convert("RGB")
        except OSError as error:
            raise UserError(f"{path} is damaged ({error}): install its package again.") from error
        picture.thumbnail((MOST, MOST), Image.Resampling.LANCZOS)
        return np.asarray(picture)

    found = {}
    for done, (name, path) in enumerate(sorted(files.items()), 1):
        found[name] = read(path)
        progress("read photographs", done, len(files))
    return found


@dataclass(frozen=True)
class _Material:
    photographs: Sequence[UInt8[np.ndarray, "h w 3"]]
    garments: Split


def _store_one(
    material: _Material,
    difficulty: Difficulty,
    side: int,
    key: tuple[int, int],
    scratch: Path,
    split: str,
    number: int,
) -> Annotated:
    """Draw a scene and write it to a file."""
    seed, place = key
    rng = np.random.Generator(np.random.Philox(key=[seed, (place << 32) + number]))
    pixels, boxes = draw(rng, material.photographs, material.garments, difficulty, side)
    path = scratch / f"{split}_{number:06d}.jpg"
    Image.fromarray(pixels).save(path, quality=QUALITY, subsampling=0)
    return Annotated(path, path.name, (place << 32) + number, (side, side), tuple(boxes))


def draw(
    rng: np.random.Generator,
    photographs: Sequence[UInt8[np.ndarray, "h w 3"]],
    garments: Split,
    difficulty: Difficulty,
    side: int,
) -> tuple[UInt8[np.ndarray, "side side 3"], list[Box]]:
    """Draw one scene.

    Args:
        rng: everything is drawn by it.
        photographs: the backgrounds.
        garments: ``image`` uint8 (n, 28, 28, 1), ``label`` int32 (n,).
        difficulty: how it is drawn.
        side: of the scene, pixels.
    """
    scene = _crop(rng, photographs, side).astype(np.float32)
    for _ in range(int(rng.integers(difficulty.others + 1))):
        shade, mask = _garment(rng, garments, difficulty, side)[:2]
        other = _crop(rng, photographs, max(mask.shape)).astype(np.float32)
        # A checkerboard of a quarter's side: of the shape of no garment.
        quarter = max(1, max(mask.shape) // 4)
        rows, columns = np.indices(mask.shape) // quarter
        _paint(scene, other[: shade.shape[0], : shade.shape[1]], mask * ((rows + columns) % 2), rng)
    owner = np.full((side, side), -1, np.int32)
    drawn: list[tuple[int, int]] = []  # label, number of pixels
    for _ in range(int(rng.integers(difficulty.garments[0], difficulty.garments[1] + 1))):
        shade, mask, label = _garment(rng, garments, difficulty, side)
        place = _place(rng, mask > 0.5, owner, drawn, difficulty.hidden)
        if place is None:
            continue
        opacity = rng.uniform(difficulty.opacity, 1.0)
        _paint_at(scene, shade, mask * np.float32(opacity), place)
        top, left = place
        part = owner[top : top + mask.shape[0], left : left + mask.shape[1]]
        part[mask > 0.5] = len(drawn)
        drawn.append((label, int((mask > 0.5).sum())))
    boxes = []
    for number, (label, whole) in enumerate(drawn):
        seen = owner == number
        count = int(seen.sum())
        if count < SEEN * whole:
            continue
        rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        corners = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        x1, y1, x2, y2 = (float(one) for one in corners)
        hard = count < HARDLY_SEEN * whole
        name = f"garment {number}"
        boxes.append(Box((x1, y1, x2, y2), label, name, difficult=hard, area=float(count)))
    return np.clip(np.rint(scene), 0, 255).astype(np.uint8), boxes


def _crop(
    rng: np.random.Generator, photographs: Sequence[np.ndarray], side: int
) -> UInt8[np.ndarray, "side side 3"]:
    """Cut a square out of one of some photographs, at a drawn scale, mirrored by chance."""
    photograph = photographs[int(rng.integers(len(photographs)))]
    height, width = photograph.shape[:2]
    most = min(height, width)
    cut = int(rng.integers(min(side, most), most + 1))
    top, left = int(rng.integers(height - cut + 1)), int(rng.integers(width - cut + 1))
    picture = Image.fromarray(photograph[top : top + cut, left : left + cut])
    # The gap lets Pillow shrink large crops by whole numbers first, in a quarter of the time.
    resized = picture.resize((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    pixels = np.asarray(resized)
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels


def _garment(
    rng: np.random.Generator, garments: Split, difficulty: Difficulty, side: int
) -> tuple[Float32[np.ndarray, "h w 3"], Float32[np.ndarray, "h w"], int]:
    """Draw a garment: its colours, how opaque each pixel is, and its class."""
    from scipy.ndimage import binary_fill_holes

    number = int(rng.integers(len(garments)))
    grey = np.asarray(garments.images[number])[..., 0]
    label = int(garments.labels[number])
    solid = np.minimum(grey.astype(np.float32) / SOLID, 1.0)
    solid[binary_fill_holes(grey > 0) & (grey == 0)] = 1.0  # black within the garment
    share = np.exp(rng.uniform(*np.log(difficulty.sides)))
    size = max(8, round(float(share) * side))
    resized = [
        np.asarray(
            Image.fromarray(plane.astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC)
        )
        for plane in (grey, solid)
    ]
    if rng.random() < 0.5:
        resized = [plane[:, ::-1] for plane in resized]
    colour = 1.0 - difficulty.tint * rng.random(3)
    shade = np.clip(resized[0], 0, 255)[..., None] * colour.astype(np.float32)
    mask = np.clip(resized[1], 0, 1)
    rows, columns = np.flatnonzero((mask > 0).any(axis=1)), np.flatnonzero((mask > 0).any(axis=0))
    if not len(rows):  # an empty picture: nothing is painted
        return shade, mask, label
    tight = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return shade[tight], mask[tight], label


TRIES = 20  # of places for a garment


def _place(
    rng: np.random.Generator,
    mask: Bool[np.ndarray, "h w"],
    owner: np.ndarray,
    drawn: Sequence[tuple[int, int]],
    hidden: float,
) -> tuple[int, int] | None:
    """Return the top and left of a garment that covers none too much; None if none is found."""
    height, width = mask.shape
    if height > owner.shape[0] or width > owner.shape[1] or not mask.any():
        return None
    for _ in range(TRIES):
        top = int(rng.integers(owner.shape[0] - height + 1))
        left = int(rng.integers(owner.shape[1] - width + 1))
        below = owner[top : top + height, left : left + width]
        covered = np.bincount(below[mask & (below >= 0)], minlength=len(drawn))
        seen = np.bincount(owner[owner >= 0], minlength=len(drawn))
        if all(
            seen[i] - covered[i] >= (1 - hidden) * whole or not covered[i]
            for i, (_, whole) in enumerate(drawn)
        ):
            return top, left
    return None


def _paint(
    scene: np.ndarray, shade: np.ndarray, mask: np.ndarray, rng: np.random.Generator
) -> None:
    """Paint something at a drawn place."""
    room = scene.shape[0] - mask.shape[0], scene.shape[1] - mask.shape[1]
    if min(room) >= 0:
        _paint_at(
            scene, shade, mask, (int(rng.integers(room[0] + 1)), int(rng.integers(room[1] + 1)))
        )


def _paint_at(
    scene: np.ndarray, shade: np.ndarray, mask: np.ndarray, place: tuple[int, int]
) -> None:
    top, left = place
    part = scene[top : top + mask.shape[0], left : left + mask.shape[1]]
    part += mask[..., None] * (shade - part)
