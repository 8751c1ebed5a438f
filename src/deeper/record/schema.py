"""The files of a run directory: their names, their keys, and how they are read.

    config.yaml        the resolved config, with ``config_hash``; see `deeper.config.schema`
    data.json          content and class names of the data set, and how its images are shown
    net.json           what the net carries: architecture, preprocessing, class names, origin;
                       written when training ends, and by imports; see `deeper.run.net_record`
    wandb-id.txt       its id at Weights & Biases, made once at random
    environment.json   versions, machine, code, ``overrides`` and ``command`` of the last start;
                       ``run`` has steps, batch size and cost; ``earlier`` the starts before
    metrics.jsonl      every logged number: one JSON object with its ``step`` a line
    examples.npz       a few images with predictions; of all test examples the confusion matrix and
                       ``correct``
    predictions/       of ``tracker.predictions``: STEP.npz, the first validation examples with the
                       predictions at an evaluation; histograms/ of ``tracker.histograms`` likewise
    tensorboard/       of ``tracker.tensorboard``: an event file, made of the other files
    checkpoints/       a directory for each step that is kept
    result.json        the last to be written: the run has come to its end. ``status`` is finished
                       or diverged; ``metrics`` has ``SPLIT/NAME`` for test, train and validation,
                       ``metric`` the NAME that the task goes by, ``unit`` its unit and
                       ``less_is_better``;
                       ``overrides``, ``steps``, ``parameters``, ``macs``, ``seconds``, ...
    submission.json    of a launcher: how the run was given to it; see `deeper.sweep.submission`
    profile/           of ``train.profile``: summary.md, and a trace of JAX's profiler
    log.txt            of a launcher: what the run printed
    lock, lock.N       who holds the directory; see `deeper.record.lock`
    evaluation-*.json  of ``deeper evaluate``: the metrics by a protocol, with ``step``

NaN and infinity are stored as ``null``, since strict JSON has neither. Keys that are missing in the
records of older versions are optional on reading.
"""

import json
import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from deeper.errors import UserError
from deeper.record.values import of_overrides, spelled

CONFIG, ENVIRONMENT, EXAMPLES = "config.yaml", "environment.json", "examples.npz"
DATA, NET, ROWS, RESULT = "data.json", "net.json", "metrics.jsonl", "result.json"
CHECKPOINTS, SUBMISSION, RUN_LOG = "checkpoints", "submission.json", "log.txt"
EVALUATION = "evaluation-{}.json"  # by protocol
PREDICTIONS, HISTOGRAMS = "predictions/{}.npz", "histograms/{}.npz"  # by step
RECORDS = (CONFIG, ENVIRONMENT, ROWS, RESULT)  # a directory with any of these is a run directory
PROFILE, TENSORBOARD = "profile", "tensorboard"
RUNS_PROTOCOL = "1crop"  # of the evaluation at the end of a run: each image once, in one view
STATES = ("finished", "diverged", "unfinished", "damaged", "superseded")
MISSING = object()


@dataclass
class RunRecord:
    """What one run directory holds.

    Attributes:
        path: the directory.
        status: one of `STATES`. In a study, a run is superseded if a newer run of the same arm and
            seed replaces it.
        config: as `config.yaml` has it.
        result: as `result.json` has it; empty where there is none.
        environment: as `environment.json` has it.
        data: as `data.json` has it; empty in runs of an older deeper.
        rows: rows of `metrics.jsonl`.
        note: progress of an unfinished run, or the damage of a damaged one.
        arm: name of the arm in a study, the same for all seeds; empty outside of a study.
        evaluations: protocol -> metrics on the test split, from the result and from the files
            `evaluation-PROTOCOL.json` of `deeper evaluate`.
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
        """Return the run's label, from the directory's name if there is no config."""
        return str(self.config.get("label") or self.path.name.rsplit("-s", 1)[0])

    @property
    def seed(self) -> int | None:
        """Return the run's seed."""
        return self.config.get("seed")

    @property
    def depth(self) -> float:
        """Return the net's depth for sorting; 0 if it has none."""
        return self.number("depth") or nested(self.config, "model.depth") or 0

    def value(self, key: str) -> Any:
        """Return a metric, an entry of the result, or the config value with a dotted key."""
        if key in self.metrics:
            return self.metrics[key]
        if key in self.result:
            return self.result[key]
        if (evaluated := self._evaluated(key)) is not None:
            return evaluated
        return self.label if key == "label" else nested(self.config, key)

    @property
    def facts(self) -> dict[str, Any]:
        """Return the result's entries and metrics by their keys."""
        return {**self.result, **self.metrics}

    def has(self, key: str) -> bool:
        """Return whether the key exists; its value may be null."""
        in_config = nested(self.config, key, MISSING) is not MISSING
        there = in_config or key in self.facts or key == "label"
        return there or self._evaluated(key) is not None

    def _evaluated(self, key: str) -> float | None:
        """Return a metric that an evaluation alone has, as test/corrupted_error of a suite."""
        found = (evaluation.get(key) for evaluation in self.evaluations.values() if "/" in key)
        return next((value for value in found if value is not None), None)

    def number(self, key: str) -> float | None:
        """Return a value as a finite number, or None."""
        value = self.value(key)
        if value is None or isinstance(value, str) or not math.isfinite(value):
            return None
        return float(value)

    def setting(self, key: str) -> str | None:
        """Return the run's value of an override of the sweep; None if it is unknown.

        The value is in canonical spelling, see `values.spelled`.
        """
        overrides = self.overrides
        if key in overrides:
            return overrides[key]
        if key == "model":
            return self.label.removesuffix(str(nested(self.config, "model.depth") or ""))
        value = nested(self.config, key)
        return None if value is None or isinstance(value, list | dict) else spelled(value)

    @property
    def metrics(self) -> dict[str, Any]:
        """Return the metrics of the result; empty without a result."""
        return self.result.get("metrics") or {}

    @property
    def words(self) -> list[str]:
        """Return the run's overrides as they were typed."""
        for record in (self.result, self.environment):
            if isinstance(record.get("overrides"), list):
                return list(record["overrides"])
        # Older versions recorded only the command.
        return _of_command(self.result.get("command") or self.environment.get("command") or "")

    @property
    def overrides(self) -> dict[str, str]:
        """Return the run's overrides: key -> value in canonical spelling."""
        return of_overrides(self.words)


