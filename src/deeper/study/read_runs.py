"""Reads the run directories of a study, in any state."""

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeper.config.command_line import command, override
from deeper.config.identity import LAUNCHING, changes_no_number
from deeper.errors import UserError
from deeper.record.arm_names import IN_LABEL, arm_name, arm_of
from deeper.record.atomic_files import read_json
from deeper.record.schema import (
    CONFIG,
    RECORDS,
    RESULT,
    STATES,
    SUBMISSION,
    RunRecord,
    nested,
    read_run,
)
from deeper.record.values import of_overrides, spelled
from deeper.study.checks import check_names
from deeper.study.definition import Study

LEFT_OPEN = "???"  # value of a definition that was given on the command line of the runs


@dataclass
class Collection:
    """A study's runs.

    Attributes:
        directory: the study's directory.
        study: its definition.
        mode: mode of the runs.
        runs: all runs, sorted by status, arm and seed.
        missing: (name of the arm, seed) of runs that have no directory.
        config_directories: directories of the user's YAML files, for the commands that are shown.
    """

    directory: Path
    study: Study
    mode: str
    runs: list[RunRecord]
    missing: list[tuple[str, int]]
    config_directories: Sequence[Path | str] = ()

    @property
    def finished(self) -> list[RunRecord]:
        """Return the finished runs."""
        return [run for run in self.runs if run.status == "finished"]

    @property
    def complete(self) -> bool:
        """Whether every run of the study is finished."""
        return not self.missing and not any(
            run.status in ("diverged", "unfinished", "damaged") for run in self.runs
        )

    def command(self, *verb: str, places: bool = True) -> str:
        """Return the command that makes the runs, with the overrides that all of them share.

        Args:
            *verb: verb to use instead of ``train -m``.
            places: include overrides that change no number, such as directories of this machine,
                and the directories of files.
        """
        chosen = [nested(run.config, "choices.study") for run in self.runs]
        name = next((name for name in chosen if name), self.study.name)
        words = [override("study", name), override("mode", self.mode), *self._given(places)]
        runs = str(self.directory.parent)
        if places and runs != "runs":
            words.append(override("runs", runs))
        directories = self.config_directories if places else ()
        return command(*(verb or ("train", "-m")), *words, directories=directories)

    def _given(self, places: bool) -> list[str]:
        """Return the overrides that all runs share, without those of arms and seeds."""
        elsewhere = ("study", "mode", "runs", "seed", *LAUNCHING, *self.study.arms)
        runs = [run for run in self.finished if run.words] or self.finished
        common = set.intersection(*(set(run.overrides.items()) for run in runs)) if runs else set()
        words = []
        for word in runs[0].words if runs else ():
            [(key, value)] = of_overrides([word]).items()
            if (key, value) not in common or key in elsewhere:
                continue
            if not places:
                # A definition changes no number by itself, but what is typed of it sets others.
                if changes_no_number(key) and not key.startswith("study."):
                    continue
                word = _without_directory(word, key, value)
            words.append(word)
        return words

    def absences(self) -> str:
        """Return how many runs are not finished, by status; empty if all are finished."""
        counts = Counter(run.status for run in self.runs)
        words = [f"{counts[state]} {state}" for state in STATES[1:4] if counts[state]]
        if self.missing:
            words.append(f"{len(self.missing)} not begun")
        return ", ".join(words)


def collect(
    directory: Path,
    definition: Mapping[str, Any] | None = None,
    mode: str | None = None,
    config_directories: Sequence[Path | str] = (),
) -> Collection:
    """Read every run directory of a study.

    Args:
        directory: the study's directory.
        definition: the study; by default, and where a value is `LEFT_OPEN`, taken from the first
            readable run.
        mode: mode in the suggested command; by default taken from the runs.
        config_directories: directories of the user's YAML files, for that command.

    Raises:
        UserError: no run is finished, or the definition cannot be understood.
    """
    runs = [read_run(path) for path in _run_directories(directory)]
    studies = [run.config["study"] for run in runs if isinstance(run.config.get("study"), dict)]
    first: Mapping[str, Any] = next(iter(studies), {})
    definition = {
        key: first.get(key) if value == LEFT_OPEN else value
        for key, value in (definition or first).items()
    }
    modes = [run.config["mode"]["name"] for run in runs if "name" in (run.config.get("mode") or {})]
    mode = mode or next(iter(modes), "quick")
    if not definition:
        raise UserError(_nothing(directory, directory.name, mode, runs, config_directories))
    study = Study.of(definition)
    ended = [run for run in runs if run.status == "finished"]
    if ended:
        check_names(study, ended)
    for run in runs:
        if run.status == "finished" and run.number(study.metric) is None:
            run.status, run.note = "damaged", f"{RESULT} has no number {study.metric}"
        run.arm = arm_of(run, study.arms)
    _supersede(runs)
    collection = Collection(
        directory, study, mode, runs, missing_runs(study, runs), config_directories
    )
    if not collection.finished:
        raise UserError(_nothing(directory, study.name, mode, runs, config_directories))
    runs.sort(key=lambda r: (STATES.index(r.status), r.depth, r.arm, r.seed or 0, r.path))
    return collection


