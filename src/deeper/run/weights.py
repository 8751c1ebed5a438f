"""Weights of other libraries made into a directory like a run's, and a run's net into a file."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from deeper.config.data_sections import OwnDataset
from deeper.config.schema import RunConfig
from deeper.errors import UserError
from deeper.record.atomic_files import to_json
from deeper.record.schema import DATA
from deeper.run import build, data_record, device, load, preprocessing
from deeper.run.class_names import class_names
from deeper.run.initial_weights import imported
from deeper.train.checkpoint import Checkpoints
from deeper.weights import export, torchvision, weight_files

SUFFIXES = (".safetensors", ".stablehlo", ".onnx")  # of files that are exported


@dataclass(frozen=True)
class Imported:
    """What was imported.

    Attributes:
        arrays: how many the file has.
        normalised: mean and std that the weights expect, where they are not the config's own.
        new: last layers that were drawn, since the file has other classes.
    """

    arrays: int
    normalised: Mapping[str, list[float]]
    new: tuple[str, ...]


def import_weights(
    config: RunConfig, source: str, out: Path, given: Collection[str] = ()
) -> Imported:
    """Write a directory that holds a file's weights as a run's holds a checkpoint.

    Args:
        config: of the net and of the data that it was trained on.
        source: a file of torchvision's or timm's weights, or ``hf:OWNER/NAME[@REVISION]``.
        out: the directory, which is not there or is empty.
        given: keys such as ``data.mean`` that the user gave, which hold against the file.

    Raises:
        UserError: the directory is not empty, or the file is not of this net.
    """
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        raise UserError(f"out={out} exists and is not empty; nothing was written.")
    model = build.build_model(config)
    arrays, origin = weight_files.read(source, "import")
    variables, new = imported(arrays, model, config, config.data.image_shape)
    plain = config.plain()
    scale = {
        name: value
        for name, value in preprocessing.of_file(source, model).items()
        if f"data.{name}" not in given
    }
    if all(plain["data"][name] == value for name, value in scale.items()):
        scale = {}
    plain["data"] |= scale
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.yaml").write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    record = {**origin, "arrays": len(arrays), "new_layers": list(new)}
    (out / preprocessing.ORIGIN).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    about_data = preprocessing.record_of_import(config.data, plain, source, new)
    (out / DATA).write_bytes(to_json(about_data, indent=2))
    checkpoints = Checkpoints(out / "checkpoints", device.one())
    try:
        checkpoints.save_variables(variables)
    finally:
        checkpoints.close()
    return Imported(len(arrays), scale, new)


def export_weights(
    path: Path,
    out: Path,
    names: Literal["torchvision", "deeper"] = "torchvision",
    checkpoint: str | int = "last",
) -> int:
    """Write a run's net to a file that other programs read; return the step of the checkpoint.

    What is compiled for StableHLO and ONNX holds the weights: `device.close_cache` before it keeps
    that out of JAX's cache.

    Args:
        path: the run directory.
        out: the file; its suffix, one of `SUFFIXES`, says its format.
        names: of the arrays in a .safetensors file.
        checkpoint: last, best or a step.

    Raises:
        UserError: there is no such checkpoint, or the format does not have this net.
    """
    if out.suffix not in SUFFIXES:
        raise UserError(f"out={out}: give a file named {', '.join(SUFFIXES)}.")
    of_run = load.open_stored(path, checkpoint, "run")
    metadata = _metadata(path, of_run)
    variables = _numpy(of_run.variables)
    if out.suffix == ".safetensors":
        if names == "torchvision" and isinstance(metadata, export.Metadata):
            arrays = torchvision.revert(variables, of_run.model, metadata.image_shape)
        elif names == "torchvision":
            raise UserError(
                f"{path} is of a net that torchvision has not: say names=deeper for its arrays by "
                "their own names."
            )
        else:
            arrays = export.flat(variables)
        weight_files.write(out, arrays, export.as_strings(metadata) | {"names": names})
    elif out.suffix == ".stablehlo":
        export.stablehlo(of_run.model, variables, metadata, out)
    else:
        export.onnx(of_run.model, variables, metadata, out)
    return of_run.step


def _metadata(path: Path, of_run: load.Stored) -> export.Metadata | export.ExampleMetadata:
    config = of_run.config
    classes = tuple(class_names(path, config))
    if isinstance(config.data, OwnDataset):
        shape, dtype = config.data.example
        reader = (data_record.read_record(path) or {}).get("reader")
        return export.ExampleMetadata(
            str(config.label), shape, dtype, reader, classes, step=of_run.step
        )
    return export.Metadata(
        label=str(config.label),
        image_shape=config.data.image_shape,
        mean=tuple(config.data.mean),
        std=tuple(config.data.std),
        classes=classes,
        step=of_run.step,
    )


def _numpy(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _numpy(node) for name, node in tree.items()}
    return np.asarray(tree)
