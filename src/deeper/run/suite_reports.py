"""What ``deeper evaluate`` shows of a suite or of the calibration: a table, remarks, a figure."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeper.config.schema import RunConfig
from deeper.errors import UserError
from deeper.progress import Progress
from deeper.run import calibration, robustness
from deeper.run.protocols import ProtocolRequest

UNUSED: dict[str, dict[str, Any]] = {  # keys that have no part: their values
    "corrupt": {"protocol": "1crop", "size": None, "shorter_side": None, "scales": None,
                "padding": None, "split": "test", "labels": None, "only": None},
    "robust": {"protocol": "1crop", "size": None, "shorter_side": None, "scales": None,
               "padding": None, "split": "test", "only": None, "frost": None},
    "calibration": {"split": "test", "labels": None, "only": None, "frost": None},
    "protocol": {"frost": None},
}  # fmt: skip


@dataclass(frozen=True)
class Report:
    """A result as it is shown.

    Attributes:
        title: of the result, as W&B names its table.
        result: what the file in the run directory holds.
        headings: of the table.
        rows: of the table.
        remarks: sentences.
        picture: the figure's file.
    """

    title: str
    result: dict[str, Any]
    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]
    remarks: list[str]
    picture: Path


def require_fitting_keys(keys: Mapping[str, Any]) -> None:
    """Refuse keys of ``deeper evaluate`` that have no part in what is asked for.

    Raises:
        UserError: a key is given that would change nothing.
    """
    suite, calibrate = keys["suite"], keys["calibration"]
    if suite is not None and calibrate:
        raise UserError("Give suite= or calibration=true; each is a command of its own.")
    if suite is not None and suite not in robustness.SUITES:
        raise UserError(f"suite={suite} is unknown; choose {', '.join(robustness.SUITES)}.")
    asked = suite or ("calibration" if calibrate else "protocol")
    for key, value in UNUSED[asked].items():
        if keys[key] != value:
            what = "calibration=true" if calibrate else f"suite={suite}" if suite else "a protocol"
            raise UserError(f"{key}={keys[key]} has no part in {what}.")


def report_of(
    keys: Mapping[str, Any],
    path: Path,
    config: RunConfig,
    request: ProtocolRequest,
    progress: Progress,
) -> Report:
    """Run the suite, or measure the calibration.

    Args:
        keys: of ``deeper evaluate``.
        path: the run directory.
        config: the run's.
        request: the protocol; for the calibration.
        progress: called with the progress.
    """
    asked: dict[str, Any] = {
        "checkpoint": keys["checkpoint"], "batch_size": keys["batch_size"], "progress": progress
    }  # fmt: skip
    if keys["calibration"]:
        result = calibration.calibrate_run(path, config, request=request, **asked)
        fitted = (
            f"Temperature {result['temperature']:.4g}, fitted on {result['fitted_on']:,} "
            f"validation examples; {result['n_seen']:,} test examples; {result['binning']}."
        )
        return Report(
            "calibration",
            result,
            ("measure", "as trained", "with the temperature"),
            [*calibration.rows_of(result)],
            [fitted],
            path / calibration.PICTURE,
        )
    if keys["suite"] == "corrupt":
        frost = None if keys["frost"] is None else Path(keys["frost"])
        result = robustness.corrupt_run(path, config, frost=frost, **asked)
    else:
        labels = None if keys["labels"] is None else Path(keys["labels"])
        root = Path(config.data.dir)
        result = robustness.shifted_run(path, config, root=root, labels=labels, **asked)
    headings, rows = robustness.table_of(result)
    picture = path / robustness.picture_of(keys["suite"])
    return Report(
        result["protocol"], result, headings, rows, robustness.remarks_on(result), picture
    )
