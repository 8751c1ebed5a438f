"""Reading a study's run directories, whatever state they are in."""

import datetime
import json
import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from deeper.errors import UserError
from deeper.study.checks import check_names
from deeper.study.definition import Study
from deeper.study.values import of_overrides, spelled

RECORDS = ("config.yaml", "environment.json", "metrics.jsonl", "result.json")
SUBMISSION = "submission.json"  # of a launcher, before the run begins
IN_LABEL = ("model", "model.depth")  # the arms' keys that a run's label already tells
OWN_PROTOCOL = "1crop"  # of every run's own evaluation: each image once, in one view
LEFT_OPEN = "???"  # of a definition: what the runs were given on the command line
MISSING = object()
EVALUATIONS = "evaluation-*.json"  # of `deeper evaluate`, in the run's directory
STATES = ("finished", "diverged", "unfinished", "damaged", "superseded")


@dataclass
class Run:
    """One run directory.

    Attributes:
        path: the directory.
        status: one of `STATES`. A superseded run has a newer one of the same arm and seed.
        config: as `config.yaml` has it.
        result: as `result.json` has it; empty where there is none.
        environment: as `environment.json` has it.
        data: as `data.json` has it; empty in runs of an older deeper.
        rows: of `metrics.jsonl`.
        note: how far an unfinished run is, what is wrong with a damaged one.
        arm: its name among the study's arms, the same for all seeds.
        evaluations: protocol -> metrics on the test split: the run's own, and those that
            `deeper evaluate` has left in `evaluation-PROTOCOL.json`.
    """

    path: Path
    status: str
    config: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    note: str = ""
    arm: str = ""
    evaluations: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Return the run's label, from its directory's name if need be."""
        return str(self.config.get("label") or self.path.name.rsplit("-s", 1)[0])

    @property
    def seed(self) -> int | None:
        """Return the run's seed."""
        return self.config.get("seed")

    @property
    def depth(self) -> float:
        """Return the net's depth, 0 where it has none, to sort by."""
        return self.number("depth") or nested(self.config, "model.depth") or 0

    def value(self, key: str) -> Any:
        """Return a metric, an entry of the result, or else of the config by its dotted key."""
        metrics = self.result.get("metrics") or {}
        if key in metrics:
            return metrics[key]
        if key in self.result:
            return self.result[key]
        return self.label if key == "label" else nested(self.config, key)

    @property
    def facts(self) -> dict[str, Any]:
        """Return the result's entries and metrics by their keys."""
        return {**self.result, **(self.result.get("metrics") or {})}

    def has(self, key: str) -> bool:
        """Whether there is a value of this key, be it null."""
        in_config = nested(self.config, key, MISSING) is not MISSING
        return in_config or key in self.facts or key == "label"

    def number(self, key: str) -> float | None:
        """Return a value as a number, or None where there is none; NaN and infinity are none."""
        value = self.value(key)
        if not isinstance(value, int | float) or not math.isfinite(value):
            return None
        return float(value)

    def setting(self, key: str) -> str | None:
        """Return what the run has for an override of the sweep, None if it cannot be told.

        The value is in its one spelling, see `values.spelled`.
        """
        given = self.overrides
        if key in given:
            return given[key]
        if key == "model":
            return self.label.removesuffix(str(nested(self.config, "model.depth") or ""))
        value = nested(self.config, key)
        return None if value is None or isinstance(value, list | dict) else spelled(value)

    @property
    def overrides(self) -> dict[str, str]:
        """Return what the run was given on the command line, also of runs that record no list."""
        for record in (self.result, self.environment):
            if isinstance(record.get("overrides"), list):
                return of_overrides(record["overrides"])
        return _of_command(self.result.get("command") or self.environment.get("command") or "")


