"""``deeper evaluate suite=corrupt`` and ``suite=robust``: corrupted images, and other data.

Each suite writes ``evaluation-suite-NAME.json``, which reports read, and a figure beside it.
"""

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import lax

from deeper.augment.corruption_tables import ALEXNET, NAMES, SAVED_AT, SEVERITIES, set_for
from deeper.augment.corruptions import Pictures, corrupt
from deeper.config.data_sections import OwnDataset
from deeper.config.schema import RunConfig
from deeper.data.array_records import split_lengths
from deeper.data.dataset import open_dataset, prepared_directory
from deeper.errors import UserError
from deeper.interpret.robustness_figures import corruption_figure, shift_figure
from deeper.progress import Progress, quiet
from deeper.record.atomic_files import disk_errors, to_json, write_whole
from deeper.record.schema import EVALUATION
from deeper.run import device, load, objectnet
from deeper.run.dataset import view_of
from deeper.run.evaluate import evaluate_run, evaluator_of_crops, of_crops
from deeper.run.evaluation_set import EvaluationSet, open_evaluation_set
from deeper.run.frost import frost_pictures
from deeper.run.protocols import ProtocolRequest, protocol_of
from deeper.tasks.classification import answered, calibration_error, percent_wrong
from deeper.train.evaluate import Change, unchanged

SUITES = ("corrupt", "robust")
FROST = "frost"


def file_of(suite: str) -> str:
    """Return the name of a suite's file in the run directory."""
    return EVALUATION.format(f"suite-{suite}")


def picture_of(suite: str) -> str:
    """Return the name of a suite's figure in the run directory."""
    return f"suite-{suite}.png"


# --- corruptions --------------------------------------------------------------------------------


def corrupt_run(
    path: Path,
    config: RunConfig,
    *,
    checkpoint: str | int = "last",
    batch_size: int | None = None,
    frost: Path | None = None,
    kept: Path | None = None,
    progress: Progress = quiet,
) -> dict[str, Any]:
    """Evaluate the test split under 15 corruptions at five severities.

    Args:
        path: the run directory.
        config: the run's.
        checkpoint: last, best or a step.
        batch_size: examples at a time; by default the run's. The numbers do not depend on it.
        frost: directory of the frost pictures; without it, frost is left out.
        kept: directory of corrupted images, which depend on the data and the batch size alone:
            what is not there is made and kept there, for other runs; None makes them anew. On one
            device.
        progress: called with the progress.

    Returns:
        In per cent: ``clean_error``, ``error_by_corruption`` (a list over the severities each), and
        ``test/corrupted_error``, their mean; without frost it is
        ``test/corrupted_error_without_frost``. Of ImageNet's 1000 classes with all 15 corruptions
        ``test/mce``, the mean corruption error relative to AlexNet. ``calibration_by_corruption``
        has the calibration errors.

    Raises:
        UserError: the run is not of images, or the pictures cannot be read.
    """
    if batch_size is not None:
        config = config.replace({"train.batch_size": batch_size})
    if isinstance(config.data, OwnDataset):
        raise UserError(
            f"suite=corrupt is for images; the examples of {config.data.name} are none."
        )
    protocol = protocol_of(ProtocolRequest(), config.data)
    device.start_jax(config.train.cpu_kernels)
    opened = open_evaluation_set(path, config, protocol, "test", None, progress)
    numbers = np.arange(len(opened.split), dtype=np.int32)
    opened = replace(opened, split=opened.split.with_columns(number=numbers))
    shape = tuple(protocol.shown)
    strengths = set_for(min(shape[:2]))
    pictures = None if frost is None else frost_pictures(frost, strengths, shape)
    if kept is not None:
        with disk_errors(kept):
            kept.mkdir(parents=True, exist_ok=True)
    names = [name for name in NAMES if name != FROST or pictures is not None]
    weights = load.open_stored(path, checkpoint, "run")
    evaluate, variables, split = evaluator_of_crops(config, weights, protocol, opened, "test")
    changes: dict[str, Change] = {"": unchanged}
    for name in names:
        for severity in SEVERITIES:
            changes[f"{name} {severity}"] = _change(name, strengths, severity, pictures, kept)
    rows = evaluate.of_changed(
        variables, split, changes, lambda done, total: progress("batches", done, total)
    )
    by_name = {name: [rows[f"{name} {s}"] for s in SEVERITIES] for name in names}
    errors = {name: [percent_wrong(r["correct"]) for r in by_name[name]] for name in names}
    means = {name: float(np.mean(values)) for name, values in errors.items()}
    whole = len(names) == len(NAMES)
    result = {
        "run": str(path),
        "step": weights.step,
        "data": opened.data,
        "split": "test",
        "protocol": "suite corrupt",
        "protocol_in_words": f"{len(names)} corruptions, 5 severities, as in {strengths}",
        "strengths": strengths,
        "saved_as_jpeg": SAVED_AT[strengths],
        "n_seen": len(opened.split),
        "clean_error": percent_wrong(rows[""]["correct"]),
        f"test/corrupted_error{'' if whole else '_without_frost'}": float(
            np.mean([*means.values()])
        ),
        "mean_by_corruption": means,
        "error_by_corruption": errors,
        "calibration_by_corruption": {
            name: [calibration_error(r) for r in by_name[name]] for name in names
        },
    }
    if whole and strengths == "ImageNet-C" and _of_imagenet(opened):
        result["test/mce"] = mean_corruption_error(means)
    return _written(path, "corrupt", result, corruption_figure, weights.step)