def _without_directory(word: str, key: str, value: str) -> str:
    """Return an override with the name alone of a file that has its place on this machine."""
    return override(key, Path(value).name) if Path(value).is_absolute() else word


def _run_directories(directory: Path) -> list[Path]:
    return [p for p in sorted(directory.glob("*/")) if any((p / name).exists() for name in RECORDS)]


def words_of_all(directory: Path, beginning: str) -> list[str]:
    """Return the overrides with such a beginning that every run of a study was given.

    Args:
        directory: the study's; it need not be there.
        beginning: of the override, such as ``study.``.
    """
    words = [read_run(path).words for path in _run_directories(directory)]
    words = [of_run for of_run in words if of_run]  # some records of older versions have none
    return [
        word
        for word in (words[0] if words else ())
        if word.startswith(beginning) and all(word in of_run for of_run in words)
    ]


def _nothing(
    directory: Path,
    name: str,
    mode: str,
    runs: list[RunRecord],
    config_directories: Sequence[Path | str],
) -> str:
    counts = Counter(run.status for run in runs)
    states = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    chosen = [nested(run.config, "choices.study") for run in runs]
    words = [
        override("study", next((choice for choice in chosen if choice), name)),
        override("mode", mode),
    ]
    if str(directory.parent) != "runs":
        words.append(override("runs", str(directory.parent)))
    first = command("train", "-m", *words, directories=config_directories)
    return (
        f"{directory} has no finished run ({states or 'it holds no run at all'}), so there is "
        f"nothing to report. Run `{first}` first; runs of another "
        "mode are reported with its mode=..."
    )


def missing_runs(study: Study, runs: Sequence[RunRecord]) -> list[tuple[str, int]]:
    """Return the arms and seeds that have no run directory."""

    def stands_for(run: RunRecord, arm: Mapping[str, Any]) -> bool:
        return all(run.setting(key) in (None, spelled(value)) for key, value in arm.items())

    missing = []
    for arm, seed in study.expected():
        if not any(run.seed == seed and stands_for(run, arm) for run in runs if run.config):
            label = f"{arm.get('model', '')}{arm.get('model.depth', '')}"
            rest = {key: spelled(value) for key, value in arm.items() if key not in IN_LABEL}
            missing.append((arm_name(label, rest).strip(), seed))
    return missing


def _supersede(runs: list[RunRecord]) -> None:
    """Mark all runs of an arm and seed as superseded, except the newest, whatever its status.

    A changed config changes the run directory, so directories of old configs may exist. A finished
    run of an old config does not replace a newer run that diverged, is damaged or is unfinished.
    Among runs of the same config, a finished run is preferred to a newer one without a result.
    """
    groups: dict[tuple[str, int | None], list[RunRecord]] = {}
    for run in runs:
        if run.config:  # without a config, its arm and seed are unknown
            groups.setdefault((run.arm, run.seed), []).append(run)
    for same in groups.values():
        counts = _counting(sorted(same, key=lambda run: (_begun(run), run.path)))
        for run in same:
            if run is not counts:
                is_finished = "" if counts.status == "finished" else f", which is {counts.status}"
                was = f"{run.status}; " if run.status != "finished" else ""
                run.note = f"{was}{counts.path.name} counts instead{is_finished}"
        for run in same:
            if run is not counts:
                run.status = "superseded"


def _counting(oldest_first: list[RunRecord]) -> RunRecord:
    """Return the run that counts among all runs of an arm and seed."""
    newest = oldest_first[-1]
    if newest.status in ("finished", "diverged"):
        return newest
    config = newest.config.get("config_hash")
    finished = [run for run in oldest_first if run.status == "finished"]
    repeats = [run for run in finished if config and run.config.get("config_hash") == config]
    return repeats[-1] if repeats else newest


def _begun(run: RunRecord) -> str:
    """Return the time at which a run was last started, or else submitted, or else its config
    written.
    """
    started = run.environment.get("started")
    if started:
        return str(started)
    submission = read_json(run.path / SUBMISSION) or {}
    if "submitted" in submission:
        return str(submission["submitted"])
    written = (run.path / CONFIG).stat().st_mtime
    return datetime.datetime.fromtimestamp(written, datetime.UTC).isoformat(timespec="seconds")
