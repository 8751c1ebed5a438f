"""What a run's classes are called."""

from importlib import resources
from pathlib import Path

from deeper.config.schema import RunConfig
from deeper.data.prepare.imagenet import CLASSES, wordnet_ids
from deeper.errors import UserError
from deeper.record.atomic_files import read_json
from deeper.record.schema import NET
from deeper.run import data_record
from deeper.run.dataset import open_data


def class_names(path: Path, config: RunConfig) -> list[str]:
    """Return a run's class names as its record has them, whatever is prepared now.

    Where there is no record (runs of an older deeper), they are those of the data that the config
    names, or numbers.
    """
    record = read_json(path / NET) or data_record.read_record(path)
    if record is not None and "class_names" in record:
        names = list(record["class_names"])
        by_id = len(names) == CLASSES and names == list(wordnet_ids())
        return imagenet_names() if by_id else names
    if config.data.name == "imagenet" and config.data.classes == CLASSES:
        return imagenet_names()  # the data set's own are WordNet ids
    try:
        return list(open_data(config.data).class_names)
    except UserError:
        return [str(number) for number in range(config.data.classes or 0)]


def imagenet_names() -> list[str]:
    """Return the thousand classes' names."""
    text = (resources.files("deeper.data") / "imagenet_names.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if not line.startswith("#")]