def mean_corruption_error(means: Mapping[str, float]) -> float:
    """Return the mCE in per cent: errors by corruption, each divided by AlexNet's.

    Args:
        means: corruption -> mean error over the severities in per cent, of all 15.
    """
    return float(np.mean([means[name] / ALEXNET[name] for name in NAMES]))


def _change(
    name: str, strengths: str, severity: int, pictures: Pictures | None, kept: Path | None
) -> Change:
    """Return a function that corrupts the images of several batches on the device.

    Args:
        name: of the corruption.
        strengths: see `corrupt`.
        severity: 1 to 5.
        pictures: of frost.
        kept: directory of corrupted images, see `corrupt_run`.
    """
    own, level = pictures if name == FROST else None, np.int32(severity)

    def images_of(feed: Any, count: int) -> Any:
        make = compiled(name, strengths)
        if kept is None:
            return make(level, feed["image"], feed["number"], own)
        path = kept / f"{name}-{severity}-{_digest(strengths, feed, count, own)}.npy"
        if not path.is_file():
            images = np.array(make(level, feed["image"], feed["number"], own))
            images[count:] = 0  # no batches
            content = io.BytesIO()
            np.save(content, images)
            write_whole(path, content.getvalue())
        return np.load(path)

    return lambda feed, count: {**feed, "image": images_of(feed, count)}


@cache  # several runs that one process evaluates share the compiled programs
def compiled(name: str, strengths: str) -> Callable[[Any, Any, Any, Any], Any]:
    """Return the compiled corruption: of a severity, (steps, rows, ...) images, their numbers and
    the pictures of frost.
    """
    quality = SAVED_AT[strengths]

    @jax.jit
    def images_of(severity: Any, images: Any, numbers: Any, pictures: Pictures | None) -> Any:
        def corrupted(batch: Any) -> Any:
            own, rows = batch
            return corrupt(name, strengths, severity, own, rows, pictures, quality)

        return lax.map(corrupted, (images, numbers))

    return images_of


def _digest(strengths: str, feed: Any, count: int, pictures: Pictures | None) -> str:
    """Return a hash of all that corrupted images depend on, besides the corruption's name."""
    digest = hashlib.sha256(f"{strengths}".encode())
    leaves = [feed["image"][:count], feed["number"][:count], *jax.tree.leaves(pictures)]
    for leaf in map(np.asarray, leaves):
        digest.update(f"{leaf.shape} {leaf.dtype}".encode())
        digest.update(leaf.tobytes())
    return digest.hexdigest()[:16]


def _of_imagenet(opened: EvaluationSet) -> bool:
    return len(opened.class_names) == objectnet.CLASSES


def _written(
    path: Path,
    suite: str,
    result: dict[str, Any],
    draw: Callable[[Any, Path], None],
    step: int,
) -> dict[str, Any]:
    """Write a suite's result, if it is of the last checkpoint, and draw its figure."""
    if step == max(load.states(path)):
        write_whole(path / file_of(suite), to_json(result, indent=2))
    draw(result, path / picture_of(suite))
    return result


# --- other data ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shift:
    """A published test set for nets of ImageNet's classes.

    Attributes:
        title: its name.
        names: under which it may be prepared.
        size: images in it.
        source: the paper, and where it is found.
        only: "subset" where the protocol lets the net choose among the set's classes alone.
    """

    title: str
    names: tuple[str, ...]
    size: int
    source: str
    only: str | None = None


