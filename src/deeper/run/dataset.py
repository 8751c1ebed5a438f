"""Opens the splits that a run uses, from a composed config."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deeper.config.data_sections import ImageFolder, OwnDataset, Tfds
from deeper.config.instantiate import build
from deeper.config.schema import RunConfig
from deeper.data.array_records import class_names
from deeper.data.catalogue import CATALOGUE
from deeper.data.dataset import Dataset, Split, open_dataset, prepared_directory
from deeper.data.encoded_images import MIDDLE, Photographs, View
from deeper.data.splitting import first_of_draw, fold_of, hold_out, only_classes, require_classes
from deeper.data.unreadable import without_unreadable
from deeper.errors import UserError
from deeper.progress import Progress, quiet

NAMES_SHOWN = 5  # unreadable photographs in messages
NAMES_KEPT = 300  # in a result


@dataclass(frozen=True)
class Splits:
    """The splits of a data set as a run uses them.

    Attributes:
        dataset: names and shapes.
        train: the training split, without held-out examples.
        validation: held out of the training split, or None.
        test: the test split, evaluated once at the end.
        unlabelled: the complete training split, whose labels are not used, or None.
        unreadable: split -> file names of the photographs that were left out.
    """

    dataset: Dataset
    train: Split
    validation: Split | None
    test: Split
    unlabelled: Split | None
    unreadable: dict[str, tuple[str, ...]]

    def named(self, name: str) -> Split:
        """Return train, validation or test.

        Raises:
            UserError: the run has no such split.
        """
        found = {"validation": self.validation, "test": self.test, "train": self.train}
        split = found.get(name)
        if split is None:
            there = ", ".join(key for key, one in found.items() if one is not None)
            raise UserError(f"split={name} is not there; this run has {there}.")
        return split


def view_of(data: Any) -> View | None:
    """Return the preprocessing of photographs; None for data sets of one size."""
    if not data.of_any_size:
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
    if data.interpolation != "bilinear" and data.antialias is not True:
        raise UserError(
            f"data.interpolation={data.interpolation} is for data.antialias=true; without, "
            "photographs are resized bilinearly."
        )
    return View(
        (height, width, channels),
        data.crop,
        data.shorter_side,
        data.antialias,
        data.exif == "apply",
        data.interpolation,
    )


def require_images(data: Any, what: str) -> None:
    """Raise a UserError if the data set is a user's own, which only its task can read.

    Args:
        data: ``data`` section of the run's config.
        what: the requested command or method, for the message.
    """
    if isinstance(data, OwnDataset):
        raise UserError(
            f"{what} is for images, which {data.name} has not. In Python, deeper.load(run) gives "
            "the run: its .attribute(METHOD, EXAMPLES).figure() shows what an answer depends on, "
            "and .net() is the net with its variables."
        )


def evaluation_view(data: Any, crop: float | None = None, exif: str | None = None) -> View:
    """Return the preprocessing of a picture: that of the run's test images in `evaluate`.

    Images of the net's size are not changed. Other pictures are resized to just cover that size,
    and the centre is cropped.

    Args:
        data: ``data`` section of the run's config.
        crop: share of the shorter side in the crop; by default that of the run.
        exif: apply or ignore the EXIF orientation; by default as in the run.

    Raises:
        UserError: the share is not valid, or the data are not images.
    """
    if isinstance(data, OwnDataset):
        raise UserError(f"The examples of {data.name} are no images that files could be read as.")
    height, width, channels = data.image_shape
    least = min(height, width)
    view = view_of(data)
    if view is None:
        turned = getattr(data, "exif", "ignore") == "apply"
        view = View((height, width, channels), MIDDLE, least, antialias=True, exif=turned)
    if exif is not None:
        if exif not in ("apply", "ignore"):
            raise UserError(f"exif={exif} is unknown; choose apply or ignore.")
        view = replace(view, exif=exif == "apply")
    if crop is None:
        return view
    if not isinstance(crop, int | float) or isinstance(crop, bool) or not 0 < crop <= 1:
        raise UserError(f"crop={crop}: give a share above 0, up to 1.")
    return replace(view, shorter_side=max(least, round(least / crop)))


def check_kept_classes(data: Any) -> None:
    """Raise a UserError for a mistake in ``data.keep_classes``, as far as it shows without data."""
    if isinstance(data, OwnDataset) or data.keep_classes is None:
        return
    known = whole_classes(data)
    if known is not None:
        require_classes(data.keep_classes, known)
    _require_count(data, len(data.keep_classes))


def whole_classes(data: Any) -> int | None:
    """Return the number of classes of a data set before some are kept; None if it is unknown.

    It is known of published data sets, and of those that are prepared.
    """
    if data.name in CATALOGUE and not is_own_folder(data):
        return CATALOGUE[data.name].classes
    directory = prepared_directory(data.name, Path(data.dir))
    return None if directory is None else len(class_names(directory))


def is_own_folder(data: Any) -> bool:
    """Return whether the data are a user's folder (data=folder) rather than a known data set."""
    return isinstance(data, ImageFolder)