def read_run(path: Path) -> RunRecord:
    """Read one run directory; damage is described in ``note`` instead of raised."""
    run = RunRecord(path, "unfinished")
    reading = CONFIG
    try:
        run.config = _mapping(yaml.safe_load((path / reading).read_text(encoding="utf-8")))
        reading = ENVIRONMENT
        if (path / reading).exists():
            run.environment = _object(path / reading)
        reading = DATA
        if (path / reading).exists():
            run.data = _object(path / reading)
        reading = ROWS
        run.rows = _rows(path / reading)
        reading = RESULT
        if (path / reading).exists():
            run.result = _object(path / reading)
            run.status = run.result["status"]
            if run.status not in ("finished", "diverged"):
                raise ValueError(f"status {run.status!r}")
            run.note = run.result.get("reason") or ""
            run.evaluations[RUNS_PROTOCOL] = run.metrics
            for file in sorted(path.glob(EVALUATION.format("*"))):
                reading = file.name
                evaluation = _object(file)
                if evaluation.get("step") == run.result.get("steps"):  # or from an earlier state
                    run.evaluations[evaluation["protocol"]] = evaluation
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
    """Return the entry with a dotted key, or a default."""
    entry: Any = mapping
    for part in key.split("."):
        if not isinstance(entry, Mapping) or part not in entry:
            return absent
        entry = entry[part]
    return entry


def _object(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file, with NaN and infinity as None."""
    text = file.read_text(encoding="utf-8")
    return _mapping(json.loads(text, parse_constant=lambda nan: None))


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("it holds no mapping")
    return value


def _rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows without an incomplete last line."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    rows = [_mapping(json.loads(line)) for line in lines if line.endswith("\n")]
    if any("step" not in row for row in rows):
        raise ValueError("a row has no step")
    return rows


def _of_command(command: str) -> list[str]:
    """Return the overrides of a command line; empty for the command of a sweep."""
    try:
        words = shlex.split(command)
    except ValueError:
        return []
    is_sweep = "-m" in words or "--multirun" in words
    return [] if is_sweep else [word for word in words if "=" in word]


def read_rows(path: Path, offset: int = 0) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yield the complete rows of a run directory, each with its line.

    Args:
        path: the run directory.
        offset: position in the file to start from, in bytes.
    """
    try:
        with (path / ROWS).open("rb") as stream:
            stream.seek(offset)
            lines = stream.read().splitlines(keepends=True)
    except FileNotFoundError:
        return
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if line.endswith(b"\n") and isinstance(row, dict) and isinstance(row.get("step"), int):
            yield line, row


def read_config(path: Path) -> dict[str, Any] | None:
    """Return a run directory's config with its hash; None without a config.

    Raises:
        UserError: it cannot be read.
    """
    try:
        value = yaml.safe_load((path / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(
            f"{path / CONFIG} cannot be read ({str(error).splitlines()[0]}). Move {path} away to "
            "run anew."
        ) from error
    return value if isinstance(value, dict) else None


def test_result(result: Mapping[str, Any]) -> str:
    """Return what a finished run's ``result.json`` says of the test split, in words.

    Results of older versions do not name their metric; they are read as errors in per cent.
    """
    name, unit = result.get("metric", "error"), result.get("unit", " %")
    value = (result.get("metrics") or {}).get(f"test/{name}")  # None if it was not finite
    return f"no test {name}" if value is None else f"test {name} {value:6.2f}{unit}"
