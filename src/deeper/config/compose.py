"""Composes a run's config from overrides, with Hydra."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    InterpolationToMissingValueError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from deeper.config.identity import frozen
from deeper.config.schema import RunConfig
from deeper.config.verbs import read_keys
from deeper.config.yaml_files import conf_directory
from deeper.errors import UserError

SMALL = 64  # pixels: nets for images of up to this size differ from those of the papers
OWN_TASK = (
    " For a task of your own, name the directory that has task/: --config-dir, directories= in "
    "Python."
)
# The message of Hydra's ValueError for model=null.
NULL_GROUP = "Config group override must be a string or a list"


def configure(
    *overrides: str,
    directories: Sequence[Path | str] = (),
    **objects: Mapping[str, Any],
) -> RunConfig:
    """Return the config of ``deeper train`` with the same overrides.

    Args:
        *overrides: as on the command line: ``"model=resnet"``, ``"train.epochs=1"``.
        directories: directories of YAML files of one's own, searched before ours.
        **objects: sections that replace composed ones, each a mapping with a ``_target_``:
            ``model={"_target_": "mypackage.nets.net", "width": 8}``.

    Raises:
        UserError: an override or a value is not allowed.
    """
    for word in overrides:
        if not isinstance(word, str):
            raise UserError(f'{word!r} is no override: give texts such as "train.epochs=1".')
    for name, section in objects.items():
        if not isinstance(section, Mapping):
            raise UserError(
                f"{name}={section!r} is no section: give {name}=deeper.call(...), or the override "
                f'"{name}=NAME" for a file of conf/{name}.'
            )
    with _mistakes_in_words():
        config = composed("train", overrides, directories)
        choices = choices_of(config.hydra)
        values = plain_values(config)
    for name, section in objects.items():
        values[name] = section
        choices[name] = str(section.get("_target_", name)).rpartition(".")[2]
    return RunConfig.of(frozen(values, choices))


def configure_sweep(
    *overrides: str, directories: Sequence[Path | str] = ()
) -> list[tuple[list[str], RunConfig]]:
    """Return the configs of the runs of ``deeper train -m`` with the same overrides.

    Args:
        *overrides: as on the command line, with comma-separated values of a sweep.
        directories: directories of YAML files of the user's own, searched before ours.

    Returns:
        The overrides and the config of each run.

    Raises:
        UserError: an override or a value is not allowed.
    """
    with _mistakes_in_words():
        swept = _sweep_parameters(overrides, directories)
        return [
            (words, _composed_run(words, directories))
            for words in _product([*(f"{key}={value}" for key, value in swept), *overrides])
        ]


def configure_verb(
    verb: str, *overrides: str, directories: Sequence[Path | str] = ()
) -> dict[str, Any]:
    """Return the config of another verb, checked, as plain values.

    Args:
        verb: names the primary file, conf/VERB.yaml.
        *overrides: as on the command line.
        directories: directories of YAML files of one's own, searched before ours.

    Raises:
        UserError: an override or a value is not allowed.
    """
    with _mistakes_in_words():
        values = plain_values(composed(verb, overrides, directories))
    return read_keys(verb, values)


def _sweep_parameters(
    overrides: Sequence[str], directories: Sequence[Path | str]
) -> list[tuple[str, Any]]:
    """Return the sweep of the YAML files: override -> comma-separated values."""
    fixed = [words for words in overrides if not _is_sweep(words)]
    params = composed("train", fixed, directories).hydra.sweeper.get("params") or {}
    return [(str(key), value) for key, value in params.items()]


def _is_sweep(word: str) -> bool:
    [parsed] = OverridesParser.create().parse_overrides([word])
    return bool(parsed.is_sweep_override())


def _product(overrides: Sequence[str]) -> list[list[str]]:
    """Return the overrides of each run of a sweep, in the order of Hydra's own sweeper."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    [batch] = BasicSweeper.split_arguments(parsed, None)
    return batch


@contextmanager
def _mistakes_in_words() -> Iterator[None]:
    """Turn Hydra's errors into UserErrors."""
    try:
        yield
    except OverrideParseException as error:
        raise UserError(
            f"{error.override}: give KEY=VALUE; a value with characters of Hydra's grammar, such "
            "as a comma, stands in quotes."
        ) from error
    except (HydraException, OmegaConfBaseException) as error:
        words = hydras_words(error)
        hint = " `deeper train --cfg job` prints those there are."
        raise UserError(words + hint * words.startswith("There is no key ")) from error
    except ValueError as error:
        if not str(error).startswith(NULL_GROUP):
            raise
        raise UserError("A group is null: leave it out, or name a file of it.") from error