@dataclass
class Collection:
    """A study's runs.

    Attributes:
        directory: where they are.
        study: its definition.
        mode: that the runs were made in.
        runs: all of them, by state, arm and seed.
        missing: name of the arm and seed, of runs that have no directory.
    """

    directory: Path
    study: Study
    mode: str
    runs: list[Run]
    missing: list[tuple[str, int]]

    @property
    def finished(self) -> list[Run]:
        """Return the runs with a result that counts."""
        return [run for run in self.runs if run.status == "finished"]

    @property
    def complete(self) -> bool:
        """Whether every run of the study is finished."""
        return not self.missing and not any(
            run.status in ("diverged", "unfinished", "damaged") for run in self.runs
        )

    def command(self) -> str:
        """Return the command that makes the runs, or those that lack."""
        return f"deeper train -m study={self.study.name} mode={self.mode}"

    def absences(self) -> str:
        """Say in words how many of the study's runs do not count, and why; empty if all do."""
        counts = Counter(run.status for run in self.runs)
        words = [f"{counts[state]} {state}" for state in STATES[1:4] if counts[state]]
        if self.missing:
            words.append(f"{len(self.missing)} not begun")
        return ", ".join(words)


def collect(
    directory: Path, definition: Mapping[str, Any] | None = None, mode: str | None = None
) -> Collection:
    """Read every run directory of a study.

    Args:
        directory: the study's directory.
        definition: the study; by default, and where a value is `LEFT_OPEN`, as the first readable
            run states it.
        mode: for the command that is recommended; by default as the runs state it.

    Raises:
        UserError: no run is finished, or the definition cannot be understood.
    """
    held = [p for p in sorted(directory.glob("*/")) if any((p / name).exists() for name in RECORDS)]
    runs = [read_run(path) for path in held]
    stated = [run.config["study"] for run in runs if isinstance(run.config.get("study"), dict)]
    first: Mapping[str, Any] = next(iter(stated), {})
    definition = {
        key: first.get(key) if value == LEFT_OPEN else value
        for key, value in (definition or first).items()
    }
    modes = [run.config["mode"]["name"] for run in runs if "name" in (run.config.get("mode") or {})]
    mode = mode or next(iter(modes), "quick")
    if not definition:
        raise UserError(_nothing(directory, directory.name, mode, runs))
    study = Study.of(definition)
    ended = [run for run in runs if run.status == "finished"]
    if ended:
        check_names(study, ended)
    for run in runs:
        if run.status == "finished" and run.number(study.metric) is None:
            run.status, run.note = "damaged", f"result.json has no number {study.metric}"
        rest = [key for key in study.arms if key not in IN_LABEL]
        run.arm = _arm_name(run.label, {key: run.setting(key) for key in rest})
    _supersede(runs)
    collection = Collection(directory, study, mode, runs, missing_runs(study, runs))
    if not collection.finished:
        raise UserError(_nothing(directory, study.name, mode, runs))
    runs.sort(key=lambda r: (STATES.index(r.status), r.depth, r.arm, r.seed or 0, r.path))
    return collection


def _nothing(directory: Path, name: str, mode: str, runs: list[Run]) -> str:
    counts = Counter(run.status for run in runs)
    found = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    return (
        f"{directory} has no finished run ({found or 'it holds no run at all'}), so there is "
        f"nothing to report. Run `deeper train -m study={name} mode={mode}` first; runs of another "
        "mode are reported with its mode=..."
    )


def read_run(path: Path) -> Run:
    """Read one run directory; whatever is wrong with it is noted, not raised."""
    run = Run(path, "unfinished")
    reading = "config.yaml"
    try:
        run.config = _mapping(yaml.safe_load((path / reading).read_text(encoding="utf-8")))
        reading = "environment.json"
        if (path / reading).exists():
            run.environment = _mapping(json.loads((path / reading).read_text(encoding="utf-8")))
        reading = "data.json"
        if (path / reading).exists():
            run.data = _mapping(json.loads((path / reading).read_text(encoding="utf-8")))
        reading = "metrics.jsonl"
        run.rows = _rows(path / reading)
        reading = "result.json"
        if (path / reading).exists():
            text = (path / reading).read_text(encoding="utf-8")
            run.result = _mapping(json.loads(text, parse_constant=lambda nan: None))
            run.status = run.result["status"]
            if run.status not in ("finished", "diverged"):
                raise ValueError(f"status {run.status!r}")
            run.note = run.result.get("reason") or ""
            run.evaluations[OWN_PROTOCOL] = run.result.get("metrics") or {}
            for file in sorted(path.glob(EVALUATIONS)):
                reading = file.name
                text = file.read_text(encoding="utf-8")
                found = _mapping(json.loads(text, parse_constant=lambda nan: None))
                if found.get("step") == run.result.get("steps"):  # or it is of an earlier state
                    run.evaluations[found["protocol"]] = found
            return run
    except FileNotFoundError:
        run.status, run.note = "damaged", f"it has no {reading}"
        return run
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        what = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        run.status, run.note = "damaged", f"{reading} cannot be read ({what})"
        run.result = {}
        return run
    step = run.rows[-1]["step"] if run.rows else 0
    steps = nested(run.environment, "run.steps") or nested(run.config, "train.steps")
    run.note = f"at step {step}" + (f" of {steps}" if steps else "")
    return run


