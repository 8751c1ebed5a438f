"""A run's net written to a file that other programs read."""

from pathlib import Path
from typing import Any

import numpy as np

from deeper.config.data_sections import OwnDataset
from deeper.errors import UserError
from deeper.run import data_record, load, net_record
from deeper.weights import export, torchvision, weight_files
from deeper.weights.torchvision_names import as_timm

NAMES = ("torchvision", "timm", "deeper")  # of arrays in what is exported
SUFFIXES = (".safetensors", ".stablehlo", ".onnx")  # of files that are exported


def export_weights(
    path: Path, out: Path, names: str = "torchvision", checkpoint: str | int = "last"
) -> int:
    """Write a run's net to a file that other programs read; return the step of the checkpoint.

    What is compiled for StableHLO and ONNX holds the weights: `device.close_cache` before it keeps
    that out of JAX's cache.

    Args:
        path: the run directory.
        out: the file; its suffix, one of `SUFFIXES`, says its format.
        names: of the arrays in a .safetensors file, one of `NAMES`.
        checkpoint: last, best or a step.

    Raises:
        UserError: there is no such checkpoint, or the format does not have this net.
    """
    if out.suffix not in SUFFIXES:
        raise UserError(f"out={out}: give a file named {', '.join(SUFFIXES)}.")
    if names not in NAMES:
        raise UserError(f"names={names}: of what is exported, choose {', '.join(NAMES)}.")
    of_run = load.open_stored(path, checkpoint, "run")
    data, record = of_run.config.data, net_record.read(path, of_run.config)
    metadata: export.Metadata | export.ExampleMetadata
    if isinstance(data, OwnDataset):
        metadata = _metadata_of_examples(path, of_run, record)
    else:
        metadata = metadata_of(of_run, record)
    if out.suffix == ".safetensors":
        if names != "deeper" and isinstance(data, OwnDataset):
            raise UserError(
                f"{path} is of a net that torchvision has not: say names=deeper for its arrays by "
                "their own names."
            )
        arrays = arrays_of(of_run, names)
        weight_files.write(out, arrays, export.as_strings(metadata) | {"names": names})
    elif out.suffix == ".stablehlo":
        export.stablehlo(of_run.model, _numpy(of_run.variables), metadata, out)
    else:
        export.onnx(of_run.model, _numpy(of_run.variables), metadata, out)
    return of_run.step


def _metadata_of_examples(
    path: Path, of_run: load.Stored, record: net_record.NetRecord
) -> export.ExampleMetadata:
    """Return what a file says of a net of other examples than images."""
    shape, dtype = of_run.config.data.example
    reader = (data_record.read_record(path) or {}).get("reader")
    classes = tuple(record.class_names)
    return export.ExampleMetadata(record.label, shape, dtype, reader, classes, of_run.step)


def metadata_of(of_run: load.Stored, record: net_record.NetRecord) -> export.Metadata:
    """Return what a file says of a net of images."""
    data = of_run.config.data
    shown = record.preprocessing
    return export.Metadata(
        label=record.label,
        image_shape=data.image_shape,
        mean=tuple(data.mean),
        std=tuple(data.std),
        classes=tuple(record.class_names),
        step=of_run.step,
        shorter_side=shown.get("shorter_side") if data.of_any_size else None,
        interpolation=shown.get("interpolation", "bilinear"),
        wordnet_ids=tuple(record.wordnet_ids),
        source=record.source,
        revision=record.revision,
        licence=record.licence,
        architecture=record.architecture,
    )


def arrays_of(of_run: load.Stored, names: str) -> dict[str, np.ndarray]:
    """Return a net's arrays by names of torchvision, timm or deeper."""
    variables = _numpy(of_run.variables)
    if names == "deeper":
        return export.flat(variables)
    arrays = torchvision.revert(variables, of_run.model, of_run.config.data.image_shape)
    return as_timm(arrays, of_run.model) if names == "timm" else arrays


def _numpy(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _numpy(node) for name, node in tree.items()}
    return np.asarray(tree)
