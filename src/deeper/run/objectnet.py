"""The ImageNet classes of ObjectNet's objects, from the files that ObjectNet is published with.

Barbu et al. 2019, "ObjectNet: a large-scale bias-controlled dataset". 113 of its 313 objects are in
ImageNet, some as several classes. Its images have a frame of two red pixels, which the middle of a
photograph that is cut smaller than its shorter side leaves out.
"""

import json
from pathlib import Path

from deeper.errors import UserError

CLASSES = 1000  # of ImageNet
SIZE = 18_574  # images of the objects that are in ImageNet
FOLDERS, OBJECTS = "folder_to_objectnet_label.json", "objectnet_to_imagenet_1k.json"
NUMBERS, NAMES = "pytorch_to_imagenet_2012_id.json", "imagenet_to_label_2012_v2"


def classes_by_folder(mappings: Path) -> dict[str, tuple[int, ...]]:
    """Return ObjectNet's folder -> numbers of ImageNet's classes, in the order of WordNet ids.

    Args:
        mappings: the directory ``mappings`` of ObjectNet's archive.

    Raises:
        UserError: a file is missing or damaged.
    """
    try:
        folders, objects, numbers = (
            json.loads((mappings / name).read_text(encoding="utf-8"))
            for name in (FOLDERS, OBJECTS, NUMBERS)
        )
        lines = (mappings / NAMES).read_text(encoding="utf-8").splitlines()
        by_id = {int(own): int(number) for number, own in numbers.items()}
        by_name = {name.strip(): by_id[place] for place, name in enumerate(lines)}
        by_object = {
            thing: tuple(by_name[name] for name in names.split("; "))
            for thing, names in objects.items()
        }
        return {folder: by_object[name] for folder, name in folders.items() if name in by_object}
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise UserError(
            f"{mappings}: ObjectNet's mappings cannot be read ({type(error).__name__}: {error}). "
            "Copy the directory mappings of its archive there."
        ) from error