def nested(mapping: Mapping[str, Any], key: str, absent: Any = None) -> Any:
    """Return the entry with a dotted key, or what stands for none."""
    found: Any = mapping
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return absent
        found = found[part]
    return found


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("it holds no mapping")
    return value


def _rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows; a last line that was cut off is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    rows = [_mapping(json.loads(line)) for line in lines if line.endswith("\n")]
    if any("step" not in row for row in rows):
        raise ValueError("a row has no step")
    return rows


def _of_command(command: str) -> dict[str, str]:
    """Return what a command line overrides; nothing where it states a sweep of several runs."""
    try:
        words = shlex.split(command)
    except ValueError:
        return {}
    return {} if "-m" in words or "--multirun" in words else of_overrides(words)


def _arm_name(label: str, rest: Mapping[str, Any]) -> str:
    # An arm that is called as its net is needs no other name.
    told = [f"{k}={spelled(v)}" for k, v in rest.items() if v is not None and v != label]
    return " ".join([label, *told])


def missing_runs(study: Study, runs: Sequence[Run]) -> list[tuple[str, int]]:
    """Return the arms and seeds that no run directory stands for."""

    def stands_for(run: Run, arm: Mapping[str, Any]) -> bool:
        return all(run.setting(key) in (None, spelled(value)) for key, value in arm.items())

    missing = []
    for arm, seed in study.expected():
        if not any(run.seed == seed and stands_for(run, arm) for run in runs if run.config):
            label = f"{arm.get('model', '')}{arm.get('model.depth', '')}"
            rest = {key: spelled(value) for key, value in arm.items() if key not in IN_LABEL}
            missing.append((_arm_name(label, rest).strip(), seed))
    return missing


def _supersede(runs: list[Run]) -> None:
    """Let one run count for an arm and seed: the newest, whatever became of it.

    A changed config gives a run a directory of its own, so an old one may lie beside the new. An
    older run of another config never stands in for a newer one that diverged, is damaged or goes
    on: it would answer for a config that was given up. Of one config, a finished run counts before
    a newer one that has no result.
    """
    groups: dict[tuple[str, int | None], list[Run]] = {}
    for run in runs:
        if run.config:  # without one, nothing tells whose place it takes
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


def _counting(oldest_first: list[Run]) -> Run:
    """Return the run that counts among those of an arm and seed."""
    newest = oldest_first[-1]
    if newest.status in ("finished", "diverged"):
        return newest
    config = newest.config.get("config_hash")
    finished = [run for run in oldest_first if run.status == "finished"]
    repeats = [run for run in finished if config and run.config.get("config_hash") == config]
    return repeats[-1] if repeats else newest


def _begun(run: Run) -> str:
    """Return when a run was begun or last gone on with, or else submitted or written down."""
    started = run.environment.get("started")
    if started:
        return str(started)
    try:
        submission = json.loads((run.path / SUBMISSION).read_text(encoding="utf-8"))
        return str(submission["submitted"])
    except (OSError, ValueError, KeyError, TypeError):
        written = (run.path / "config.yaml").stat().st_mtime
        return datetime.datetime.fromtimestamp(written, datetime.UTC).isoformat(timespec="seconds")
