"""The arms of a sweep as Hydra composes them, where one that does not compose stops no other."""

from collections.abc import Sequence
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from deeper.cli.main import explain


def composed_arms(
    loader: Any, config: DictConfig, overrides: Sequence[Sequence[str]]
) -> tuple[list[DictConfig], list[list[str]], list[tuple[str, str]]]:
    """Return the configs of a sweep's arms, the overrides of each, and what is wrong with others.

    Args:
        loader: Hydra's.
        config: of the sweep.
        overrides: of each arm.

    Returns:
        Configs with Hydra's section, and their overrides; and of each arm that does not compose,
        its overrides in a line and the reason.

    Raises:
        HydraException: none of them does; it is of the first.
    """
    configs: list[DictConfig] = []
    words: list[list[str]] = []
    mistakes: list[tuple[str, str]] = []
    first: Exception | None = None
    for one in overrides:
        try:
            configs.append(loader.load_sweep_config(config, list(one)))
        except (HydraException, OmegaConfBaseException) as error:
            first = first or error
            mistakes.append((" ".join(one), explain(error)))
        else:
            words.append(list(one))
    if first is not None and not configs:
        raise first
    return configs, words, mistakes
