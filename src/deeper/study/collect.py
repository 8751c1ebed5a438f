"""Reading a study's run directories."""

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from deeper.errors import UserError


@dataclass
class Run:
    """One run directory.

    Attributes:
        path: the directory.
        status: finished, diverged, unfinished or damaged.
        config: as `config.yaml` has it.
        result: as `result.json` has it; empty where there is none.
        environment: as `environment.json` has it.
        rows: of `metrics.jsonl`.
        note: of an unfinished run how far it is, of a damaged one what is wrong.
    """

    path: Path
    status: str
    config: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    note: str = ""

    @property
    def label(self) -> str:
        """Return the run's label, from its directory's name if need be."""
        return self.config.get("label") or self.path.name.rsplit("-s", 1)[0]

    @property
    def seed(self) -> int | None:
        """Return the run's seed."""
        return self.config.get("seed")

    def value(self, key: str) -> Any:
        """Return a fact of the result: a metric by its name, or a top-level entry."""
        metrics = self.result.get("metrics", {})
        return metrics[key] if key in metrics else self.result.get(key)


@dataclass
class Collection:
    """A study's runs.

    Attributes:
        directory: where they are.
        definition: the study as its runs' configs state it.
        runs: all directories, finished ones first, by label and seed.
        missing: (arm, seed) of the study that have no directory.
    """

    directory: Path
    definition: dict[str, Any]
    runs: list[Run]
    missing: list[tuple[str, int]]

    @property
    def finished(self) -> list[Run]:
        """Return the runs with a result that counts."""
        return [run for run in self.runs if run.status == "finished"]


def collect(directory: Path, definition: Mapping[str, Any] | None = None) -> Collection:
    """Read every run directory of a study.

    Args:
        directory: the study's directory.
        definition: the study; by default as its runs state it.

    Raises:
        UserError: no run is finished.
    """
    runs = [read_run(path.parent) for path in sorted(directory.glob("*/config.yaml"))]
    runs += [
        Run(path, "damaged", note="it has no config.yaml")
        for path in sorted(directory.glob("*/"))
        if (path / "metrics.jsonl").exists() and not (path / "config.yaml").exists()
    ]
    if definition is None:
        definition = next((r.config["study"] for r in runs if r.config.get("study")), None)
    if not any(run.status == "finished" for run in runs) or definition is None:
        name = definition["name"] if definition else directory.name
        state = f"{len(runs)} runs there are unfinished" if runs else "there are none"
        raise UserError(
            f"{directory} has no finished run ({state}): run `deeper train -m study={name} "
            "mode=quick` first, or name the mode whose runs are meant."
        )
    order = {"finished": 0, "diverged": 1, "unfinished": 2, "damaged": 3}
    runs.sort(key=lambda r: (order[r.status], r.value("depth") or 0, r.label, r.seed or 0))
    return Collection(directory, dict(definition), runs, _missing(definition, runs))


def read_run(path: Path) -> Run:
    """Read one run directory; whatever is wrong with it is noted, not raised."""
    run = Run(path, "unfinished")
    try:
        run.config = yaml.safe_load((path / "config.yaml").read_text()) or {}
        run.rows = _rows(path / "metrics.jsonl")
        if (path / "environment.json").exists():
            run.environment = json.loads((path / "environment.json").read_text())
        if (path / "result.json").exists():
            run.result = json.loads((path / "result.json").read_text())
            run.status = run.result["status"]
            if run.status == "finished":
                run.result["metrics"]["test/error"]
            else:
                run.note = run.result.get("reason", "")
            return run
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        run.status, run.note = "damaged", f"{type(error).__name__}: {str(error).splitlines()[0]}"
        return run
    step = run.rows[-1]["step"] if run.rows else 0
    steps = run.environment.get("run", {}).get("steps")
    run.note = f"at step {step}" + (f" of {steps}" if steps else "")
    return run


def _rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows; a last line that was cut off is left out."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _missing(definition: Mapping[str, Any], runs: list[Run]) -> list[tuple[str, int]]:
    """Return the arms, as overrides, and seeds that no run directory stands for."""
    arms = definition.get("arms") or {}
    there = {(run.label, run.seed) for run in runs}
    missing = []
    for values in itertools.product(*arms.values()):
        arm = dict(zip(arms, values, strict=True))
        label = f"{arm.get('model', '')}{arm.get('model.depth', '')}"
        for seed in definition.get("seeds", []):
            known = {where for where, at in there if at == seed}
            # An arm may leave out the depth that its model has by default.
            exact = "model.depth" in arm or not label
            if not any(k == label or (not exact and k.startswith(label)) for k in known):
                missing.append((label, seed))
    return missing
