"""A run's net with the images that it is shown, for the figures of `interpret`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from deeper.augment.pipeline import Normalise
from deeper.config.schema import RunConfig
from deeper.data.encoded_images import View
from deeper.data.image_files import LeftOut, describe_left_out, picture_files, read_picture
from deeper.errors import UserError
from deeper.interpret.subject import Subject
from deeper.interpret.traced_net import LOGITS
from deeper.models.initializers import initialise
from deeper.progress import Progress, quiet
from deeper.record.schema import ENVIRONMENT
from deeper.run import load
from deeper.run.class_names import class_names
from deeper.run.data_record import open_own_splits
from deeper.run.dataset import evaluation_view, require_images


def subject_of(
    path: Path,
    key: str,
    *,
    checkpoint: str | int = "last",
    data_dir: str | None = None,
    split: str = "validation",
    examples: int = 10_000,
    images: Path | None = None,
    crop: float | None = None,
    exif: str | None = None,
    progress: Progress = quiet,
    warn: Callable[[str], None] = lambda line: None,
) -> Subject:
    """Return a run's net with images of one of its splits, or with pictures of the user's.

    Args:
        path: the run directory.
        key: what the user calls it, for messages.
        checkpoint: last, best or a step.
        data_dir: where the run's own data lie now; by default where they lay.
        split: validation, test or train.
        examples: of the split, at most.
        images: a file or a directory in the place of the split. Nobody says what is on them: their
            labels are the net's own answers.
        crop: of ``images``: share of the shorter side that is seen; by default as evaluated.
        exif: of ``images``: apply or ignore; by default the run's own.
        progress: that the subject tells how far the work on it is.
        warn: called with a line on each kind of pictures that are left out.

    Raises:
        UserError: there is no such checkpoint or split, no picture can be read, or the run's data
            are a user's own.
    """
    weights = load.open_stored(path, checkpoint, key, data_dir)
    data = weights.config.data
    require_images(data, "This")
    normalise = Normalise(tuple(data.mean), tuple(data.std))
    subject = Subject(
        title=_title(path, weights.config),
        model=weights.model,
        variables=weights.variables,
        images=np.zeros((0, *data.image_shape), np.uint8),
        labels=np.zeros(0, np.int32),
        names=(),
        class_names=class_names(path, weights.config),
        mean=tuple(data.mean),
        normalise=normalise,
        progress=progress,
    )
    if images is not None:
        pictures, names = _pictures(images, evaluation_view(data, crop, exif), warn)
        logits = subject.net(normalise(jnp.asarray(pictures)), [LOGITS])[LOGITS]
        labels = np.asarray(logits.argmax(-1), np.int32)
        return replace(subject, images=pictures, labels=labels, names=names)
    splits = open_own_splits(path, weights.config)
    shown = splits.named(split)
    states = load.states(path)
    if weights.config.init_from is None:
        seed = weights.config.seed
        states = {0: lambda: initialise(weights.model, seed, subject.shape)} | states
    labels = np.asarray(shown.labels[:examples])
    return replace(
        subject,
        images=np.asarray(shown.images[:examples]),
        labels=labels,
        names=[f"{split} {number}" for number in range(len(labels))],
        training=(splits.train.images, np.asarray(splits.train.labels)),
        states=states,
    )


def _title(path: Path, config: RunConfig) -> str:
    """Return a net's name, and the data that it was trained on.

    A directory of imported weights has no record of a training: of their data the number of classes
    is known.
    """
    if (path / ENVIRONMENT).exists():
        return f"{config.label} on {config.data.name}"
    return f"{config.label} ({path.name}), {config.data.classes} classes"


def _pictures(
    path: Path, view: View, warn: Callable[[str], None]
) -> tuple[UInt8[np.ndarray, "n height width channels"], list[str]]:
    """Read a picture, or those of a directory, and their names; what cannot be read is told of."""
    left_out: LeftOut = {}
    files = picture_files(path, left_out)
    images, names, unread = [], [], []
    for file in files:
        try:
            images.append(read_picture(file, view))
            names.append(file.name if path.is_file() else str(file.relative_to(path)))
        except UserError as error:
            unread.append(str(error))
    said = "\n".join([f"{len(unread):,} of {len(files):,} files left out:", *unread])
    if not images:
        raise UserError(said)
    if left_out:
        warn(describe_left_out(left_out))
    if unread:
        warn(said)
    return np.stack(images), names