V2 = "Recht et al. 2019 (arXiv:1902.10811), https://huggingface.co/datasets/vaishaal/ImageNetV2"
BERKELEY = "https://people.eecs.berkeley.edu/~hendrycks"
OBJECTNET = Shift(
    "ObjectNet",
    ("objectnet",),
    objectnet.SIZE,
    "Barbu et al. 2019, https://objectnet.dev; copy its mappings/ to data.dir/objectnet/mappings",
)
SHIFTS = (
    Shift(
        "ImageNet-A",
        ("imagenet_a",),
        7_500,
        f"Hendrycks et al. 2021 (arXiv:1907.07174), {BERKELEY}/imagenet-a.tar",
        "subset",
    ),
    Shift(
        "ImageNet-R",
        ("imagenet_r",),
        30_000,
        f"Hendrycks et al. 2021 (arXiv:2006.16241), {BERKELEY}/imagenet-r.tar",
        "subset",
    ),
    Shift(
        "ImageNet-Sketch",
        ("imagenet_sketch",),
        50_889,
        "Wang et al. 2019 (arXiv:1905.13549), https://github.com/HaohanWang/ImageNet-Sketch",
    ),
    *(
        Shift(f"ImageNet-V2 {kind}", (f"imagenet_v2/{kind}", f"imagenet_v2_{kind}"), 10_000, V2)
        for kind in ("matched-frequency", "threshold-0.7", "topimages")
    ),
    OBJECTNET,
)


def shifted_run(
    path: Path,
    config: RunConfig,
    *,
    root: Path,
    checkpoint: str | int = "last",
    batch_size: int | None = None,
    labels: Path | None = None,
    progress: Progress = quiet,
) -> dict[str, Any]:
    """Evaluate a net of ImageNet's classes on the other test sets that are prepared.

    Args:
        path: the run directory.
        config: the run's.
        root: directory of prepared data sets.
        checkpoint: last, best or a step.
        batch_size: examples at a time; by default the run's.
        labels: real.json of ImageNet ReaL, for the run's own test split.
        progress: called with the progress.

    Returns:
        ``sets``: title, error in per cent, ``n_seen``, ``size`` as published, and among which
        classes the net chose. ``missing``: a sentence for each that is not there.

    Raises:
        UserError: the run is not of photographs, or none of the sets is there.
    """
    if isinstance(config.data, OwnDataset) or view_of(config.data) is None:
        raise UserError("suite=robust is for nets of ImageNet's photographs.")
    asked: dict[str, Any] = {
        "checkpoint": checkpoint, "batch_size": batch_size, "progress": progress
    }  # fmt: skip
    sets, missing = [], []
    step = load.open_stored(path, checkpoint, "run").step
    try:
        own = evaluate_run(path, config, labels=labels, **asked)
    except UserError as error:
        if labels is not None:
            raise
        missing.append(f"The run's own test split: {error}")
    else:
        title = f"{own['data']}, test split"
        sets.append(_row(title, own["test/error"], own["test/n_seen"], None, own))
        if labels is not None:
            right = own["test/real_error"], own["test/real_n_seen"]
            sets.append(_row("ImageNet ReaL", *right, None, own))
    if labels is None:
        missing.append(
            "ImageNet ReaL is not there: labels=real.json, of Beyer et al. 2020 (arXiv:2006.07159),"
            " https://github.com/google-research/reassessed-imagenet"
        )
    for shift in SHIFTS:
        name = next((n for n in shift.names if prepared_directory(n, root) is not None), None)
        if name is None:
            missing.append(
                f"{shift.title} is not in {root}: {shift.source}; then `deeper prepare data=folder "
                f"data.name={shift.names[-1]} data.source=DIRECTORY`."
            )
        elif shift is OBJECTNET:
            found = _on_objectnet(path, config, root, **asked)
            sets.append(_row(shift.title, *found, shift.size, {}))
        else:
            sets.append(_on_shift(path, config, root, name, shift, asked))
    if not sets:
        raise UserError(" ".join(missing))
    result = {
        "run": str(path),
        "step": step,
        "data": config.data.name,
        "protocol": "suite robust",
        "protocol_in_words": "other test sets of ImageNet's classes",
        "sets": sets,
        "missing": missing,
    }
    return _written(path, "robust", result, shift_figure, step)


def _row(
    title: str, error: float, seen: int, size: int | None, result: Mapping[str, Any]
) -> dict[str, Any]:
    among = result.get("chosen_among", "all classes of the net")
    return {"title": title, "error": error, "n_seen": seen, "size": size, "chosen_among": among}


