"""The directories of a run's checkpoints, as far as they are read without Orbax."""

import json
from pathlib import Path

# What the best checkpoint has least of; the name on disk is the first one that it had.
METRIC = "validation_error"
UNKNOWN = 1e9  # of a checkpoint without an evaluation, so that it is never the best


def steps_in(directory: Path) -> list[int]:
    """Return the steps of the complete checkpoints in a directory, oldest first."""
    # A checkpoint has a longer, temporary name until it is complete.
    return sorted(int(p.name) for p in directory.glob("*/") if p.name.isdecimal())


def best_step_in(directory: Path) -> int | None:
    """Return the step of the checkpoint that is best on the validation split; of equals, the
    latest. None if none was evaluated.
    """
    values = {step: metric_of(directory / str(step)) for step in steps_in(directory)}
    known = {s: v for s, v in values.items() if v is not None and v < UNKNOWN}
    return min(known, key=lambda step: (known[step], -step), default=None)


def metric_of(checkpoint: Path) -> float | None:
    """Return what a checkpoint was saved with, less is better; None if it is unreadable."""
    try:
        return float(json.loads((checkpoint / "metrics" / "metrics").read_bytes())[METRIC])
    except (OSError, ValueError, TypeError, KeyError):
        return None