def open_data(data: Any, progress: Progress = quiet) -> Dataset:
    """Open the data set of a config's ``data`` section.

    Raises:
        UserError: it is missing, or does not fit the section.
    """
    if isinstance(data, OwnDataset):
        return _own(data)
    dataset = open_dataset(data.name, Path(data.dir), progress, view_of(data))
    arrays = not any(isinstance(part.images, Photographs) for part in dataset.splits.values())
    if arrays and data.of_any_size:
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
    _require_count(data, len(dataset.class_names))
    return dataset


def _require_count(data: Any, classes: int) -> None:
    if classes != data.classes:
        raise UserError(
            f"data.classes={data.classes} but {data.name} in {data.dir} has {classes} classes"
            + (" with data.keep_classes." if data.keep_classes is not None else ".")
        )


def _own(data: OwnDataset) -> Dataset:
    """Return the data set that the ``_target_`` of a user's data section constructs."""
    dataset = build(data.call)
    if not isinstance(dataset, Dataset):
        raise UserError(
            f"data._target_={data.call['_target_']} returns {type(dataset).__name__}: it has to "
            "return a deeper.data.dataset.Dataset."
        )
    known = len(dataset.class_names)
    if data.classes is not None and known and known != data.classes:
        raise UserError(f"data.classes={data.classes} but {data.name} has {known} classes.")
    return replace(dataset, name=data.name)


def open_splits(config: RunConfig, progress: Progress = quiet) -> Splits:
    """Open the data set and split off the validation examples.

    Args:
        config: config of the run.
        progress: told of what is done once for a data set.
    """
    data = config.data
    dataset = open_data(data, progress)
    train, test = _train_and_test(config, dataset)
    if "validation" in dataset.splits and isinstance(data, OwnDataset):
        validation = dataset.splits["validation"]
    else:
        train, validation = hold_out(train, data.validation)
    unlabelled = None if config.train.consistency is None else train
    if data.examples is not None:
        train = first_of_draw(train, data.examples, data.draw)
    if data.limit is not None:
        parts = (train, validation, test)
        train, validation, test = (part.select(slice(data.limit)) for part in parts)
    parts_by_name = {"train": train, "validation": validation, "test": test}
    if unlabelled is not None:
        parts_by_name["unlabelled"] = unlabelled
    readable_parts, unreadable = leave_out_unreadable(data, parts_by_name, progress)
    return Splits(
        dataset,
        readable_parts["train"],
        readable_parts["validation"] if len(readable_parts["validation"]) else None,
        readable_parts["test"],
        readable_parts.get("unlabelled"),
        unreadable,
    )


def leave_out_unreadable(
    data: Any, parts: dict[str, Split], progress: Progress = quiet
) -> tuple[dict[str, Split], dict[str, tuple[str, ...]]]:
    """Leave out unreadable photographs if the config says so; return their names."""
    if not data.of_any_size or data.on_bad == "raise":
        return parts, {}
    looked_at = {name: without_unreadable(part, progress) for name, part in parts.items()}
    unreadable = {name: names for name, (_, names) in looked_at.items() if names}
    return {name: part for name, (part, _) in looked_at.items()}, unreadable


def unreadable_in_words(splits: Splits) -> list[str]:
    """Return a sentence for each split on the photographs that were left out."""
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    parts["unlabelled"] = splits.unlabelled
    said = []
    for name, names in splits.unreadable.items():
        part = parts.get(name)
        total = len(names) + (0 if part is None else len(part))
        said.append(
            f"{len(names):,} of {total:,} photographs of {name} cannot be read and are left out: "
            f"{', '.join(names[:NAMES_SHOWN])}{' ...' * (len(names) > NAMES_SHOWN)}"
        )
    return said


def _train_and_test(config: RunConfig, dataset: Dataset) -> tuple[Split, Split]:
    """Return the splits; if there is no test split, a share of the training split becomes one.

    With ``data.folds`` a part of the training split is the test split, whatever else there is.
    """
    splits = dataset.splits
    if "train" not in splits:
        raise UserError(
            f"{dataset.name} has no training split, but {', '.join(splits) or 'no other'}"
            f"{_and_unused(dataset)}: it cannot be used by a run."
        )
    if isinstance(config.data, OwnDataset) and config.data.folds is not None:
        return fold_of(splits["train"], config.data.folds, config.data.fold)
    if "test" in splits:
        return splits["train"], splits["test"]
    if not isinstance(config.data, Tfds):
        raise UserError(
            f"{dataset.name} has no split to test on, but {', '.join(splits)}"
            f"{_and_unused(dataset)}."
        )
    share = config.data.test_fraction
    return hold_out(splits["train"], max(1, round(share * len(splits["train"]))))


def _and_unused(dataset: Dataset) -> str:
    reasons = ", ".join(f"{split} ({why})" for split, why in dataset.unused.items())
    return f" (there is {reasons}, too)" if reasons else ""


def in_result(unreadable: dict[str, tuple[str, ...]]) -> dict[str, dict[str, object]]:
    """Return the number of photographs left out of each split, and the first of their names."""
    return {
        split: {"count": len(names), "files": list(names[:NAMES_KEPT])}
        for split, names in unreadable.items()
    }
