"""Which pixels made a detector's boxes: attribution of one detection of each photograph."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from deeper.config.schema import RunConfig
from deeper.errors import UserError
from deeper.interpret import drawing
from deeper.interpret.attribution import (
    METHODS,
    ON_GRID,
    ON_MAPS,
    Attribution,
    attribute_by,
    class_numbers,
    describe_gaps,
    save_all,
)
from deeper.interpret.boxes import draw_boxes
from deeper.interpret.detection_scores import BACKGROUND, ScoreOfRegion, regions_of, with_region
from deeper.interpret.sheets import SHOWN, Sheet
from deeper.interpret.traced_net import LOGITS, TracedNet
from deeper.models.detection.faster_rcnn import FasterRCNN, Scenes
from deeper.progress import Progress, quiet
from deeper.run import build, data_record, detect, load
from deeper.run.class_names import class_names
from deeper.tasks.detection import Detection

SHEET = "attribution"
CAPTION = (
    "Which pixels the class's score of a box comes from, by each method: the score of the proposal "
    "that became the box, where it stands. Beside each photograph its name, the class that is most "
    "probable there and the class of the box, with their probabilities. attribution.npz holds the "
    "maps, attribution.json the boxes."
)


def draw_sheet(
    path: Path,
    out: Path,
    *,
    checkpoint: str | int = "last",
    data_dir: str | None = None,
    split: str = "validation",
    images: Path | None = None,
    methods: Sequence[str] = (*METHODS,),
    layer: str | None = None,
    classes: Sequence[int | str] | None = None,
    which: int = 0,
    n: int | None = None,
    progress: Progress = quiet,
) -> tuple[str, Sheet]:
    """Draw for one detection of each photograph which pixels its score comes from.

    Args:
        path: the run directory, or one of imported weights.
        out: a directory for the sheet.
        checkpoint: last, best or a step.
        data_dir: where the run's own data lie now; by default where they lay.
        split: validation, test or train.
        images: a file or a directory in the place of the split.
        methods: of attribution; each is a column.
        layer: of Grad-CAM's maps.
        classes: only detections of these.
        which: of the detections by falling score, from 0.
        n: photographs, by default 6.
        progress: told how far it is.

    Returns:
        What the net is called, and the sheet.

    Raises:
        UserError: there is no such checkpoint, split, class or layer, or nothing is found.
    """
    stored = load.open_stored(path, checkpoint, "run", data_dir)
    config, detector = stored.config, stored.model
    if not isinstance(detector, FasterRCNN):
        raise UserError(f"{path.name}: boxes of {type(detector).__name__} are not attributed.")
    known = class_names(path, config)
    wanted = None if classes is None else class_numbers(classes, known)
    pixels, sizes, names, notes = _photographs(path, config, split, images, n or SHOWN)
    task = build.task_of(config)
    assert isinstance(task, Detection)
    values = jnp.asarray(task.normalise(jnp.asarray(pixels)))
    found, regions = regions_of(detector, stored.variables, Scenes(values, jnp.asarray(sizes)))

    chosen: list[tuple[int, int]] = []  # photograph, detection
    for row, labels in enumerate(found.labels):
        is_wanted = labels >= 0 if wanted is None else np.isin(labels, wanted)
        places = np.flatnonzero(is_wanted)
        if len(places) > which:
            chosen.append((row, int(places[which])))
        else:
            notes.append(f"{names[row]}: {len(places)} found, so none is number {which}")
    if not chosen:
        raise UserError("\n".join(["There is no such detection.", *notes]))

    first = with_region(stored.variables, regions[chosen[0]], sizes[chosen[0][0]])
    net = TracedNet(ScoreOfRegion(detector), first, pixels.shape[1:])
    maps: dict[str, list[Attribution]] = {method: [] for method in methods}
    for row, place in chosen:
        of_one = net.with_variables(with_region(stored.variables, regions[row, place], sizes[row]))
        some = slice(row, row + 1)
        logits = of_one(values[some], [LOGITS])[LOGITS]
        for method in methods:
            maps[method].append(
                attribute_by(
                    method,
                    of_one,
                    pixels[some],
                    values[some],
                    logits,
                    np.asarray(found.labels[row, place : place + 1], np.int32),
                    layer=layer if method in ON_MAPS else None,
                    class_names=(*known, BACKGROUND),
                    names=[names[row]],
                    progress=partial(progress, method.replace("_", " ")),
                )
            )
    joined = {method: _joined(some) for method, some in maps.items()}
    said = [f"{METHODS[method]}: {note}" for method, one in joined.items() for note in one.notes]
    title = f"{config.label} on {config.data.name}"
    out.mkdir(parents=True, exist_ok=True)
    sheet = out / f"{SHEET}.png"
    rows = []
    for number, (row, place) in enumerate(chosen):
        height, width = (int(side) for side in sizes[row])
        shown = pixels[row, :height, :width]
        framed = partial(
            _framed, box=np.asarray(found.boxes[row, place]), label=int(found.labels[row, place])
        )
        rows.append([framed(shown)] + [
            framed(_map(method, shown, one, number)) for method, one in joined.items()
        ])  # fmt: skip
    heading = "\n".join([f"{title}: which pixels made the box", *said])
    columns = ["photograph", *(METHODS[method] for method in methods)]
    described = next(iter(joined.values())).described()
    drawing.grid_sheet(heading, rows, columns, sheet, labels=described)
    save_all(sheet.with_suffix(".npz"), joined)
    records = [
        {
            "name": names[row],
            "class": known[int(found.labels[row, place])],
            "score": float(found.scores[row, place]),
            "box": found.boxes[row, place].tolist(),
            "proposal": regions[row, place].tolist(),
            "size": sizes[row].tolist(),
        }
        for row, place in chosen
    ]
    sheet.with_suffix(".json").write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    return title, Sheet(SHEET, CAPTION, sheet, (*said, *notes))


def _photographs(
    path: Path, config: RunConfig, split: str, images: Path | None, n: int
) -> tuple[np.ndarray, Float[np.ndarray, "n 2"], list[str], list[str]]:
    """Return photographs in the canvas, their sizes in it, names, and what was left out."""
    if images is not None:
        read = detect.reader_of(path, config)(detect.photographs_in([images])[:n])
        columns: Any = read.columns
        names, left_out = [Path(name).name for name in read.names], list(read.left_out)
    else:
        columns = data_record.open_own_splits(path, config).named(split).columns
        left_out, names = [], [f"{split} {row}" for row in range(min(n, len(columns["size"])))]
    pixels, sizes = (np.asarray(columns[name][:n]) for name in ("image", "size"))
    return pixels, sizes.astype(np.float32), names, left_out


def _joined(some: Sequence[Attribution]) -> Attribution:
    """Return attributions of one input each as one of all."""
    first = some[0]
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(one, name) for one in some])
        for name in ("maps", "classes", "logits", "probabilities", "inputs", "values", "gaps",
                     "steps")
        if getattr(first, name) is not None
    }  # fmt: skip
    notes = first.notes
    if "gaps" in arrays:
        notes = (describe_gaps(arrays["gaps"], arrays["steps"]),)
    arrays["names"] = [name for one in some for name in one.names or ()]
    return replace(first, notes=notes, **arrays)


def _map(
    method: str, shown: UInt8[np.ndarray, "height width 3"], one: Attribution, number: int
) -> UInt8[np.ndarray, "height width 3"]:
    """Return a method's map of a photograph as it is drawn: heat over it, or values about grey."""
    height, width = shown.shape[:2]
    if method in ON_GRID:
        picture = drawing.overlaid(shown / 255.0, one.maps[number, :height, :width])
    else:
        picture = drawing.stretched(one.values[number, :height, :width])
    return np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)


def _framed(
    picture: UInt8[np.ndarray, "height width 3"], box: Float[np.ndarray, " 4"], label: int
) -> Float[np.ndarray, "height width 3"]:
    """Return a picture with the box on it, values 0 to 1."""
    return draw_boxes(picture, box[None], np.array([label]), None, (), dashed=True) / 255.0
