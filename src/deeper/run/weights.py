"""Weights of other libraries made into a directory like a run's."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deeper.config.compose import configure
from deeper.config.data_sections import OwnDataset
from deeper.config.instantiate import require_trusted
from deeper.config.schema import RunConfig
from deeper.data.prepare.imagenet import CLASSES
from deeper.errors import UserError
from deeper.models.initializers import initialise, shapes_of
from deeper.record.atomic_files import to_json
from deeper.record.schema import DATA, NET
from deeper.run import build, device, load, net_record, preprocessing
from deeper.run.class_names import imagenet_names
from deeper.run.dataset import require_images
from deeper.run.initial_weights import DETECTORS_TRACE, imported
from deeper.train.checkpoint import Checkpoints
from deeper.weights import (
    class_name_files,
    detectors,
    export,
    state_dicts,
    torchvision,
    weight_files,
)
from deeper.weights.architecture import Architecture
from deeper.weights.architectures import architecture_of, head_of
from deeper.weights.torchvision import MisfitError
from deeper.weights.torchvision_files import PUBLISHED


@dataclass(frozen=True)
class Imported:
    """What was imported.

    Attributes:
        config: of the net.
        arrays: how many the file has for it.
        new: last layers that were drawn, since the file has none, or has other classes.
        said: sentences about what was found in the file, and how it was understood.
    """

    config: RunConfig
    arrays: int
    new: tuple[str, ...]
    said: tuple[str, ...]


def import_weights(
    source: str,
    out: Path,
    *overrides: str,
    directories: Sequence[Path | str] = (),
    prefix: str | None = None,
    ema: bool = False,
    names: Path | None = None,
    channels: int | None = None,
) -> Imported:
    """Write a directory that holds a file's weights as a run's holds a checkpoint.

    The net, its number of classes and how images are shown to it are read from the file, and from
    timm's ``config.json`` beside it; overrides hold against the file.

    Args:
        source: a file of torchvision's or timm's weights, or ``hf:OWNER/NAME[@REVISION]``.
        out: the directory, which is not there or is empty.
        *overrides: of a config, as on the command line: ``"model=vgg"``, ``"data.classes=10"``,
            which begins a new head.
        directories: of YAML files of the user's own.
        prefix: in front of the net's names, where a file has several nets.
        ema: whether to take the averages over training, where a file has both.
        names: a file of class names, or a folder with one folder per class.
        channels: 1 adapts the first convolution to grey images, as timm does.

    Raises:
        UserError: the directory is not empty, or the file is of no net that we have, or of another
            one than the overrides say.
    """
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        raise UserError(f"out={out} exists and is not empty; nothing was written.")
    file = weight_files.read(source, "import")
    if file.own.get("names") == "deeper" and isinstance(file.own.get("architecture"), dict):
        return _import_own(source, file, out, overrides, directories, names)
    detector = detectors.find(file.arrays)
    if detector is not None:
        return _import_detector(source, file, detector, out, overrides, directories, names)
    found = state_dicts.find(file.arrays, f"import={source}", prefix, ema)
    arrays = state_dicts.renamed(found)
    said = _said_of(found)
    if channels is not None:
        arrays = torchvision.with_channels(arrays, channels)
        said.append(
            "The first convolution takes grey images: its kernels are added up over colours."
        )
    given = {word.lstrip("+~").split("=")[0] for word in overrides}
    told = None if "model" in given else _architecture(arrays, file, source)
    config = _config(overrides, directories, told, arrays, file, source, names)
    kernel = arrays[next(name for name in torchvision.FIRST if name in arrays)]
    config, shown = _with_preprocessing(config, file, kernel.shape[1], given)
    if told is not None:
        config = config.replace(label=told.name)
        said.append(f"Architecture {told.name}: {' '.join(told.overrides)}")
    said += _said_of_shown(shown)
    config = _with_pool_size(config, arrays)
    model = build.build_model(config)
    try:
        variables, new = imported(arrays, model, config, config.data.image_shape)
    except MisfitError as error:
        raise _in_a_file(error, out) from error
    if new:
        said.append(_said_of_new(new, config, arrays))
    _write(out, config, file, variables, new, _names(names, file, config, new))
    return Imported(config, len(found.arrays), new, tuple(said))


def _import_own(
    source: str,
    file: weight_files.WeightFile,
    out: Path,
    overrides: Sequence[str],
    directories: Sequence[Path | str],
    names: Path | None,
) -> Imported:
    """Write the directory of a file that deeper wrote by its own names, which says its net."""
    section = file.own["architecture"]
    require_trusted(section, source)
    given = {word.lstrip("+~").split("=")[0] for word in overrides}
    words = () if "data" in given else ("data=folder", f"data.name={_name(source, names)}")
    classes = len(preprocessing.names_in(file))
    config = configure(
        *words, f"data.classes={classes}", *overrides, directories=directories, model=section
    )
    channels = file.own["image_shape"][2]
    config, shown = _with_preprocessing(config, file, channels, given)
    config = config.replace(label=str(file.own.get("label", config.label)))
    variables = export.unflattened(file.arrays)
    expected = shapes_of(build.build_model(config), build.example_of(config))
    load.require_fit(variables, expected, f"import={source}")
    _write(out, config, file, variables, (), _names(names, file, config, ()))
    said = (f"Architecture {config.label}, as the file says.", *_said_of_shown(shown))
    return Imported(config, len(file.arrays), (), said)


def _import_detector(
    source: str,
    file: weight_files.WeightFile,
    detector: detectors.Detector,
    out: Path,
    overrides: Sequence[str],
    directories: Sequence[Path | str],
    names: Path | None,
) -> Imported:
    """Write the directory of a detector, which sees photographs as torchvision's does."""
    given = {word.lstrip("+~").split("=")[0] for word in overrides}
    data = () if "data" in given else ("data=coco", f"data.name={_name(source, names)}")
    classes = () if "data.classes" in given else (f"data.classes={detector.classes}",)
    told = () if "model" in given else detector.overrides
    config = configure(*data, *classes, *told, *overrides, directories=directories)
    config = config.replace(label=detector.name)
    model = build.build_model(config)
    new = model.outputs if config.model.classes != detector.classes else ()
    try:
        variables = torchvision.convert(detector.arrays, model, DETECTORS_TRACE, new=new)
    except MisfitError as error:
        raise _in_a_file(error, out) from error
    if new:
        fresh = initialise(model, config.seed, DETECTORS_TRACE)["params"]
        variables["params"] |= {layer: fresh[layer] for layer in new}
    _write(out, config, file, variables, new, _names(names, file, config, new))
    said = [f"Architecture {detector.name}: {' '.join(told)}"]
    if new:
        theirs = f"the file's are for {detector.classes}"
        said.append(f"New, for {config.model.classes} classes: {', '.join(new)} ({theirs}).")
    return Imported(config, len(detector.arrays), tuple(new), tuple(said))


