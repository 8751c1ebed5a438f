"""Small data sets of photographs with boxes, in the published formats, for tests."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

SIZES = ((40, 60), (60, 40), (32, 32))  # height and width


def colour(label: int) -> tuple[int, int, int]:
    """Return the colour in which `photograph` paints objects of a class."""
    return ((250, 10, 10), (10, 250, 10), (10, 10, 250))[label]


def photograph(size, objects):
    """Return a grey photograph uint8 (height, width, 3) with a filled rectangle an object.

    Args:
        size: height, width.
        objects: (x1, y1, x2, y2, label) of each.
    """
    image = np.full((*size, 3), 128, np.uint8)
    for x1, y1, x2, y2, label in objects:
        image[y1:y2, x1:x2] = colour(label)
    return image


def drawn(count: int, seed: int = 0, most: int = 3):
    """Return (height and width, objects) of each of some photographs; every third has none."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        height, width = SIZES[i % len(SIZES)]
        objects = []
        for _ in range(0 if i % 3 == 2 else int(rng.integers(1, most + 1))):
            x1, y1 = int(rng.integers(width - 12)), int(rng.integers(height - 12))
            x2, y2 = x1 + int(rng.integers(6, 13)), y1 + int(rng.integers(6, 13))
            objects.append((x1, y1, x2, y2, int(rng.integers(3))))
        found.append(((height, width), objects))
    return found


def coco_content(count: int, seed: int = 0, first: int = 100) -> dict:
    """Return the content of a JSON file in COCO's format; ids and categories have gaps."""
    images, annotations = [], []
    for i, ((height, width), objects) in enumerate(drawn(count, seed)):
        number = first + 7 * i
        name = f"photo{number}.jpg"
        images.append({"id": number, "file_name": name, "height": height, "width": width})
        for x1, y1, x2, y2, label in objects:
            annotations.append(
                {
                    "id": 1 + len(annotations),
                    "image_id": number,
                    "category_id": (2, 5, 9)[label],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": 0.8 * (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": i, "name": n} for i, n in ((9, "blue"), (2, "red"), (5, "green"))]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_coco(root: Path, content: dict, seed: int = 0, name: str = "train") -> None:
    """Write NAME.json and the photographs of it into NAME/, painted as `coco_content` drew them."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    painted = drawn(len(content["images"]), seed)
    for about, (size, objects) in zip(content["images"], painted, strict=True):
        Image.fromarray(photograph(size, objects)).save(
            folder / about["file_name"], quality=95, subsampling=0
        )
    (root / f"{name}.json").write_text(json.dumps(content))


def prepare_coco(root: Path, train: int = 12, test: int = 6) -> Path:
    """Prepare such a data set as ``things`` in root/data, and return that directory."""
    from deeper.data.prepare.coco import coco

    write_coco(root, coco_content(train), name="train")
    write_coco(root, coco_content(test, seed=1, first=5000), seed=1, name="test")
    coco(
        str(root / "data"),
        "things",
        images=str(root / "train"),
        annotations=str(root / "train.json"),
        test_images=str(root / "test"),
        test_annotations=str(root / "test.json"),
    )
    return root / "data"
