"""From overrides, as on the command line, to a run's config, by Hydra."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from deeper.config.identity import frozen
from deeper.config.schema import RunConfig
from deeper.config.yaml_files import conf_directory
from deeper.errors import UserError

# What Hydra says, as a ValueError, of model=null.
NULL_GROUP = "Config group override must be a string or a list"


def configure(
    *overrides: str,
    directories: Sequence[Path | str] = (),
    **objects: Mapping[str, Any],
) -> RunConfig:
    """Return the config that ``deeper train`` would have with the same overrides.

    Args:
        *overrides: as on the command line: ``"model=resnet"``, ``"train.epochs=1"``.
        directories: of YAML files of one's own, searched before ours.
        **objects: sections in the place of those composed, each a mapping with a ``_target_``:
            ``model={"_target_": "mypackage.nets.net", "width": 8}``.

    Raises:
        UserError: an override or a value is not allowed.
    """
    try:
        config = composed("train", overrides, directories)
        choices: dict[str, Any] = {
            str(group): choice for group, choice in config.hydra.runtime.choices.items()
        }
        values = plain_values(config)
    except (HydraException, OmegaConfBaseException) as error:
        notes = ("full_key:", "object_type=")
        lines = (line.strip() for line in str(error).splitlines())
        told = " ".join(line for line in lines if line and not line.startswith(notes))
        raise UserError(told) from error
    except ValueError as error:
        if not str(error).startswith(NULL_GROUP):
            raise
        raise UserError("A group is null: leave it out, or name a file of it.") from error
    for name, section in objects.items():
        values[name] = section
        choices[name] = str(section.get("_target_", name)).rpartition(".")[2]
    return RunConfig.of(frozen(values, choices))


def composed(
    verb: str, overrides: Sequence[str] = (), directories: Sequence[Path | str] = ()
) -> DictConfig:
    """Return a verb's config as Hydra composes it, with Hydra's own section.

    Args:
        verb: names the primary file, conf/VERB.yaml.
        overrides: as on the command line.
        directories: of YAML files of one's own, searched before ours.

    Raises:
        HydraException: an override is wrong.
    """
    register_resolvers()
    search = [f"file://{Path(one).absolute()}" for one in directories]
    more = [f"hydra.searchpath=[{','.join(search)}]"] if search else []
    with own_hydra(), initialize_config_dir(str(conf_directory()), version_base="1.3"):
        return compose(verb, overrides=[*overrides, *more], return_hydra_config=True)


def plain_values(config: DictConfig) -> dict[str, Any]:
    """Return a composed config resolved, as plain values, without Hydra's section."""
    keys = [str(key) for key in config if key != "hydra"]
    own = OmegaConf.masked_copy(config, keys)
    container: Any = OmegaConf.to_container(own, resolve=True, throw_on_missing=True)
    return container


def register_resolvers() -> None:
    """Let YAML files write ``${sweep:...}`` and ``${shorter_side_for:...}``."""
    OmegaConf.register_new_resolver("sweep", sweep_values, replace=True)
    OmegaConf.register_new_resolver("shorter_side_for", shorter_side_for, replace=True)


def shorter_side_for(image_shape: Sequence[int]) -> int:
    """Return the shorter side of photographs of which a net's image is the middle: 256 for 224."""
    return round(min(image_shape[:2]) * 256 / 224)


def sweep_values(values: Any) -> str:
    """Write a list as Hydra's sweeper reads it: ``[0, 1]`` becomes ``0,1``."""
    words = {True: "true", False: "false", None: "null"}
    return ",".join(
        words[value] if value is None or isinstance(value, bool) else str(value) for value in values
    )


@contextmanager
def own_hydra() -> Iterator[None]:
    """Leave the process's Hydra, of a caller that is a Hydra program itself, as it was."""
    instance = GlobalHydra.instance()
    before = instance.hydra
    instance.clear()
    try:
        yield
    finally:
        instance = GlobalHydra.instance()
        instance.hydra = before
