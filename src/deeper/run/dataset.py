"""From a composed config to the splits that a run uses."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import TaskID

from deeper.cli.live_display import bar
from deeper.cli.terminal import open_console
from deeper.data.dataset import Dataset, Split, open_dataset
from deeper.data.encoded_images import MIDDLE, Photographs, View
from deeper.data.splitting import first_of_draw, hold_out, only_classes
from deeper.data.unreadable import without_unreadable
from deeper.errors import UserError

NAMES_SHOWN = 5  # of photographs that cannot be read
NAMES_KEPT = 300  # in a result
IGNORE = "ignore"  # data.exif, as runs did before there was the key


@dataclass(frozen=True)
class Splits:
    """A data set as a run uses it: what is trained on, what chooses, what is touched once.

    Attributes:
        dataset: names and shapes.
        train: trained on.
        validation: held out of the training split, or None.
        test: evaluated once, at the end.
        unlabelled: the whole training split, of which labels are not looked at, or None.
        unreadable: split -> file names of the photographs that were left out of it.
    """

    dataset: Dataset
    train: Split
    validation: Split | None
    test: Split
    unlabelled: Split | None
    unreadable: dict[str, tuple[str, ...]]


def view_of(data: DictConfig) -> View | None:
    """Return how photographs are shown; None where the data set's images have one size."""
    if data.get("crop") is None:
        return None
    height, width, channels = data.image_shape
    if channels not in (1, 3):
        raise UserError(
            f"data.image_shape={list(data.image_shape)}: photographs have 3 channels, or "
            "1 for grey."
        )
    if data.shorter_side < min(height, width):
        raise UserError(
            f"data.shorter_side={data.shorter_side} is less than the {min(height, width)} pixels "
            f"of data.image_shape={list(data.image_shape)}: leave it out, or give more."
        )
    shape = (height, width, channels)
    return View(shape, data.crop, data.shorter_side, data.antialias, exif_of(data))


def evaluation_view(data: DictConfig, crop: float | None = None) -> View:
    """Return how a picture is shown to a net: as `evaluate` shows the run's own test images.

    Images of one size are seen as they are; a picture of another size is resized so that it just
    fills that size, and its middle is cut out.

    Args:
        data: the run's.
        crop: share of the shorter side that is seen; by default the run's own.

    Raises:
        UserError: the share is none.
    """
    height, width, channels = data.image_shape
    least = min(height, width)
    view = view_of(data) or View(
        (height, width, channels), MIDDLE, least, antialias=True, exif=exif_of(data)
    )
    if crop is None:
        return view
    if not isinstance(crop, int | float) or isinstance(crop, bool) or not 0 < crop <= 1:
        raise UserError(f"crop={crop}: give a share above 0, up to 1.")
    return replace(view, shorter_side=max(least, round(least / crop)))


def exif_of(section: DictConfig, key: str = "data.exif") -> bool:
    """Return whether pictures are turned as their EXIF entry says; in older records they are not.

    Args:
        section: a run's data, or a command's config.
        key: what the user calls it, for the message.
    """
    choice = section.get("exif", IGNORE)
    if choice not in ("apply", IGNORE):
        raise UserError(f"{key}={choice} is unknown; choose apply or ignore.")
    return bool(choice == "apply")


def is_own_folder(data: DictConfig) -> bool:
    """Whether a config's data are a folder of the user's, as data=folder says, not a known set."""
    return "fraction" in data


def open_splits(config: DictConfig) -> Splits:
    """Open the data set and hold out the validation split."""
    data = config.data
    with _told(open_console(stderr=True)) as progress:
        dataset = open_dataset(data.name, Path(data.dir), progress, view_of(config.data))
    arrays = not any(isinstance(part.images, Photographs) for part in dataset.splits.values())
    if arrays and view_of(data) is not None:
        raise UserError(
            f"The images of {data.name} have one size and are not cropped: say data.crop=null "
            f"data.image_shape={list(dataset.image_shape)}."
        )
    if tuple(data.image_shape) != tuple(dataset.image_shape):
        raise UserError(
            f"data.image_shape={list(data.image_shape)} but the images of {data.name} are "
            f"{list(dataset.image_shape)}."
        )
    if data.keep_classes is not None:
        dataset = only_classes(dataset, tuple(data.keep_classes))
    if len(dataset.class_names) != data.classes:
        raise UserError(
            f"data.classes={data.classes} but {data.name} in {data.dir} has "
            f"{len(dataset.class_names)} classes"
            + (" with data.keep_classes." if data.keep_classes is not None else ".")
        )
    train, test = _train_and_test(config, dataset)
    train, validation = hold_out(train, data.validation)
    unlabelled = None if config.train.consistency is None else train
    if data.examples is not None:
        train = first_of_draw(train, data.examples, data.draw)

    def first(split: Split) -> Split:
        return split.select(slice(data.limit))

    if data.limit is not None:
        train, validation, test = first(train), first(validation), first(test)
    parts = {"train": train, "validation": validation, "test": test}
    if unlabelled is not None:
        parts["unlabelled"] = unlabelled
    parts, unreadable = leave_out_unreadable(config.data, parts)
    return Splits(
        dataset,
        parts["train"],
        parts["validation"] if len(parts["validation"]) else None,
        parts["test"],
        parts.get("unlabelled"),
        unreadable,
    )


def leave_out_unreadable(
    data: DictConfig, parts: dict[str, Split]
) -> tuple[dict[str, Split], dict[str, tuple[str, ...]]]:
    """Leave out photographs that cannot be read if the config says so; return their names."""
    choice = data.get("on_bad", "raise")
    if choice not in ("raise", "skip"):
        raise UserError(f"data.on_bad={choice} is unknown; choose raise or skip.")
    if choice == "raise":
        return parts, {}
    console = open_console(stderr=True)
    with _told(console) as progress:
        found = {name: without_unreadable(part, progress) for name, part in parts.items()}
    unreadable = {name: names for name, (_, names) in found.items() if names}
    for name, names in unreadable.items():
        console.print(
            f"{len(names):,} of {len(parts[name]):,} photographs of {name} cannot be read and are "
            f"left out: {', '.join(names[:NAMES_SHOWN])}{' ...' * (len(names) > NAMES_SHOWN)}",
            soft_wrap=True,
        )
    return {name: part for name, (part, _) in found.items()}, unreadable


@contextmanager
def _told(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Show how far things are that are done once for a data set."""
    with bar(console) as shown:
        tasks: dict[str, TaskID] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(f"{what}, once", total=total)
            shown.update(tasks[what], completed=done)

        yield progress


def _train_and_test(config: DictConfig, dataset: Dataset) -> tuple[Split, Split]:
    """Return the splits; of a set that has none to test on, a share is held out for that."""
    splits = dataset.splits
    if "train" not in splits:
        raise UserError(
            f"{dataset.name} has no training split, but {', '.join(splits)}: it cannot be used by "
            "a run."
        )
    if "test" in splits:
        return splits["train"], splits["test"]
    share = config.data.get("test_fraction")
    if share is None or not 0 < share < 1:
        raise UserError(
            f"{dataset.name} has no split to test on: give data.test_fraction between 0 and 1."
        )
    return hold_out(splits["train"], max(1, round(share * len(splits["train"]))))


def in_result(unreadable: dict[str, tuple[str, ...]]) -> dict[str, dict[str, object]]:
    """Return how many photographs of each split were left out, and the first of their names."""
    return {
        split: {"count": len(names), "files": list(names[:NAMES_KEPT])}
        for split, names in unreadable.items()
    }
