"""The name of an arm: what the runs of a study have in common that differ in their seed alone."""

from collections.abc import Iterable, Mapping
from typing import Any

from deeper.record.schema import RunRecord
from deeper.record.values import spelled

IN_LABEL = ("model", "model.depth")  # keys of arms that are part of a run's label


def arm_name(label: str, rest: Mapping[str, Any]) -> str:
    """Return an arm's name.

    Args:
        label: of its runs.
        rest: the overrides that make the arm, without those of `IN_LABEL`.
    """
    # A setting equal to the label (arm=resnet18) is not repeated.
    settings = [f"{k}={spelled(v)}" for k, v in rest.items() if v is not None and v != label]
    return " ".join([label, *settings])


def arm_of(run: RunRecord, keys: Iterable[str]) -> str:
    """Return the name of a run's arm.

    Args:
        run: with its config.
        keys: the overrides that a study sweeps over.
    """
    return arm_name(run.label, {key: run.setting(key) for key in keys if key not in IN_LABEL})
