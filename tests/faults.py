"""Shared by tests of faults: compares a disturbed run with an undisturbed one, and counts faults.

With DEEPER_FAULTS=FILE each injected fault appends a line to it, for experiments/reliability.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

CLOCK = ("time", "images_per_second")  # keys of a row that differ between any two runs

# A small net and a short run, with a checkpoint at every fifth step.
ARGUMENTS = (
    "model=lenet5",
    "train.batch_size=20",
    "train.epochs=null",
    "train.steps=200",
    "train.steps_per_call=5",
    "train.log_every=5",
    "train.checkpoint_every=0.2",
    "train.evaluate_every=2",
    "train.train_error_examples=20",
    "data.validation=100",
)

# If one of a checkpoint's writes fails, Orbax gives up the others and closes its event loop. What
# TensorStore then reports of those to that loop is of no consequence.
with_writes_given_up = pytest.mark.filterwarnings(
    "ignore:(?s)Exception ignored in. None.*Event loop is closed"
    ":pytest.PytestUnraisableExceptionWarning"
)


def note(fault: str, **numbers: Any) -> None:
    """Record an injected fault and its cost."""
    if file := os.environ.get("DEEPER_FAULTS"):
        with Path(file).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"fault": fault, **numbers}) + "\n")


def rows(run: Path) -> list[dict[str, Any]]:
    """Return the complete rows of a run, without times."""
    try:
        lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    parsed = [json.loads(line) for line in lines if line.endswith("\n")]
    return [{key: value for key, value in row.items() if key not in CLOCK} for row in parsed]


def last_row(run: Path) -> int:
    """Return the step of the last row; 0 without rows."""
    return max((row["step"] for row in rows(run)), default=0)


def last_checkpoint(run: Path) -> int:
    """Return the step of the newest complete checkpoint; 0 without one."""
    names = [path.name for path in run.glob("checkpoints/*")]
    return max((int(name) for name in names if name.isdecimal()), default=0)


def state(run: Path) -> dict[str, np.ndarray]:
    """Return all arrays of the last checkpoint, by name."""
    place = run / "checkpoints" / str(last_checkpoint(run)) / "default"
    reader = ocp.PyTreeCheckpointer()
    tree = reader.metadata(place).item_metadata.tree
    plain = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    leaves = jax.tree.leaves_with_path(reader.restore(place, restore_args=plain))
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def same_end(run: Path, undisturbed: Path, *, stopped: bool = False) -> None:
    """Fail unless a run ended like the undisturbed one.

    Args:
        run: the disturbed run.
        undisturbed: the undisturbed run.
        stopped: the run was stopped on request. It then has an additional training row at the stop,
            and the next row covers the rest.
    """
    result, expected = (json.loads((r / "result.json").read_text()) for r in (run, undisturbed))
    assert result["status"] == "finished"
    assert result["metrics"] == expected["metrics"]
    ours, theirs = rows(run), rows(undisturbed)
    kinds = [(row["step"], "lr" in row) for row in ours]
    assert len(kinds) == len(set(kinds)), "a row is there twice"
    if stopped:
        assert {(row["step"], "lr" in row) for row in theirs} <= set(kinds), "a row is missing"
        assert [r for r in ours if "lr" not in r] == [r for r in theirs if "lr" not in r]
    else:
        assert ours == theirs
    one, other = state(run), state(undisturbed)
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def wait_for(true, what: str, seconds: float = 120) -> None:
    """Wait until a condition is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.01)
