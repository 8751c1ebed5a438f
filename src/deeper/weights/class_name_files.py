"""Names of classes as people keep them: a list, a table by number, or a folder of folders."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deeper.data.image_files import is_hidden
from deeper.errors import UserError


def read(path: Path, classes: int | None) -> tuple[str, ...]:
    """Return names of classes in the order of a net's outputs.

    Args:
        path: a text file with a name in each line; a JSON file with a list, with number -> name
            (or number -> [id, name], as ``imagenet_class_index.json``) or with name -> number (as
            torchvision's ``class_to_idx``); or a folder with one folder per class, which count in
            the order of their names.
        classes: how many there have to be; None where that is not known.

    Raises:
        UserError: there is no such file, or it has another number of names.
    """
    if path.is_dir():
        names = sorted(p.name for p in path.iterdir() if p.is_dir() and not is_hidden(p))
    elif path.is_file():
        names = _of_file(path)
    else:
        raise UserError(f"names={path}: there is no such file or folder.")
    if classes is not None and len(names) != classes:
        raise UserError(f"names={path} has {len(names)} names, and the net has {classes} classes.")
    # The usual list of ImageNet has two cranes: a bird and a machine.
    names = [
        f"{name} ({number})" if names.count(name) > 1 else name for number, name in enumerate(names)
    ]
    return tuple(names)


def _of_file(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix.lower() != ".json":
        return [line.strip() for line in text.splitlines() if line.strip()]
    try:
        return _of_json(json.loads(text))
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"names={path}: give a list of names, number -> name, or name -> number ({error})."
        ) from error


def _of_json(values: Any) -> list[str]:
    if isinstance(values, list):
        return [str(name) for name in values]
    if not isinstance(values, Mapping):
        raise TypeError("it is neither a list nor a table")
    if all(isinstance(number, int) for number in values.values()):  # name -> number
        values = {str(number): name for name, number in values.items()}
    numbers = sorted(values, key=int)
    if [int(number) for number in numbers] != list(range(len(numbers))):
        raise KeyError("the numbers are not 0, 1, 2 and so on")
    names = [values[number] for number in numbers]
    return [str(name[-1] if isinstance(name, list) else name) for name in names]