def _on_shift(
    path: Path, config: RunConfig, root: Path, name: str, shift: Shift, asked: Mapping[str, Any]
) -> dict[str, Any]:
    """Evaluate on all images of a set, whatever splits they were prepared as."""
    directory = prepared_directory(name, root)
    assert directory is not None
    splits = {*split_lengths(directory)}
    if "validation" in splits and "test" not in splits:  # as `open_dataset` calls it
        splits = splits - {"validation"} | {"test"}
    other = replace(config.data, name=name, dir=str(root), limit=None)
    wrong = seen = 0.0
    result: dict[str, Any] = {}
    for split in sorted(splits):
        result = evaluate_run(path, config, split=split, other=other, only=shift.only, **asked)
        count = result[f"{split}/n_seen"]
        wrong, seen = wrong + result[f"{split}/error"] * count, seen + count
    return _row(shift.title, wrong / seen, int(seen), shift.size, result)


def _on_objectnet(
    path: Path,
    config: RunConfig,
    root: Path,
    checkpoint: str | int,
    batch_size: int | None,
    progress: Progress,
) -> tuple[float, int]:
    """Return the error on ObjectNet, and its number of images of ImageNet's classes.

    An answer is right if it is any of the ImageNet classes of the object; the net chooses among
    all of its classes (Barbu et al. 2019).
    """
    if batch_size is not None:
        config = config.replace({"train.batch_size": batch_size})
    protocol = protocol_of(ProtocolRequest(), config.data)
    device.start_jax(config.train.cpu_kernels)
    dataset = open_dataset("objectnet", root, progress, view_of(config.data))
    classes = objectnet.classes_by_folder(root / "objectnet" / "mappings")
    weights = load.open_stored(path, checkpoint, "run")
    hits = []
    for name, split in dataset.splits.items():
        folders = [dataset.class_names[label] for label in split.labels]
        known = np.flatnonzero([folder in classes for folder in folders])
        right = np.zeros((len(known), objectnet.CLASSES), bool)
        for row, place in zip(right, known, strict=True):
            row[list(classes[folders[place]])] = True
        part = split.select(known).with_columns(label=right.argmax(axis=1).astype(np.int32))
        names = tuple(map(str, range(objectnet.CLASSES)))
        opened = EvaluationSet(part, "objectnet", names, ())
        rows = of_crops(config, weights, protocol, opened, name, progress)
        hits.append(right[np.arange(len(right)), rows["prediction"]] & answered(rows))
    correct = np.concatenate(hits)
    return percent_wrong(correct.astype(np.float32)), len(correct)


# --- tables -------------------------------------------------------------------------------------


def table_of(result: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the headings and rows of a suite's table."""
    rows: list[tuple[str, ...]] = []
    if "sets" in result:
        for row in result["sets"]:
            size = row["size"]
            of_all = "" if size in (None, row["n_seen"]) else f" of {size:,}"
            count = f"{row['n_seen']:,}{of_all}"
            rows.append((row["title"], f"{row['error']:.2f}", count, row["chosen_among"]))
        return ("data", "top-1 error %", "images", "chosen among"), rows
    rows.append(("none", *[""] * len(SEVERITIES), f"{result['clean_error']:.2f}"))
    for name, errors in result["error_by_corruption"].items():
        mean = result["mean_by_corruption"][name]
        rows.append((name, *(f"{error:.2f}" for error in errors), f"{mean:.2f}"))
    return ("corruption", *map(str, SEVERITIES), "mean"), rows


def remarks_on(result: Mapping[str, Any]) -> list[str]:
    """Return what has to be said beside a suite's table."""
    if "sets" in result:
        return list(result["missing"])
    said = [
        f"{result['n_seen']:,} images of {result['data']}, strengths as in {result['strengths']}"
        + (f", saved as JPEG at {q}." if (q := result["saved_as_jpeg"]) else ".")
    ]
    for key, words in (
        ("test/corrupted_error", "Mean error of the 15 corruptions"),
        ("test/corrupted_error_without_frost", "Mean error of the 14 corruptions without frost"),
        ("test/mce", "Mean corruption error (mCE) relative to AlexNet"),
    ):
        if key in result:
            said.append(f"{words}: {result[key]:.2f} %.")
    if FROST not in result["error_by_corruption"]:
        said.append(
            "Frost needs its pictures: frost=DIRECTORY, ImageNet-C/create_c of "
            "https://github.com/hendrycks/robustness."
        )
    return said
