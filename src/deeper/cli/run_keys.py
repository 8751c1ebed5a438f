"""Keys that commands on a run have in common: where its data lie, and other data."""

from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from deeper.config.data_sections import read_data
from deeper.errors import UserError


def names_another(config: DictConfig) -> bool:
    """Whether a command's ``data`` name a data set, and not alone where the run's own lie."""
    return "name" in list(config.data)  # named, also where its name is still to be given


def moved_to(config: DictConfig) -> str | None:
    """Return where a command says that the run's own data lie; None if it does not."""
    return None if names_another(config) else config.data.dir


def other_data(config: DictConfig, classes: int | None) -> Any:
    """Return the ``data`` section of another data set that a command names; None if it does not.

    Args:
        config: of the command.
        classes: of the run, which the other data set shares.
    """
    return data_section(config, classes) if names_another(config) else None


def data_section(config: DictConfig, classes: int | None) -> Any:
    """Return a command's ``data`` section, checked.

    Args:
        config: of the command.
        classes: where the section leaves their number open; None if it does not matter.
    """
    values: Any = OmegaConf.to_container(config.data, resolve=True)
    if values.get("name") == MISSING:
        raise UserError("Say which data set: data.name=NAME.")
    if values.get("classes") == MISSING:
        values["classes"] = 1 if classes is None else classes
    return read_data(values, "data")[0]