def _said_of_shown(shown: Mapping[str, Any]) -> list[str]:
    listed = ", ".join(f"{key} {value}" for key, value in shown.items())
    return [f"Images are shown as these weights expect: {listed}."] if shown else []


def _said_of(found: state_dicts.StateDict) -> list[str]:
    said = []
    if found.prefix:
        said.append(f"In front of the names stood {found.prefix}, which is left out.")
    if found.averaged:
        said.append("These are averages over training.")
    if found.others:
        said.append(f"{found.others:,} other arrays of the file are not read.")
    return said


def _said_of_new(new: Sequence[str], config: RunConfig, arrays: torchvision.Arrays) -> str:
    theirs = _classes(arrays)
    why = "the file has none" if theirs is None else f"the file's are for {theirs}"
    return (
        f"New, for {config.model.classes} classes: {', '.join(new)} ({why}). They are random: "
        "train them with init_from, or use features."
    )


def _classes(arrays: torchvision.Arrays) -> int | None:
    weight = arrays.get(f"{head_of(arrays)}.weight")
    return None if weight is None else len(weight)


def _architecture(
    arrays: torchvision.Arrays, file: weight_files.WeightFile, source: str
) -> Architecture:
    """Return the net that a file is of.

    Raises:
        UserError: none that we have, or the file names a net that only looks like one.
    """
    try:
        told = architecture_of({name: array.shape for name, array in arrays.items()})
    except UserError as error:
        raise UserError(f"import={source}: {error}") from error
    name = file.architecture
    if isinstance(name, str) and re.match(
        r"(resnet|resnext|wide_resnet|vgg)\w*(aa|blur|s\b)", name
    ):
        raise UserError(
            f"import={source} says that it is of {name}, which deeper has not, though its names "
            f"and shapes are those of {told.name}. Say model=... if it is that."
        )
    return told


def _config(
    overrides: Sequence[str],
    directories: Sequence[Path | str],
    told: Architecture | None,
    arrays: torchvision.Arrays,
    file: weight_files.WeightFile,
    source: str,
    names: Path | None,
) -> RunConfig:
    """Return the config of the file's net, with the user's overrides.

    Raises:
        UserError: an override is not allowed, or the data have other classes than the file.
    """
    given = {word.lstrip("+~").split("=")[0] for word in overrides}
    classes = _classes(arrays)
    words: list[str] = []
    if "data" not in given:
        words = ["data=imagenet"]
        if classes not in (None, CLASSES) and not given & {"data.classes", "data.name"}:
            words = ["data=folder", f"data.name={_name(source, names)}", "data.exif=ignore"]
    words += [] if told is None else told.overrides
    counted = [f"data.classes={classes}"] if classes and "data.classes" not in given else []
    if "data" not in given:
        return configure(*words, *counted, *overrides, directories=directories)
    try:
        config = configure(*words, *overrides, directories=directories)
    except UserError:  # as data=folder says nothing of its classes
        return configure(*words, *counted, *overrides, directories=directories)
    if counted and config.data.classes != classes:
        raise UserError(
            f"import={source}: its head is for {classes} classes, and {config.data.name} has "
            f"{config.data.classes}. Say data.classes={config.data.classes} to begin a new head, "
            "or leave data=... out to keep the file's."
        )
    return config


