"""How a config's value is declared, and how a given value is held against the declaration.

A section is a frozen dataclass. Each field's annotation is the value's type, and `setting` adds its
meaning and its range: one definition a value, which checks, messages and help texts use.
"""

import difflib
import math
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from deeper.errors import UserError

SHOWN = 60  # characters of a wrong value in a message


@dataclass(frozen=True)
class Limits:
    """The range of a value.

    Attributes:
        least: smallest number that is allowed.
        above: numbers have to be larger than it.
        most: largest number that is allowed.
        below: numbers have to be smaller than it.
        length: of a list, if it has to have one.
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    length: int | None = None

    def hold(self, number: float) -> bool:
        """Whether a number is in the range; NaN is in none."""
        return (
            math.isfinite(number)
            and (self.least is None or number >= self.least)
            and (self.above is None or number > self.above)
            and (self.most is None or number <= self.most)
            and (self.below is None or number < self.below)
        )

    def words(self) -> str:
        """Return the range in words, with a leading space; empty where there is none."""
        low = "" if self.least is None else f"{self.least:,g}"
        low = low if self.above is None else f"above {self.above:g}"
        if self.most is not None:
            high = str(self.most) if isinstance(self.most, int) else f"{self.most:g}"
            return f" from {low} to {high}" if low else f" of at most {high}"
        if self.below is not None:
            return f" from {low} to below {self.below:g}" if low else f" below {self.below:g}"
        if self.above is not None:
            return f" {low}"
        return f" of at least {low}" if low else ""


def setting(
    meaning: str,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    length: int | None = None,
    **default: Any,
) -> Any:
    """Declare a value: a dataclass field with its meaning and its range.

    Args:
        meaning: a phrase for messages and help texts.
        least: see `Limits`, as the next four.
        above: exclusive.
        most: inclusive.
        below: exclusive.
        length: of a list.
        **default: ``default=`` or ``default_factory=`` makes the key optional.
    """
    limits = Limits(least, above, most, below, length)
    return field(metadata={"meaning": meaning, "limits": limits}, **default)


class OpenSection(Mapping[str, Any]):
    """A section that may hold keys of the user's own; read-only, with attributes for its keys."""

    def __init__(self, values: Mapping[str, Any]):
        self._values = dict(values)

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, key: str) -> Any:
        if key.startswith("_"):  # also before __init__, when a copy is made
            raise AttributeError(key)
        try:
            return self._values[key]
        except KeyError:
            raise AttributeError(f"There is no {key}, but {', '.join(self._values)}.") from None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._values})"


@dataclass(frozen=True)
class ReadBy:
    """Of an annotation, ``Annotated[type, ReadBy(...)]``: the section knows more than its fields.

    Attributes:
        read: takes the value and its dotted key; returns it, and as a config file holds it.
        allowed: in words, what the value may be.
    """

    read: Callable[[Any, str], tuple[Any, Any]]
    allowed: str


class UnfitError(Exception):
    """A value is not of the declared type, or out of its range."""


def meaning_of(declared: Field[Any]) -> str:
    """Return the meaning of a declared value."""
    return str(declared.metadata.get("meaning", ""))


def limits_of(declared: Field[Any]) -> Limits:
    """Return the range of a declared value."""
    return declared.metadata.get("limits", Limits())


@cache
def annotations_of(section: type) -> dict[str, Any]:
    """Return the types of a section's fields, as objects."""
    return typing.get_type_hints(section, include_extras=True)


def plain(value: Any) -> Any:
    """Return a value as a config file holds it: dicts, lists and scalars."""
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(part) for part in value]
    return value


def read_section(section: type, given: Any, where: str) -> tuple[Any, dict[str, Any]]:
    """Hold a mapping against a section's declaration.

    Args:
        section: a dataclass of settings.
        given: the values.
        where: the section's dotted key; empty at the top.

    Returns:
        The section, and the values as a config file holds them: in the order of ``given``, and
        with numbers in place of texts that spell them.

    Raises:
        UserError: names the key, the value and what is allowed.
    """
    if not isinstance(given, Mapping):
        raise UserError(f"{where}={show(given)}: give a section with {_names(section)}.")
    declared = {one.name.rstrip("_"): one for one in fields(section) if one.init}
    require_known(given, list(declared), where)
    types, values, written = annotations_of(section), {}, {}
    # As declared: a value is looked at before those that YAML files take from it, ${train.dtype}.
    for key in (key for key in declared if key in given):
        one = declared[key]
        values[one.name], written[key] = read_value(
            given[key], types[one.name], limits_of(one), _join(where, key), meaning_of(one)
        )
    for key, one in declared.items():
        if key not in given and one.default is MISSING and one.default_factory is MISSING:
            allowed = describe(types[one.name], limits_of(one))
            raise UserError(f"{_join(where, key)} is missing ({meaning_of(one)}): give {allowed}.")
    return section(**values), {key: written[key] for key in given}


def read_open(section: type, given: Any, where: str) -> tuple[OpenSection, dict[str, Any]]:
    """Hold those values of a mapping against a declaration that it knows; others pass as they are.

    Args:
        section: a dataclass of settings.
        given: the values.
        where: the section's dotted key.

    Returns:
        As `read_section`.
    """
    if not isinstance(given, Mapping):
        raise UnfitError
    declared = {one.name: one for one in fields(section)}
    types = annotations_of(section)
    values, written = {}, {}
    for key in (key for key in declared if key in given):  # as declared, see `read_section`
        limits, meaning = limits_of(declared[key]), meaning_of(declared[key])
        values[key], written[key] = read_value(
            given[key], types[key], limits, _join(where, key), meaning
        )
    return OpenSection({**given, **values}), {**plain(given), **written}


