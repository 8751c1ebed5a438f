"""What a search is: the config that it begins from, its space, and how it chooses.

``search.json`` in the directory of the search holds it, so that a search that was killed goes on
as it began, and several launchers share one. Beside it are Optuna's journal, ``trials/`` and
``reruns/`` with run directories, and what `deeper.search.report` writes.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeper.config.command_line import override
from deeper.config.compose import configure
from deeper.config.data_sections import OwnDataset
from deeper.config.identity import config_hash, study_directory
from deeper.config.schema import RunConfig
from deeper.config.search_section import Range, SearchSection, Values
from deeper.errors import UserError
from deeper.record.atomic_files import disk_errors, read_json, to_json, write_whole
from deeper.record.values import spelled
from deeper.run.build import task_of

DEFINITION, TRIALS, RERUNS = "search.json", "trials", "reruns"
# Keys of the definition that have to be the same when a search is gone on with.
_FIXED = (
    "config_hash", "space", "sampler", "pruner", "rungs", "reduction", "seed", "metric",
)  # fmt: skip


@dataclass(frozen=True)
class Definition:
    """The definition of a search.

    Attributes:
        words: overrides of `deeper train` that make the baseline.
        config_hash: of the baseline, whose seed is that of all trials.
        space: key -> the values to choose among.
        sampler: tpe, sobol or cmaes.
        pruner: halving, hyperband or none.
        rungs: number of rungs before the end of a run.
        reduction: one trial in so many goes on at a rung.
        seed: of the sampler.
        metric: on the validation split, by which trials are cut and chosen.
        less_is_better: whether the metric's less is better.
        directories: directories of the user's YAML files.
    """

    words: tuple[str, ...]
    config_hash: str
    space: dict[str, Values]
    sampler: str
    pruner: str
    rungs: int
    reduction: int
    seed: int
    metric: str
    less_is_better: bool
    directories: tuple[str, ...] = ()

    @property
    def whole(self) -> int:
        """Return the denominator of the rungs' shares: the whole run in the first rung's shares."""
        return self.reduction**self.rungs

    @property
    def shares(self) -> tuple[int, ...]:
        """Return the numerators of the rungs' shares; none without a pruner."""
        if self.pruner == "none":
            return ()
        return tuple(self.reduction**rung for rung in range(self.rungs))

    def value(self, score: float) -> float:
        """Return the metric of a score, of which less is better, and the other way round."""
        return score if self.less_is_better else -score

    def config(self, *more: str) -> tuple[list[str], RunConfig]:
        """Return the overrides and the config of a run of the search.

        Raises:
            UserError: the values do not go together.
        """
        words = [*self.words, *more]
        return words, configure(*words, directories=self.directories)

    def plain(self) -> dict[str, Any]:
        """Return plain values."""
        space = {
            key: dataclasses.asdict(values) if isinstance(values, Range) else list(values)
            for key, values in self.space.items()
        }
        return dataclasses.asdict(self) | {
            "space": space,
            "words": list(self.words),
            "directories": list(self.directories),
        }


def words_of(params: Mapping[str, Any]) -> list[str]:
    """Return the overrides of a trial's values."""
    return [override(key, spelled(value)) for key, value in params.items()]


def definition_of(
    section: SearchSection, words: Sequence[str], directories: Sequence[Path] = ()
) -> tuple[Definition, RunConfig]:
    """Return the definition of a search, and the config of its baseline.

    Args:
        section: the ``search`` section.
        words: overrides of `deeper train` that make the baseline.
        directories: directories of the user's YAML files.

    Raises:
        UserError: the space is empty, a value of it is not allowed, or there is no validation split
            to choose by.
    """
    if not section.space:
        raise UserError(
            "search.space is empty: say what to choose among, in the study's file as "
            "`search: {space: {optimizer.learning_rate: {low: 0.01, high: 1.0, log: true}}}`."
        )
    base = configure(*words, directories=directories)
    if base.mode.dry:
        raise UserError("mode=dry trains nothing: choose another mode.")
    if not isinstance(base.data, OwnDataset) and not base.data.validation:
        raise UserError(
            "data.validation=0: a search chooses by the validation split, never by test examples; "
            "give data.validation=N examples of the training split."
        )
    task = task_of(base)
    named = [*words, override("study.name", f"{base.study.name}-search")] if base.study else words
    definition = Definition(
        words=tuple(named),
        config_hash=config_hash(base.plain()),
        space=section.space,
        sampler=section.sampler,
        pruner=section.pruner,
        rungs=section.rungs,
        reduction=section.reduction,
        seed=section.seed,
        metric=f"validation/{task.metric}",
        less_is_better=task.less_is_better,
        directories=tuple(str(directory.absolute()) for directory in directories),
    )
    for key, values in section.space.items():
        _check(definition, key, values)
    return definition, base


def _check(definition: Definition, key: str, values: Values) -> None:
    """Raise a UserError if a run cannot have the ends of a range, or one of the values."""
    for value in (values.low, values.high) if isinstance(values, Range) else values:
        try:
            definition.config(*words_of({key: value}))
        except UserError as error:
            raise UserError(f"search.space.{key}: {error}") from error


def directory_of(base: RunConfig, section: SearchSection) -> Path:
    """Return the directory of a search, inside that of its study."""
    plain = base.plain()
    study = study_directory(plain["runs"], plain["study"], plain["mode"]["name"]).absolute()
    return study / ("search" if section.name is None else f"search-{section.name}")


def take_definition(directory: Path, definition: Definition) -> None:
    """Write the definition into a new search's directory, or compare it with what is there.

    Raises:
        UserError: the directory holds another search, or the disk refuses.
    """
    old, new = read_json(directory / DEFINITION), definition.plain()
    if old is None:
        with disk_errors(directory):
            directory.mkdir(parents=True, exist_ok=True)
        write_whole(directory / DEFINITION, to_json(new, indent=1))
        return
    for key in _FIXED:
        if old.get(key) != new[key]:
            was, now = (spelled(plain.get(key)) for plain in (old, new))
            what = "another config" if key == "config_hash" else f"search.{key}={was}, not {now}"
            raise UserError(
                f"{directory} holds a search of {what}. Go on with that one, or give "
                "search.name=NAME for another."
            )


def read_definition(directory: Path) -> Definition:
    """Return the definition of the search in a directory.

    Raises:
        UserError: there is none.
    """
    values = read_json(directory / DEFINITION)
    if values is None:
        raise UserError(
            f"There is no search in {directory}: `deeper search study=NAME` begins one."
        )
    space: dict[str, Values] = {
        key: Range(**given) if isinstance(given, dict) else tuple(given)
        for key, given in values.pop("space").items()
    }
    values |= {key: tuple(values[key]) for key in ("words", "directories")}
    return Definition(space=space, **values)
