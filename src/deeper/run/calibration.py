"""``deeper evaluate calibration=true``: how far a net's probabilities can be believed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deeper.config.schema import RunConfig
from deeper.errors import UserError
from deeper.interpret.robustness_figures import reliability_figure
from deeper.progress import Progress, quiet
from deeper.record.atomic_files import to_json, write_whole
from deeper.run import device, load
from deeper.run.build import task_of
from deeper.run.evaluate import of_crops
from deeper.run.evaluation_set import open_evaluation_set
from deeper.run.protocols import CROPS, ProtocolRequest, protocol_of
from deeper.tasks.calibration import BINS, fit_temperature, measures
from deeper.tasks.classification import Classification
from deeper.tasks.consistency import ConsistencyTraining

FILE, PICTURE = "calibration.json", "calibration.png"


def calibrate_run(
    path: Path,
    config: RunConfig,
    *,
    request: ProtocolRequest | None = None,
    checkpoint: str | int = "last",
    batch_size: int | None = None,
    progress: Progress = quiet,
) -> dict[str, Any]:
    """Fit a temperature on the validation split, and measure the test split with and without it.

    ``calibration.json`` and ``calibration.png`` are written to the run directory.

    Args:
        path: the run directory.
        config: the run's.
        request: a protocol of CROPS; by default 1crop.
        checkpoint: last, best or a step.
        batch_size: examples at a time; by default the run's.
        progress: called with the progress.

    Returns:
        ``temperature``, and the measures of `deeper.tasks.calibration` under ``before`` and
        ``after``.

    Raises:
        UserError: the run has no validation split, or no classes.
    """
    if batch_size is not None:
        config = config.replace({"train.batch_size": batch_size})
    protocol = protocol_of(request or ProtocolRequest(), config.data)
    if protocol.name not in CROPS:
        raise UserError(f"calibration=true is for protocols of crops: {', '.join(CROPS)}.")
    if not isinstance(task_of(config), Classification | ConsistencyTraining):
        raise UserError("calibration=true is for the classification of images.")
    device.start_jax(config.train.cpu_kernels)
    weights = load.open_stored(path, checkpoint, "run")
    scores, labels = {}, {}
    for split in ("validation", "test"):
        opened = open_evaluation_set(path, config, protocol, split, None, progress)
        rows = of_crops(config, weights, protocol, opened, split, progress, scores=True)
        scores[split], labels[split] = rows["scores"].astype(np.float64), rows["label"]
        if not np.isfinite(scores[split]).all():
            raise UserError(f"Some scores of the {split} split are not finite.")
    temperature = fit_temperature(scores["validation"], labels["validation"])
    result = {
        "run": str(path),
        "step": weights.step,
        "data": config.data.name,
        "protocol": protocol.title,
        "protocol_in_words": protocol.words,
        "binning": f"{BINS} bins of equal width",
        "temperature": temperature,
        "fitted_on": len(labels["validation"]),
        "n_seen": len(labels["test"]),
        "before": measures(scores["test"], labels["test"]),
        "after": measures(scores["test"] / temperature, labels["test"]),
    }
    write_whole(path / FILE, to_json(result, indent=2))
    reliability_figure(result, path / PICTURE)
    return result


def rows_of(result: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return a table: measure, without and with the temperature."""
    names = {"loss": "loss (nats)", "brier": "Brier score", "calibration_error": "ECE (%)"}
    return [
        (words, f"{result['before'][name]:.4f}", f"{result['after'][name]:.4f}")
        for name, words in names.items()
    ]
