"""From a section with a ``_target_`` to the object that it names, and which targets are trusted."""

import functools
import importlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from deeper.config.calls import OWN, TARGET, package_of
from deeper.errors import UserError

TRUST = "DEEPER_TRUST"  # environment variable: packages, with commas between them
PARTIAL, ARGUMENTS = "_partial_", "_args_"
IGNORED = ("_convert_", "_recursive_")  # Hydra's; here lists and dicts are always plain


def build(section: Any, **arguments: Any) -> Any:
    """Construct what a section names, from the inside out.

    Args:
        section: a mapping with ``_target_`` and the arguments, which may be such mappings too; with
            ``_partial_: true`` the call waits for further arguments, and ``_args_`` holds those
            without names. Mappings and lists without a target become dicts and lists.
        **arguments: take the place of those in the section.

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
    found = locate(str(target))
    special = (TARGET, PARTIAL, ARGUMENTS, *IGNORED)
    named = {str(key): build(value) for key, value in section.items() if key not in special}
    unnamed = build(section.get(ARGUMENTS) or [])
    if section.get(PARTIAL):
        return functools.partial(found, *unnamed, **named)
    try:
        return found(*unnamed, **named)
    except (TypeError, ValueError) as error:
        raise UserError(f"{target}: {error}") from error


def locate(target: str) -> Any:
    """Return what a dotted name stands for, as ``package.module.Class``.

    Raises:
        UserError: there is no such thing, or it cannot be imported.
    """
    path = target.replace(":", ".").split(".")
    if not all(part.isidentifier() for part in path):
        raise UserError(f"_target_={target}: give a dotted name, such as package.module.Class.")
    for end in range(len(path), 0, -1):
        name = ".".join(path[:end])
        try:
            found: Any = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and f"{name}.".startswith(f"{error.name}."):
                continue  # a class in the module that the shorter name is of
            raise UserError(f"_target_={target} cannot be imported: {error}.") from error
        try:
            found = functools.reduce(getattr, path[end:], found)
        except AttributeError as error:
            raise UserError(f"_target_={target} is not there: {error}.") from error
        if not callable(found):
            raise UserError(f"_target_={target} cannot be called: it is {type(found).__name__}.")
        if path[0] == OWN and package_of(getattr(found, "__module__", None) or "") != OWN:
            # Else deeper.some.module.os.system would be one of ours.
            raise UserError(f"_target_={target} is not deeper's own: name it by its own package.")
        return found
    raise UserError(
        f"_target_={target} cannot be imported: there is no package {path[0]} here. Install it, or "
        "put its directory into PYTHONPATH."
    )


def targets_in(section: Any) -> Iterator[str]:
    """Yield all targets that a config names, at any depth."""
    if isinstance(section, Mapping):
        if TARGET in section:
            yield str(section[TARGET])
        for value in section.values():
            yield from targets_in(value)
    elif isinstance(section, Sequence) and not isinstance(section, str | bytes):
        for part in section:
            yield from targets_in(part)


_named: set[str] = set()  # by this process's own code


def trust(target: str) -> None:
    """Trust a package, named by itself or by something in it, for the rest of this process."""
    _named.add(package_of(target))


def trusted_packages() -> frozenset[str]:
    """Return the packages whose targets a run directory's config may name."""
    named = os.environ.get(TRUST, "").split(",")
    return frozenset([OWN, *_named, *(name.strip() for name in named if name.strip())])


def trust_in_children(configs: Iterable[Any]) -> None:
    """Let the processes that this one starts trust the packages that some configs name.

    Args:
        configs: of the user's own command.
    """
    packages = {package_of(target) for config in configs for target in targets_in(config)}
    if packages - {OWN}:
        os.environ[TRUST] = ",".join(sorted((packages | trusted_packages()) - {OWN}))


def require_trusted(config: Any, where: str, own: Collection[str] = ()) -> None:
    """Raise a UserError if a stored config names a target that its reader did not name.

    Whatever a ``_target_`` names is called, so a run directory from elsewhere could run anything.

    Args:
        config: of a run directory.
        where: it is from, for the message.
        own: targets of the user's own command; their packages are trusted too.
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
