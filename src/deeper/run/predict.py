"""What a net says of pictures, texts or sounds: the likeliest classes of each."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, UInt8

from deeper.augment.pipeline import Normalise
from deeper.data.encoded_images import View
from deeper.data.image_files import is_turned, read_picture
from deeper.data.reader import Given
from deeper.errors import UserError
from deeper.progress import Progress, quiet
from deeper.run import build, data_record, device, load, net_record
from deeper.run.class_names import class_names
from deeper.run.dataset import evaluation_view
from deeper.study.tables import cell
from deeper.train.evaluate import no_keys

LISTED = 5
SHOWN = 20  # pictures, in a line each


@dataclass(frozen=True, repr=False)
class Predictions:
    """A net's answers about some pictures, or what else it was asked about.

    Attributes:
        files: names of the pictures; numbers where arrays were given; the beginning of a text.
        probabilities: (n, classes).
        scores: the logits (n, classes).
        class_names: in the order of the classes.
        left_out: sentences about the files that could not be read, or that the net has no answer
            to.
        unturned: files that are shown as stored, though an EXIF entry says to turn them.
        changed: what a reader did to examples, in words -> how many it was done to.
    """

    files: tuple[str, ...]
    probabilities: Float32[np.ndarray, "n classes"]
    scores: Float32[np.ndarray, "n classes"]
    class_names: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    unturned: int = 0
    changed: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of pictures with an answer."""
        return len(self.files)

    def __repr__(self) -> str:
        """Return a line a picture."""
        lines = [
            f"{file}: " + ", ".join(f"{name} {share:.3f}" for name, share in answers)
            for file, answers in zip(self.files, self.top(3), strict=True)
        ]
        return "\n".join(lines[:SHOWN] + [f"and {len(lines) - SHOWN} more"] * (len(lines) > SHOWN))

    def top(self, k: int = LISTED) -> list[list[tuple[str, float]]]:
        """Return the k likeliest classes of each picture, with their probabilities."""
        # By logits: of a very sure net all other probabilities are zero.
        order = np.argsort(-self.scores, axis=1, kind="stable")[:, :k]
        return [
            [(self.class_names[number], float(shares[number])) for number in row]
            for row, shares in zip(order, self.probabilities, strict=True)
        ]

    @property
    def names(self) -> list[str]:
        """The likeliest class of each picture."""
        return [answers[0][0] for answers in self.top(1)]

    def write(self, path: Path) -> None:
        """Write a CSV file with a row for each picture and class: file, rank, class, probability.

        Its folder is made where it is missing.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as table:
            writer = csv.writer(table)
            writer.writerow(("file", "rank", "class", "probability"))
            writer.writerows(
                (cell(file), rank, cell(name), f"{share:.6f}")
                for file, top in zip(self.files, self.top(), strict=True)
                for rank, (name, share) in enumerate(top, 1)
            )


def predict_files(
    path: Path,
    files: Sequence[Path],
    *,
    checkpoint: str | int = "last",
    crop: float | None = None,
    exif: str | None = None,
    batch_size: int = 32,
    data_dir: str | None = None,
    progress: Progress = quiet,
) -> Predictions:
    """Return what a run's net says of pictures, seen as evaluation sees the run's own.

    Args:
        path: a run directory, or one of imported weights.
        files: the pictures.
        checkpoint: last, best or a step.
        crop: share of the shorter side that is seen; by default the run's own.
        exif: apply or ignore; by default the run's own.
        batch_size: pictures at a time.
        data_dir: where the run's data lie now.
        progress: told how far it is.
    """
    config = load.config_of(path, "weights", data_dir)
    view = evaluation_view(config.data, crop, exif)
    left_out: list[str] = []
    unturned = 0
    read: list[str] = []

    def pictures() -> Iterable[np.ndarray]:
        nonlocal unturned
        for number, file in enumerate(files):
            progress("predict", number, len(files))
            try:
                picture = read_picture(file, view)
            except UserError as error:
                left_out.append(str(error))
                continue
            read.append(str(file))
            unturned += not view.exif and is_turned(file)
            yield picture

    scores, shares, names = _answers(path, checkpoint, pictures(), view, batch_size, len(files))
    known = np.isfinite(shares).all(axis=1)
    left_out += [
        f"{file}: the net answers NaN; its weights have diverged."
        for file, answered in zip(read, known, strict=True)
        if not answered
    ]
    kept = tuple(file for file, answered in zip(read, known, strict=True) if answered)
    return Predictions(kept, shares[known], scores[known], names, tuple(left_out), unturned)


def predict_images(
    path: Path,
    images: UInt8[np.ndarray, "n height width channels"],
    *,
    checkpoint: str | int = "last",
    batch_size: int = 32,
) -> Predictions:
    """Return what a run's net says of images, pixels as the run's own data set stores them."""
    config = load.config_of(path, "run")
    view = evaluation_view(config.data)
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.shape[1:] != view.image_shape:
        raise UserError(
            f"images are {images.dtype} {images.shape}: this net takes uint8 (n, "
            f"{', '.join(map(str, view.image_shape))}); give files for pictures of another size."
        )
    scores, shares, names = _answers(path, checkpoint, images, view, batch_size, len(images))
    return Predictions(tuple(map(str, range(len(images)))), shares, scores, names)


def predict_given(
    path: Path,
    given: Sequence[Given],
    *,
    checkpoint: str | int = "last",
    batch_size: int = 32,
    progress: Progress = quiet,
) -> Predictions:
    """Return what a run's net says of texts or files, read as its data set was made.

    Args:
        path: a run directory whose record has a reader.
        given: texts (str), or files and directories (Path), as the reader takes them.
        checkpoint: last, best or a step.
        batch_size: examples at a time.
        progress: told how far it is.

    Raises:
        UserError: the run has no reader, or nothing can be read.
    """
    reader = data_record.reader_of(path)
    if reader is None:
        raise UserError(f"{path} is a run on images: give files of pictures, or arrays.")
    read = reader(given)
    device.start_jax(load.config_of(path, "run").train.cpu_kernels)
    stored = load.open_stored(path, checkpoint, "run")
    task = build.task_of(stored.config)
    probabilities = getattr(task, "probabilities", jax.nn.softmax)

    @jax.jit
    def answer(variables: Any, columns: Any) -> Any:
        count = len(next(iter(columns.values())))
        batch = {"label": jnp.zeros(count, jnp.int32), "mask": jnp.ones(count, bool)} | columns
        inputs, *_ = task.inputs(no_keys, jnp.arange(count), batch, train=False)
        outputs: Any = stored.model.apply(variables, inputs, train=False)
        return outputs, probabilities(outputs)

    # A last, partial batch is filled up, so that one program serves all.
    total = len(read.names)
    size = max(1, min(batch_size, total))
    scores, shares = [], []
    for first in range(0, total, size):
        progress("predict", first, total)
        numbers = np.minimum(np.arange(first, first + size), total - 1)
        columns = {name: column[numbers] for name, column in read.columns.items()}
        kept = min(size, total - first)
        outputs, probable = answer(stored.variables, columns)
        scores.append(np.asarray(outputs)[:kept])
        shares.append(np.asarray(probable)[:kept])
    return Predictions(
        read.names,
        np.concatenate(shares),
        np.concatenate(scores),
        tuple(class_names(path, stored.config)),
        read.left_out,
        changed=read.changed,
    )


def _answers(
    path: Path,
    checkpoint: str | int,
    pictures: Iterable[np.ndarray],
    view: View,
    batch_size: int,
    most: int,
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Return logits and probabilities of pictures, and the classes' names."""
    device.start_jax(load.config_of(path, "run").train.cpu_kernels)
    stored = load.open_stored(path, checkpoint, "run")
    record = net_record.read(path, stored.config)
    net_record.require_trained_head(record, path)
    names = tuple(record.class_names)
    normalise = Normalise(tuple(stored.config.data.mean), tuple(stored.config.data.std))

    @jax.jit
    def answer(variables: Any, images: Any) -> Any:
        logits: Any = stored.model.apply(variables, normalise(images), train=False)
        return logits, jax.nn.softmax(logits)

    # A last, partial batch is filled up, so that one program serves all.
    size = max(1, min(batch_size, most))
    batch = np.zeros((size, *view.image_shape), np.uint8)
    scores: list[np.ndarray] = []
    shares: list[np.ndarray] = []
    filled = 0

    def flush() -> None:
        nonlocal filled
        logits, probabilities = answer(stored.variables, jnp.asarray(batch))
        scores.append(np.asarray(logits)[:filled])
        shares.append(np.asarray(probabilities)[:filled])
        filled = 0

    for picture in pictures:
        batch[filled] = picture
        filled += 1
        if filled == size:
            flush()
    if filled:
        flush()
    none = np.zeros((0, len(names)), np.float32)
    return np.concatenate([none, *scores]), np.concatenate([none, *shares]), names