def hydras_words(error: BaseException) -> str:
    """Return an error of Hydra as one sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(line for line in lines if not line.startswith(("full_key:", "object_type=")))
    no_file = re.search(r"Could not find '([^']+)'", text)
    there = re.search(r"Available options in '([^']*)':((?: (?!Config\b)[\w.-]+)*)", text)
    if no_file and there and no_file[1].startswith(f"{there[1]}/"):
        group, known = there[1], ", ".join(there[2].split())
        name = no_file[1].removeprefix(f"{group}/")
        own = OWN_TASK if group == "task" else ""
        return f"{group}={name}: there is no such file; {group} has {known}.{own}"
    if no_value := re.search(r"Interpolation key '([^']+)' not found", text):
        asking = re.search(r"full_key: (\w+)", str(error))
        section = asking[1] if asking else "A section"
        takes = f"{section} takes {no_value[1]}, which is not there: "
        if section in ("model", "task"):
            return (
                f"{takes}a net of sequences needs a data set of sequences, such as model=vdcnn "
                "data=languages."
            )
        return (
            f"{takes}it is for other data. Choose another {section}=NAME, or write a file of "
            f"{section}/ in your --config-dir with the value itself in its place."
        )
    if missing := re.search(r"Missing mandatory value: ([\w.@/]+)", text):
        return f"{missing[1]} is missing: give {missing[1]}=VALUE."
    if no_key := re.search(r"Could not override '([^']+)'", text):
        return f"There is no key {no_key[1]}.{OWN_TASK if no_key[1] == 'task' else ''}"
    return text


def _composed_run(words: Sequence[str], directories: Sequence[Path | str]) -> RunConfig:
    config = composed("train", words, directories)
    return run_config(config, config.hydra)


def run_config(config: DictConfig, hydra: Any, leave_out: tuple[str, ...] = ()) -> RunConfig:
    """Check and return a run's config.

    Args:
        config: config composed by Hydra.
        hydra: the ``hydra`` section, whose choices of config groups are stored.
        leave_out: keys of the command that are not part of a run's config.

    Raises:
        UserError: a value is not allowed.
    """
    return RunConfig.of(frozen(plain_values(config), choices_of(hydra), leave_out))


def choices_of(hydra: Any) -> dict[str, Any]:
    """Return config group -> chosen file, from Hydra's section of a composed config."""
    return {str(group): choice for group, choice in hydra.runtime.choices.items()}


def directories_of(hydra: Any) -> list[Path]:
    """Return the user's directories of YAML files that a command named by ``--config-dir``.

    Args:
        hydra: the ``hydra`` section of a composed config.
    """
    sources = hydra.runtime.config_sources
    return [Path(each.path) for each in sources if each.provider == "command-line"]


def composed(
    verb: str, overrides: Sequence[str] = (), directories: Sequence[Path | str] = ()
) -> DictConfig:
    """Return a verb's config as composed by Hydra, with the ``hydra`` section.

    Args:
        verb: names the primary file, conf/VERB.yaml.
        overrides: as on the command line.
        directories: directories of YAML files of one's own, searched before ours.

    Raises:
        HydraException: an override is wrong.
    """
    register_resolvers()
    search = [f"file://{Path(directory).absolute()}" for directory in directories]
    more = [f"hydra.searchpath=[{','.join(search)}]"] if search else []
    with own_hydra(), initialize_config_dir(str(conf_directory()), version_base="1.3"):
        return compose(verb, overrides=[*overrides, *more], return_hydra_config=True)


def plain_values(config: DictConfig) -> dict[str, Any]:
    """Return a composed config resolved, as plain values, without Hydra's section."""
    keys = [str(key) for key in config if key != "hydra"]
    own = OmegaConf.masked_copy(config, keys)
    container: Any = OmegaConf.to_container(own, resolve=True, throw_on_missing=True)
    return container


def set_also(config: DictConfig, overrides: Sequence[str], typed: Sequence[str]) -> None:
    """Apply further overrides to a composed config, except for keys that the user set.

    Args:
        config: as composed; it is changed.
        overrides: further overrides, of values.
        typed: overrides that the user gave.
    """
    own = {word.lstrip("+").partition("=")[0] for word in typed}
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        if override.key_or_group not in own:
            OmegaConf.update(config, override.key_or_group, override.value())


def stated(section: DictConfig, left_open: Any) -> dict[str, Any]:
    """Return the values of a section.

    Args:
        section: of a composed config.
        left_open: the value of a key that is missing, or that refers to a missing one.
    """
    values: dict[str, Any] = {}
    for key in section:
        try:
            value = section[key]
            is_node = OmegaConf.is_config(value)
            values[str(key)] = (
                OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
                if is_node
                else value
            )
        except (MissingMandatoryValue, InterpolationToMissingValueError):
            values[str(key)] = left_open
    return values


def register_resolvers() -> None:
    """Let YAML files write ``${sweep:...}``, ``${shorter_side_for:...}``, ``${by_data:...}``."""
    OmegaConf.register_new_resolver("sweep", sweep_values, replace=True)
    OmegaConf.register_new_resolver("by_data", by_data, replace=True)
    OmegaConf.register_new_resolver("shorter_side_for", shorter_side_for, replace=True)


def shorter_side_for(image_shape: Sequence[int]) -> int:
    """Return the shorter side to which photographs are resized before the central crop: 256 for
    224.
    """
    return round(min(image_shape[:2]) * 256 / 224)


def by_data(key: str, small: Any, large: Any, *, _root_: DictConfig) -> Any:
    """Return an argument of a net that goes by the data set.

    Args:
        key: of the data section, whose value it is where there is one.
        small: what it is otherwise, where the examples' shorter side is of 64 pixels or less.
        large: likewise, where it is longer.
        _root_: the config, which OmegaConf hands over.
    """
    data = _root_.data
    if key in data:
        return data[key]
    return small if min(data.input_shape[:-1], default=1) <= SMALL else large


def sweep_values(values: Any) -> str:
    """Return a list in the syntax of Hydra's sweeper: ``[0, 1]`` becomes ``0,1``."""
    words = {True: "true", False: "false", None: "null"}
    return ",".join(
        words[value] if value is None or isinstance(value, bool) else str(value) for value in values
    )


@contextmanager
def own_hydra() -> Iterator[None]:
    """Save and restore Hydra's global state, for callers that are Hydra programs themselves."""
    instance = GlobalHydra.instance()
    before = instance.hydra
    instance.clear()
    try:
        yield
    finally:
        instance = GlobalHydra.instance()
        instance.hydra = before