def require_known(given: Mapping[Any, Any], known: Sequence[str], where: str) -> None:
    """Raise a UserError for the first key that is not known, with those that are close to it."""
    for key in given:
        if key in known:
            continue
        close = difflib.get_close_matches(str(key), known, n=3, cutoff=0.6)
        hint = f" Did you mean {' or '.join(_join(where, one) for one in close)}?" if close else ""
        raise UserError(
            f"There is no key {_join(where, str(key))}.{hint} "
            f"{where or 'The config'} has {', '.join(known)}."
        )


def read_value(
    value: Any, annotation: Any, limits: Limits, key: str, meaning: str = ""
) -> tuple[Any, Any]:
    """Hold a value against its declaration; return it, and as a config file holds it.

    Raises:
        UserError: names the key, the value and what is allowed.
    """
    try:
        return _read(value, annotation, limits, key)
    except UnfitError:
        what = f" ({meaning})" if meaning else ""
        state = " is missing" if isinstance(value, str) and value == "???" else f"={show(value)}"
        raise UserError(f"{key}{state}{what}: give {describe(annotation, limits)}.") from None


def describe(annotation: Any, limits: Limits) -> str:
    """Return in words which values a declaration allows."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        last = [one for one in inner if one is not NoneType]
        words = [describe(one, limits) for one in last]
        return _either(words if len(last) == len(inner) else [*words, "null"])
    if origin is Literal:
        return _either([str(one) for one in inner])
    if origin is Annotated:
        return str(inner[1].allowed)
    if origin is tuple:
        many = "" if limits.length is None else f"{limits.length} "
        unit = describe(inner[0], limits).removeprefix("a ").removeprefix("an ")
        return f"a list of {many}" + unit.replace("number", "numbers", 1)
    simple = {
        int: f"a whole number{limits.words()}",
        float: f"a number{limits.words()}",
        bool: "true or false",
        str: "text",
        OpenSection: "a section",
    }
    if annotation in simple:
        return simple[annotation]
    return f"a section with {_names(annotation)}" if is_dataclass(annotation) else "a value"


def show(value: Any) -> str:
    """Return a value as it is typed, shortened."""
    words = {None: "null", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _read(value: Any, annotation: Any, limits: Limits, key: str) -> tuple[Any, Any]:
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation is Any:
        return value, plain(value)
    if origin in (Union, UnionType):
        return _read_either(value, inner, limits, key)
    if origin is Literal:
        # 1 and true are equal to Python, and are not the same here.
        found = [one for one in inner if one == value and type(one) is type(value)]
        if not found:
            raise UnfitError
        return value, value
    if origin is tuple:
        return _read_list(value, inner[0], limits, key)
    if origin is Annotated:
        return inner[1].read(value, key)
    if is_dataclass(annotation):
        if not isinstance(value, Mapping):
            raise UnfitError
        return read_section(annotation, value, key)  # type: ignore[arg-type] # a class
    readers = {int: _read_integer, float: _read_number, bool: _read_bool}
    if annotation in readers:
        found_value = readers[annotation](value, limits)
        return found_value, found_value
    if annotation is str:
        return _read_text(value), value
    if annotation is OpenSection and isinstance(value, Mapping):
        return OpenSection(value), plain(value)
    if annotation is NoneType and value is None:
        return None, None
    raise UnfitError


def _read_either(value: Any, kinds: Sequence[Any], limits: Limits, key: str) -> tuple[Any, Any]:
    """Read a value of one of several kinds; a wrong key inside a section is told as itself."""
    if value is None:
        if NoneType in kinds:
            return None, None
        raise UnfitError
    for kind in kinds:
        try:
            return _read(value, kind, limits, key)
        except UnfitError:
            continue
    raise UnfitError


def _read_list(value: Any, kind: Any, limits: Limits, key: str) -> tuple[Any, Any]:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise UnfitError
    if limits.length is not None and len(value) != limits.length:
        raise UnfitError
    pairs = [_read(part, kind, limits, f"{key}.{number}") for number, part in enumerate(value)]
    return tuple(typed for typed, _ in pairs), [written for _, written in pairs]


def _read_integer(value: Any, limits: Limits) -> int:
    if isinstance(value, str):  # as ${oc.env:SEED} gives it
        try:
            value = int(value)
        except ValueError:
            raise UnfitError from None
    if not isinstance(value, int) or isinstance(value, bool) or not limits.hold(value):
        raise UnfitError
    return value


def _read_number(value: Any, limits: Limits) -> float:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise UnfitError from None
    # An integer stays one: 30 and 30.0 are spelled differently in a config's hash.
    if not isinstance(value, int | float) or isinstance(value, bool) or not limits.hold(value):
        raise UnfitError
    return value


def _read_bool(value: Any, limits: Limits) -> bool:
    if value in ("true", "false") and isinstance(value, str):
        return value == "true"
    if not isinstance(value, bool):
        raise UnfitError
    return value


def _read_text(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)  # a name that is a number
    if not isinstance(value, str) or not value.strip() or value == "???":
        raise UnfitError
    return value


def _names(section: Any) -> str:
    return ", ".join(one.name.rstrip("_") for one in fields(section) if one.init)


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _either(words: Sequence[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last
