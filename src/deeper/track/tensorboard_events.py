"""Writes a run as a TensorBoard event file, during the run, by tensorboardX: without TensorFlow.

``python -m deeper.track.tensorboard_events DIRECTORY`` follows a run until its standard input ends.
Each start writes the whole record anew, so that no row is there twice after an interruption, nor
missing after a kill.
"""

import datetime
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np

from deeper.errors import UserError
from deeper.record.atomic_files import read_json
from deeper.record.schema import (
    CONFIG,
    ENVIRONMENT,
    HISTOGRAMS,
    PREDICTIONS,
    RESULT,
    TENSORBOARD,
    read_rows,
)
from deeper.track.following import deaf_to_batch_systems, wait_for_status
from deeper.track.wandb_media import captions, is_evaluation, pixels, read_arrays

PACKAGE = "tensorboardX"


def require_writer() -> None:
    """Raise a UserError if the package that writes event files is not installed."""
    if importlib.util.find_spec(PACKAGE) is None:
        raise UserError(
            "tracker.tensorboard=true needs the extra tensorboard: run scripts/setup tensorboard, "
            f"or pip install {PACKAGE}."
        )


def write(path: Path) -> int:
    """Write the event file of a run until it ends; return the number of rows.

    Args:
        path: the run directory.
    """
    from tensorboardX import SummaryWriter

    folder = path / TENSORBOARD
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    began = _began(path)
    writer = SummaryWriter(str(folder), flush_secs=5)
    number, offset, step, end = 0, 0, 0, None
    writer.add_text("config", f"```yaml\n{(path / CONFIG).read_text(encoding='utf-8')}\n```", 0)
    while end is None:
        end = wait_for_status()  # before the rows, so that the last read misses no row
        for line, row in read_rows(path, offset):
            offset += len(line)
            number, step = number + 1, row["step"]
            at = {"global_step": step, "walltime": began + (row.get("time") or 0.0)}
            _add_numbers(writer, {key: row[key] for key in row if key != "step"}, at)
            if is_evaluation(row):
                _add_predictions(writer, read_arrays(path / PREDICTIONS.format(step)), at)
                _add_histograms(writer, read_arrays(path / HISTOGRAMS.format(step)), at)
    result = read_json(path / RESULT) or {}
    at = {"global_step": step, "walltime": began + (result.get("seconds") or 0.0)}
    _add_numbers(writer, result.get("metrics") or {}, at)
    writer.close()
    return number


def _began(path: Path) -> float:
    """Return when the run was started first, in seconds since 1970."""
    environment = read_json(path / ENVIRONMENT) or {}
    first = next(iter(environment.get("earlier") or ()), environment)
    try:
        return datetime.datetime.fromisoformat(first["started"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return (path / CONFIG).stat().st_mtime


def _add_numbers(writer: Any, values: dict[str, Any], at: dict[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            writer.add_scalar(name, value, **at)


def _add_predictions(writer: Any, examples: dict[str, Any] | None, at: dict[str, Any]) -> None:
    """Add the examples as images, sounds or text, and the answers as text."""
    if examples is None:
        return
    said = captions(examples)
    if "images" in examples:
        for number, image in enumerate(pixels(examples["images"])):
            form = "HW" if image.ndim == 2 else "HWC"
            writer.add_image(f"predictions/{number}", image, dataformats=form, **at)
    elif "texts" in examples:
        said = [f"{text}: {words}" for text, words in zip(examples["texts"], said, strict=True)]
    elif "rate" in examples:
        for number, sound in enumerate(examples["inputs"]):
            wave = np.asarray(sound, np.float32).reshape(1, -1)
            rate = int(examples["rate"])
            writer.add_audio(f"predictions/{number}", wave, sample_rate=rate, **at)
    lines = [f"{number}. {words}" for number, words in enumerate(said)]
    writer.add_text("predictions", "\n\n".join(lines), **at)


def _add_histograms(writer: Any, histograms: dict[str, Any] | None, at: dict[str, Any]) -> None:
    """Add histograms; their sums are computed from the middles of the bins."""
    if histograms is None:
        return
    parts = (histograms[name] for name in ("names", "counts", "edges"))
    for name, counts, edges in zip(*parts, strict=True):
        middles = (edges[1:] + edges[:-1]) / 2.0
        writer.add_histogram_raw(
            str(name),
            min=float(edges[0]),
            max=float(edges[-1]),
            num=int(counts.sum()),
            sum=float((counts * middles).sum()),
            sum_squares=float((counts * middles**2).sum()),
            bucket_limits=edges[1:].tolist(),
            bucket_counts=counts.tolist(),
            **at,
        )


if __name__ == "__main__":
    deaf_to_batch_systems()
    print(f"\nrows sent: {write(Path(sys.argv[1]))}")