def _name(source: str, names: Path | None) -> str:
    """Return what the data set of a file with other classes than ImageNet's is called."""
    if names is not None and names.is_dir():
        text = names.resolve().name
    else:
        text = Path(source.removeprefix(weight_files.HUB)).name.partition(".")[0]
    return re.sub(r"[^\w-]+", "_", text).strip("_") or "unknown"


def _with_preprocessing(
    config: RunConfig,
    file: weight_files.WeightFile,
    channels: int,
    given: Collection[str],
) -> tuple[RunConfig, dict[str, Any]]:
    """Return the config that shows images as the weights expect, and what it changed.

    Args:
        config: of the net.
        file: of its weights.
        channels: of the images.
        given: keys of the config that the user gave.
    """
    require_images(config.data, "deeper weights")
    shown = preprocessing.of_file(file, build.build_model(config))
    keys = {key.removeprefix("data.") for key in given if key.startswith("data.")}
    data = config.plain()["data"]
    changes = preprocessing.fitted(shown, data, keys)
    if channels == 1 and "image_shape" not in keys:  # grey images
        height, width, _ = changes.get("image_shape", data["image_shape"])
        changes["image_shape"] = [height, width, 1]
        for key in set(preprocessing.SCALE) - keys:
            values = changes.get(key, data[key])
            changes[key] = [round(sum(values) / len(values), 6)]
    return config.replace({f"data.{key}": value for key, value in changes.items()}), changes


def _with_pool_size(config: RunConfig, arrays: torchvision.Arrays) -> RunConfig:
    """Return the config whose dense layers take maps of the file's size at this size of image."""
    if "pool_size" not in config.model:
        return config
    shapes = {name: array.shape for name, array in arrays.items()}
    model = build.build_model(config)
    theirs = architecture_of(shapes).pool_size
    ours = architecture_of(torchvision.state_dict_shapes(model, config.data.image_shape)).pool_size
    if theirs in (None, ours):
        return config
    return config.replace({"model.pool_size": theirs})


def _in_a_file(error: MisfitError, out: Path) -> UserError:
    """Return the error, with the place of a file that has all differences where they are many."""
    text = f"{error}\nThe weights were not imported; nothing was written"
    if len(error.differences) <= torchvision.LISTED:
        return UserError(f"{text}.")
    file = out.with_name(f"{out.name}.differences.txt")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(error.differences) + "\n", encoding="utf-8")
    return UserError(f"{text} but {file}, which has all differences.")


def _names(
    names: Path | None, file: weight_files.WeightFile, config: RunConfig, new: Sequence[str]
) -> list[str]:
    """Return the names of the classes: the user's, the file's, ImageNet's, or numbers."""
    classes = config.data.classes
    if names is not None:
        return list(class_name_files.read(names, classes))
    known = () if new else preprocessing.names_in(file)
    if not known and classes == CLASSES and config.data.name == "imagenet":
        known = tuple(imagenet_names())
    if len(known) != classes:
        known = preprocessing.names_of_data(config.data)
    return list(known) if len(known) == classes else [str(number) for number in range(classes)]


def _write(
    out: Path,
    config: RunConfig,
    file: weight_files.WeightFile,
    variables: dict[str, Any],
    new: Sequence[str],
    names: Sequence[str],
) -> None:
    """Write the directory: config, record and checkpoint."""
    out.mkdir(parents=True, exist_ok=True)
    plain = config.plain()
    (out / "config.yaml").write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    origin: dict[str, Any] = dict(file.origin)
    if published := PUBLISHED.get(origin["sha256"][:8]):
        origin["revision"] = f"torchvision {published[0]} {published[1]}"
    record = net_record.record_of(
        config, names, **origin, licence=file.licence, new_layers=list(new)
    )
    (out / NET).write_bytes(to_json(record.plain(), indent=2))
    about_data = {
        "name": config.data.name,
        "class_names": list(record.wordnet_ids or record.class_names),
        "image_shape": list(config.data.example[0]),
        "preprocessing": dict(record.preprocessing),
    }
    if isinstance(config.data, OwnDataset):  # photographs with boxes
        call = config.data.call
        about_data["reader"] = {
            "_target_": "deeper.data.detection.PhotographReader",
            **{key: call[key] for key in ("canvas", "shorter_side", "longer_side", "antialias")},
        }
    (out / DATA).write_bytes(to_json(about_data, indent=2))
    checkpoints = Checkpoints(out / "checkpoints", device.one())
    try:
        checkpoints.save_variables(variables)
    finally:
        checkpoints.close()
