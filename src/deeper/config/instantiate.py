"""Instantiates sections with a ``_target_``, and decides which targets are trusted."""

import functools
import importlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from deeper.config.calls import DEEPER, TARGET, package_of
from deeper.errors import UserError

TRUST = "DEEPER_TRUST"  # environment variable: comma-separated packages
PARTIAL, ARGUMENTS = "_partial_", "_args_"
IGNORED = ("_convert_", "_recursive_")  # keys of Hydra; lists and dicts are always plain here


def build(section: Any, **arguments: Any) -> Any:
    """Instantiate a section, from the inside out.

    Args:
        section: a mapping with ``_target_`` and the arguments, which may be such mappings too;
            ``_partial_: true`` gives a functools.partial, and ``_args_`` holds positional
            arguments. Mappings and lists without a target become dicts and lists.
        **arguments: override those in the section.

    Raises:
        UserError: the target is not there, or its arguments do not fit.
    """
    if isinstance(section, Mapping):
        if arguments:
            section = {**section, **arguments}
        if TARGET in section:
            return _call(section)
        return {key: build(value) for key, value in section.items()}
    if isinstance(section, Sequence) and not isinstance(section, str | bytes):
        return [build(part) for part in section]
    return section


def _call(section: Mapping[str, Any]) -> Any:
    target = section[TARGET]
    constructor = locate(str(target))
    special = (TARGET, PARTIAL, ARGUMENTS, *IGNORED)
    kwargs = {str(key): build(value) for key, value in section.items() if key not in special}
    args = build(section.get(ARGUMENTS) or [])
    if section.get(PARTIAL):
        return functools.partial(constructor, *args, **kwargs)
    try:
        return constructor(*args, **kwargs)
    except (TypeError, ValueError) as error:
        raise UserError(f"{target}: {error}") from error


def locate(target: str) -> Any:
    """Return the object with a dotted name such as ``package.module.Class``.

    Raises:
        UserError: it does not exist, or cannot be imported.
    """
    path = target.replace(":", ".").split(".")
    if not all(part.isidentifier() for part in path):
        raise UserError(f"_target_={target}: give a dotted name, such as package.module.Class.")
    for end in range(len(path), 0, -1):
        name = ".".join(path[:end])
        try:
            obj: Any = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and f"{name}.".startswith(f"{error.name}."):
                continue  # not a module: try the shorter name as the module
            raise UserError(f"_target_={target} cannot be imported: {error}.") from error
        try:
            obj = functools.reduce(getattr, path[end:], obj)
        except AttributeError as error:
            raise UserError(f"_target_={target} is not there: {error}.") from error
        if not callable(obj):
            raise UserError(f"_target_={target} cannot be called: it is {type(obj).__name__}.")
        if path[0] == DEEPER and package_of(getattr(obj, "__module__", None) or "") != DEEPER:
            # Otherwise deeper.some.module.os.system would be trusted.
            raise UserError(f"_target_={target} is not deeper's own: name it by its own package.")
        return obj
    raise UserError(
        f"_target_={target} cannot be imported: there is no package {path[0]} here. Install it, or "
        "put its directory into PYTHONPATH."
    )


def targets_in(section: Any) -> Iterator[str]:
    """Yield all targets in a config, at any depth."""
    if isinstance(section, Mapping):
        if TARGET in section:
            yield str(section[TARGET])
        for value in section.values():
            yield from targets_in(value)
    elif isinstance(section, Sequence) and not isinstance(section, str | bytes):
        for part in section:
            yield from targets_in(part)


_named: set[str] = set()  # trusted by the code of this process


def trust(target: str) -> None:
    """Trust a package, given by its name or a name in it, for the rest of this process."""
    _named.add(package_of(target))


def trusted_packages() -> frozenset[str]:
    """Return the packages whose targets may be in a run directory's config."""
    named = os.environ.get(TRUST, "").split(",")
    return frozenset([DEEPER, *_named, *(name.strip() for name in named if name.strip())])


def trust_in_children(configs: Iterable[Any]) -> None:
    """Let child processes trust the packages in some configs.

    Args:
        configs: configs of the user's own command.
    """
    packages = {package_of(target) for config in configs for target in targets_in(config)}
    if packages - {DEEPER}:
        os.environ[TRUST] = ",".join(sorted((packages | trusted_packages()) - {DEEPER}))


def require_trusted(config: Any, where: str, own: Collection[str] = ()) -> None:
    """Raise a UserError if a stored config names a target that is not trusted.

    Every ``_target_`` is called, so a run directory from elsewhere could run arbitrary code.

    Args:
        config: config of a run directory.
        where: origin of the config, for the message.
        own: targets in the user's own command; their packages are trusted too.
    """
    trusted = trusted_packages() | {package_of(target) for target in own}
    for target in targets_in(config):
        package = package_of(target)
        if package not in trusted:
            raise UserError(
                f"{where} would call {target}, which is not deeper's. If you trust it, say "
                f"{TRUST}={package} in front of the command, or deeper.load(..., "
                f"trust=[{package!r}]) in Python."
            )
