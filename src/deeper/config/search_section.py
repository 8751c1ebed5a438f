"""The ``search`` section: what `deeper search` varies, and how it chooses; a study may state it.

search:
  space:
    optimizer.learning_rate: {low: 0.01, high: 1.0, log: true}
    model.width: {low: 4, high: 16}    # whole numbers, since both ends are
    augment: [none, flip, crop_flip]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from deeper.config.identity import changes_no_number
from deeper.config.settings import (
    Limits,
    ReadBy,
    UnfitError,
    plain,
    read_section,
    read_value,
    setting,
    show,
)
from deeper.errors import UserError

Scalar = bool | int | float | str | None

# A search over these would choose among draws instead of among configs.
DRAWS = ("seed", "data.draw", "data.fold", "data.folds", "data.validation")
OF_THE_COMMAND = (
    "search", "hydra", "action", "trials", "trial", "readme", "launch", "code", "jobs",
)  # fmt: skip


@dataclass(frozen=True)
class Range:
    """A range of numbers; of whole numbers if both ends are whole numbers."""

    low: float = setting("lowest value")
    high: float = setting("highest value")
    log: bool = setting("even in the logarithm", default=False)

    @property
    def whole(self) -> bool:
        """Whether it is a range of whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)


Values = Range | tuple[Scalar, ...]


def _read_space(given: Any, where: str) -> tuple[dict[str, Values], Any]:
    if given is None:
        return {}, None
    if not isinstance(given, Mapping):
        raise UnfitError
    space = {str(key): _read_values(values, str(key), where) for key, values in given.items()}
    return space, plain(given)


def _read_values(values: Any, key: str, where: str) -> Values:
    name = f"{where}.{key}"
    if key in DRAWS or key.partition(".")[0] in OF_THE_COMMAND or changes_no_number(key):
        raise UserError(
            f"{name}: a search cannot choose {key}, which is a draw or changes no number of a run; "
            "leave it out."
        )
    if isinstance(values, Mapping):
        found: Range = read_section(Range, values, name)[0]
        if found.low >= found.high:
            raise UserError(f"{name} goes from {found.low} to {found.high}: give low below high.")
        if found.log and found.low <= 0:
            raise UserError(f"{name}.low={found.low}: with log=true give a number above 0.")
        return found
    if isinstance(values, Sequence) and not isinstance(values, str):
        if any(not isinstance(one, Scalar) for one in values):
            raise UserError(f"{name}={show(values)}: give single values, such as [16, 32].")
        choices = {(type(one), one): one for one in values}
        if len(choices) < 2 or len(choices) < len(values):
            raise UserError(f"{name}={show(values)}: give two or more values, each once.")
        return (*choices.values(),)
    raise UserError(
        f"{name}={show(values)}: give a range such as {{low: 0.01, high: 1.0, log: true}}, or a "
        "list of values."
    )


Space = Annotated[
    dict[str, Values],
    ReadBy(_read_space, "key -> {low, high, log} or a list of values"),
]


@dataclass(frozen=True)
class SearchSection:
    """The ``search`` section."""

    name: str | None = setting("of the search; null for the only one of its study")
    space: Space = setting("key of a run's config -> the values to choose among")
    sampler: Literal["tpe", "sobol", "cmaes"] = setting("what chooses the next values")
    pruner: Literal["halving", "hyperband", "none"] = setting("what cuts poor trials")
    rungs: int = setting("before the end, at which a trial may be cut", least=1)
    reduction: int = setting("one in so many trials goes on at a rung", least=2)
    seed: int = setting("of the sampler", least=0)
    fresh: int = setting("reruns of winner and baseline, each with a new seed", least=2)
    interval: Literal["seeds", "folds"] = setting("what the reruns differ in")
    low: float = setting("least learning rate of the range test", above=0)
    high: float = setting("greatest learning rate of the range test", above=0)
    steps: int = setting("of the range test", least=10)


def read_search(given: Any) -> SearchSection:
    """Check and return the ``search`` section.

    Raises:
        UserError: names the key, the value and what is allowed.
    """
    section: SearchSection = read_value(given, SearchSection, Limits(), "search")[0]
    if (section.name or "").startswith(".") or "/" in (section.name or ""):
        raise UserError(f"search.name={section.name}: it is part of a directory's name.")
    if section.low >= section.high:
        raise UserError(f"search.low={section.low}: give less than search.high={section.high}.")
    choices = [key for key, values in section.space.items() if not isinstance(values, Range)]
    if section.sampler == "cmaes" and choices:
        raise UserError(
            f"search.sampler=cmaes chooses among numbers alone, and {choices[0]} has a list of "
            "values: give a range, or take tpe or sobol."
        )
    return section
