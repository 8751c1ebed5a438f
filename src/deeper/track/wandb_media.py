"""Tables, pictures and histograms of a run directory, as W&B shows them."""

import tempfile
import wave
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deeper.record.schema import EXAMPLES, HISTOGRAMS, PREDICTIONS

# W&B draws tables of at most this many rows.
LONGEST_TABLE = 10_000


def media_of_row(wandb: Any, path: Path, row: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """Return what is logged with a row: after an evaluation, predictions and histograms, if any.

    Args:
        wandb: the module.
        path: the run directory.
        row: of ``metrics.jsonl``.
        folder: for the files of sounds, which is there until they are logged.
    """
    if not is_evaluation(row):
        return {}
    media = {}
    examples = read_arrays(path / PREDICTIONS.format(row["step"]))
    if examples is not None:
        media["predictions"] = _pictures(wandb, examples, folder)
    histograms = read_arrays(path / HISTOGRAMS.format(row["step"]))
    if histograms is not None:
        parts = (histograms[name] for name in ("names", "counts", "edges"))
        for name, counts, edges in zip(*parts, strict=True):
            media[str(name)] = wandb.Histogram(np_histogram=(counts, edges))
    return media


def is_evaluation(row: Mapping[str, Any]) -> bool:
    """Return whether a row is of an evaluation on the validation split."""
    return any(key.startswith("validation/") for key in row)


def read_arrays(file: Path) -> dict[str, np.ndarray] | None:
    """Return the arrays of an .npz file; None if there is none."""
    if not file.is_file():
        return None
    with np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def result_media(wandb: Any, path: Path, folder: str) -> dict[str, Any]:
    """Return the examples of the test split, and the confusion matrix; empty if there are none.

    Args:
        wandb: the module.
        path: the run directory.
        folder: see `media_of_row`.
    """
    examples = read_arrays(path / EXAMPLES)
    if examples is None:
        return {}
    names = [str(name) for name in examples["class_names"]]
    if "found_boxes" in examples:
        return {"examples": _boxes(wandb, examples, names)}
    # Like wandb.plot.confusion_matrix, which takes single predictions, but from counts.
    counts = examples["confusion"]
    cells = np.argwhere(counts if counts.size > LONGEST_TABLE else np.ones_like(counts))
    cells = cells[np.argsort(-counts[tuple(cells.T)], kind="stable")][:LONGEST_TABLE]
    confusion = wandb.plot_table(
        data_table=wandb.Table(
            columns=["Actual", "Predicted", "nPredictions"],
            data=[[names[a], names[p], int(counts[a, p])] for a, p in cells],
        ),
        vega_spec_name="wandb/confusion_matrix/v1",
        fields={name: name for name in ("Actual", "Predicted", "nPredictions")},
        string_fields={"title": "Confusion matrix of the test split"},
    )
    return {"examples": _table(wandb, examples, folder), "confusion": confusion}


def answers(examples: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """Return the label, the prediction and its confidence of each example."""
    names = [str(name) for name in examples["class_names"]]
    parts = (examples[name] for name in ("labels", "predictions", "confidences"))
    return [(names[a], names[p], float(c)) for a, p, c in zip(*parts, strict=True)]


def captions(examples: Mapping[str, Any]) -> list[str]:
    """Return each example's label and the net's answer in words."""
    return [
        f"{label}, {confidence:.0%} sure" if label == prediction
        else f"{label}, taken for {prediction}, {confidence:.0%} sure"
        for label, prediction, confidence in answers(examples)
    ]  # fmt: skip


def pixels(images: np.ndarray) -> list[np.ndarray]:
    """Return images (n, H, W, C), those with one channel as (H, W)."""
    return [image[..., 0] if image.shape[-1] == 1 else image for image in images]


def _pictures(wandb: Any, examples: Mapping[str, Any], folder: str) -> Any:
    """Return images with captions, which W&B shows by step; a table of what are no images."""
    if "found_boxes" in examples:
        return _boxes(wandb, examples, [str(name) for name in examples["class_names"]])
    if "images" not in examples:
        return _table(wandb, examples, folder)
    return [
        wandb.Image(image, caption=caption)
        for image, caption in zip(pixels(examples["images"]), captions(examples), strict=True)
    ]


def _table(wandb: Any, examples: Mapping[str, Any], folder: str) -> Any:
    kind, shown = _shown(wandb, examples, folder)
    table = wandb.Table(columns=[kind, "label", "prediction", "confidence"])
    for example, answer in zip(shown, answers(examples), strict=True):
        table.add_data(example, *answer)
    return table


def _shown(wandb: Any, examples: Mapping[str, Any], folder: str) -> tuple[str, list[Any]]:
    """Return what examples are, and each as W&B shows it: an image, a text, a sound or numbers."""
    if "images" in examples:
        return "image", [wandb.Image(one) for one in pixels(examples["images"])]
    if "texts" in examples:
        return "text", [str(text) for text in examples["texts"]]
    if "rate" in examples:
        own = Path(tempfile.mkdtemp(dir=folder))
        files = [own / f"{number}.wav" for number in range(len(examples["inputs"]))]
        for file, samples in zip(files, examples["inputs"], strict=True):
            _write_wav(file, samples, int(examples["rate"]))
        return "sound", [wandb.Audio(str(file)) for file in files]
    return "example", [str(one.tolist()) for one in examples["inputs"]]


def _write_wav(path: Path, samples: np.ndarray, rate: int) -> None:
    """Write 16-bit samples; W&B itself would need the package soundfile for it."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())


def _boxes(wandb: Any, examples: Mapping[str, Any], names: Sequence[str]) -> Any:
    """Return a table of photographs, with W&B's panels of detections and of true objects."""
    classes = dict(enumerate(names))

    def panel(boxes: Any, labels: Any, scores: Any) -> dict[str, Any]:
        data = []
        for place in np.flatnonzero(labels >= 0).tolist():
            x1, y1, x2, y2 = (float(value) for value in boxes[place])
            one: dict[str, Any] = {
                "position": {"minX": x1, "maxX": x2, "minY": y1, "maxY": y2},
                "domain": "pixel",
                "class_id": int(labels[place]),
                "box_caption": names[int(labels[place])],
            }
            if scores is not None:
                one["box_caption"] += f" {float(scores[place]):.2f}"
                one["scores"] = {"score": float(scores[place])}
            data.append(one)
        return {"box_data": data, "class_labels": classes}

    table = wandb.Table(columns=["image", "objects", "detections"])
    for i, image in enumerate(examples["images"]):
        found = panel(
            examples["found_boxes"][i], examples["found_labels"][i], examples["found_scores"][i]
        )
        true = panel(examples["boxes"][i], examples["labels"][i], None)
        boxes = {"detections": found, "objects": true}
        table.add_data(
            wandb.Image(image, boxes=boxes), len(true["box_data"]), len(found["box_data"])
        )
    return table
