"""Keys shared by commands on a run: the directory of its data, and other data."""

from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from deeper.config.calls import TARGET
from deeper.config.data_sections import read_data
from deeper.errors import UserError


def names_another(config: DictConfig) -> bool:
    """Return whether a command's ``data`` section names another data set."""
    return "name" in list(config.data)  # named, even if the name is still missing


def moved_to(config: DictConfig) -> str | None:
    """Return the directory of the run's data that a command gives, or None."""
    return None if names_another(config) else config.data.dir


def other_data(config: DictConfig, classes: int | None) -> Any:
    """Return the ``data`` section of another data set that a command names, or None.

    Args:
        config: config of the command.
        classes: classes of the run, which the other data set shares.
    """
    return data_section(config, classes) if names_another(config) else None


def data_section(config: DictConfig, classes: int | None) -> Any:
    """Check and return a command's ``data`` section.

    Args:
        config: config of the command.
        classes: number of classes if the section has none; None if it is not needed.
    """
    values: Any = OmegaConf.to_container(config.data, resolve=True)
    if values.get("name") == MISSING:
        raise UserError("Say which data set: data.name=NAME.")
    if values.get("classes") == MISSING:
        unknown = None if TARGET in values else 1  # sections of images have a number in any case
        values["classes"] = unknown if classes is None else classes
    return read_data(values, "data")[0]
