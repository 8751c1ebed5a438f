"""What a detector finds in photographs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from deeper.config.schema import RunConfig
from deeper.data import jpeg
from deeper.data.detection import PhotographReader
from deeper.data.image_files import picture_files
from deeper.data.reader import Read
from deeper.errors import UserError
from deeper.interpret.boxes import draw_boxes
from deeper.progress import Progress, quiet
from deeper.record.atomic_files import to_json, write_whole
from deeper.run import build, data_record, device, load
from deeper.run.class_names import class_names
from deeper.tasks.detection import Detection
from deeper.train.evaluate import no_keys

QUALITY = 92  # of photographs with boxes, JPEG
SURE = 0.5  # score from which on boxes are drawn and listed
LISTED = 20  # photographs, in a line each


@dataclass(frozen=True, repr=False)
class Found:
    """What a detector finds in some photographs.

    Attributes:
        files: the photographs.
        sizes: height and width of each, upright.
        boxes: of each, by falling score: x1, y1, x2, y2 in pixels of the photograph, x2 and y2
            exclusive.
        scores: of the boxes, 0 to 1.
        labels: of the boxes, numbers of the classes.
        class_names: in the order of the classes.
        left_out: sentences about files that could not be read.
    """

    files: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    boxes: tuple[Float[np.ndarray, "found 4"], ...]
    scores: tuple[Float[np.ndarray, " found"], ...]
    labels: tuple[Int[np.ndarray, " found"], ...]
    class_names: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of photographs."""
        return len(self.files)

    def __repr__(self) -> str:
        """Return a line a photograph."""
        lines = []
        for i, file in enumerate(self.files):
            sure = self.named(i, SURE)
            found = ", ".join(f"{name} {score:.2f}" for name, score, _ in sure) or "nothing"
            lines.append(f"{file}: {found}")
        return "\n".join(
            lines[:LISTED] + [f"and {len(lines) - LISTED} more"] * (len(lines) > LISTED)
        )

    def named(self, number: int, least: float = 0.0) -> list[tuple[str, float, list[float]]]:
        """Return class, score and box of what is found in a photograph, the surest first."""
        return [
            (self.class_names[label], float(score), [float(value) for value in box])
            for box, score, label in zip(
                self.boxes[number], self.scores[number], self.labels[number], strict=True
            )
            if score >= least
        ]

    def records(self) -> list[dict[str, Any]]:
        """Return what is found as plain values, for JSON."""
        return [
            {
                "file": file,
                "width": self.sizes[i][1],
                "height": self.sizes[i][0],
                "detections": [
                    {"class": name, "score": score, "box": box}
                    for name, score, box in self.named(i)
                ],
            }
            for i, file in enumerate(self.files)
        ]

    def draw(self, number: int, least: float = SURE) -> UInt8[np.ndarray, "height width 3"]:
        """Return a photograph with the boxes on it whose score is so high."""
        file = self.files[number]
        pixels = jpeg.decode(Path(file).read_bytes(), 3, file, exif=True)
        sure = self.scores[number] >= least
        return draw_boxes(
            pixels,
            self.boxes[number][sure],
            self.labels[number][sure],
            self.scores[number][sure],
            self.class_names,
        )

    def write(self, path: Path, drawn: Path, progress: Progress = quiet) -> None:
        """Write the `records` to a JSON file, and the photographs with boxes to a directory."""
        drawn.mkdir(parents=True, exist_ok=True)
        for number, file in enumerate(self.files):
            progress("draw", number, len(self))
            # Files of one name may lie in several folders.
            picture = drawn / f"{number + 1:0{len(str(len(self)))}d}-{Path(file).stem}.jpg"
            Image.fromarray(self.draw(number)).save(picture, quality=QUALITY, subsampling=0)
        write_whole(path, to_json(self.records(), indent=1))


def detects(path: Path) -> bool:
    """Return whether the net of a run, or of imported weights, is a detector."""
    return isinstance(build.task_of(load.config_of(path, "weights")), Detection)


def detect_files(
    path: Path,
    files: Sequence[Path],
    *,
    checkpoint: str | int = "last",
    batch_size: int = 8,
    progress: Progress = quiet,
) -> Found:
    """Return what a run's detector finds in photographs, fitted into its canvas.

    Args:
        path: a run directory, or one of imported weights.
        files: photographs.
        checkpoint: last, best or a step.
        batch_size: photographs at a time.
        progress: told how far it is.

    Raises:
        UserError: none of the files can be read.
    """
    config = load.config_of(path, "weights")
    device.start_jax(config.train.cpu_kernels)
    stored = load.open_stored(path, checkpoint, "weights")
    task = build.task_of(stored.config)
    reader = reader_of(path, stored.config)

    @jax.jit
    def answer(variables: Any, columns: Any) -> Any:
        count = len(columns["image"])
        batch = {"mask": jnp.ones(count, bool)} | columns
        inputs, *_ = task.inputs(no_keys, jnp.arange(count), batch, train=False)
        return task.predict(stored.model.apply(variables, inputs, train=False), batch)

    left_out: list[str] = []
    names: list[str] = []
    sizes: list[tuple[int, int]] = []
    parts: dict[str, list[np.ndarray]] = {"boxes": [], "scores": [], "labels": []}
    size = max(1, min(batch_size, len(files)))
    done = 0
    for read in _batches(reader, files, size, left_out):
        progress("detect", done, len(files))
        count = len(read.names)
        # A last, partial batch is filled up, so that one program serves all.
        numbers = np.minimum(np.arange(size), count - 1)
        columns = {name: column[numbers] for name, column in read.columns.items()}
        found = {key: np.asarray(one) for key, one in answer(stored.variables, columns).items()}
        for i in range(count):
            there = found["found_labels"][i] >= 0
            there &= np.isfinite(found["found_scores"][i])
            for key, some in parts.items():
                some.append(found[f"found_{key}"][i][there])
        names += read.names
        sizes += [(int(h), int(w)) for h, w in read.columns["original"]]
        done += count
    if not names:
        raise UserError("\n".join(["There is no photograph to look at.", *left_out]))
    return Found(
        tuple(names),
        tuple(sizes),
        tuple(parts["boxes"]),
        tuple(parts["scores"]),
        tuple(parts["labels"]),
        tuple(class_names(path, stored.config)),
        tuple(left_out),
    )


def photographs_in(paths: Sequence[Path]) -> list[Path]:
    """Return files, and the image files in directories."""
    return [file for path in paths for file in picture_files(path)]


def reader_of(path: Path, config: RunConfig) -> Any:
    """Return the reader of a run's photographs; of weights without a record the config says it."""
    recorded, call = data_record.reader_of(path), config.data.call
    return recorded or PhotographReader(
        tuple(call["canvas"]),
        call.get("shorter_side"),
        call.get("longer_side"),
        call.get("antialias", True),
    )


def _batches(reader: Any, files: Sequence[Path], size: int, left_out: list[str]) -> Iterator[Read]:
    """Yield photographs that can be read, ``size`` at a time; note the others."""
    waiting: list[Read] = []
    for file in files:
        try:
            waiting.append(reader([file]))
        except UserError as error:
            left_out.append(str(error).split("\n")[-1])
            continue
        if len(waiting) == size:
            yield _joined(waiting)
            waiting = []
    if waiting:
        yield _joined(waiting)


def _joined(some: Sequence[Read]) -> Read:
    columns = {
        name: np.concatenate([one.columns[name] for one in some]) for name in some[0].columns
    }
    return Read(columns, tuple(name for one in some for name in one.names))
