"""``deeper weights``: weights of torchvision and timm in; safetensors, StableHLO, ONNX out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

from deeper.cli.output_files import check_directory, check_file
from deeper.config.compose import run_config
from deeper.display.terminal import open_console
from deeper.errors import UserError
from deeper.record.atomic_files import to_json
from deeper.record.schema import DATA
from deeper.run import build, device, load, preprocessing
from deeper.run.class_names import class_names
from deeper.run.initial_weights import imported
from deeper.train.checkpoint import Checkpoints
from deeper.weights import export, torchvision, weight_files

OWN_KEYS = ("import", "run", "out", "names", "checkpoint")


def run(config: DictConfig) -> None:
    """Import or export."""
    console = open_console()
    source = config["import"]
    if (source is None) == (config.run is None):
        raise UserError("Give import=FILE out=DIRECTORY, or run=DIRECTORY out=FILE.")
    if source is None:
        check_file(Path(config.out), "out", (".safetensors", ".stablehlo", ".onnx"))
    else:
        check_directory(Path(config.out), "out")
    device.start_jax(config.train.cpu_kernels)
    device.close_cache()  # an exported program holds the weights
    if source is not None:
        _import(config, str(source), Path(config.out), console)
    else:
        _export(config, Path(config.run), Path(config.out), console)


def _import(config: DictConfig, source: str, out: Path, console: Console) -> None:
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        raise UserError(f"out={out} exists and is not empty; nothing was written.")
    typed = run_config(config, HydraConfig.get(), OWN_KEYS)
    model = build.build_model(typed)
    arrays, origin = weight_files.read(source, "import")
    variables, new = imported(arrays, model, typed, typed.data.image_shape)
    plain = typed.plain()
    scale = preprocessing.of_file(source, model)
    given = {word.lstrip("+").split("=")[0] for word in HydraConfig.get().overrides.task}
    scale = {name: value for name, value in scale.items() if f"data.{name}" not in given}
    if any(plain["data"][name] != value for name, value in scale.items()):
        plain["data"] |= scale
        told = ", ".join(f"{name} {value}" for name, value in scale.items())
        console.print(f"Images are normalised as these weights expect: {told}.")
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.yaml").write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    record = {**origin, "arrays": len(arrays), "new_layers": list(new)}
    (out / preprocessing.ORIGIN).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    about_data = preprocessing.record_of_import(typed.data, plain, source, new)
    (out / DATA).write_bytes(to_json(about_data, indent=2))
    checkpoints = Checkpoints(out / "checkpoints", device.one())
    try:
        checkpoints.save_variables(variables)
    finally:
        checkpoints.close()
    console.print(f"{len(arrays)} arrays of {source} -> {out}", soft_wrap=True)
    if new:
        console.print(f"New, for {config.model.classes} classes: {', '.join(new)}")


def _export(config: DictConfig, path: Path, out: Path, console: Console) -> None:
    of_run = load.open_stored(path, config.checkpoint, "run")
    shape = of_run.config.data.image_shape
    metadata = export.Metadata(
        label=str(of_run.config.label),
        image_shape=shape,
        mean=tuple(of_run.config.data.mean),
        std=tuple(of_run.config.data.std),
        classes=tuple(class_names(path, of_run.config)),
        step=of_run.step,
    )
    variables = _numpy(of_run.variables)
    if out.suffix == ".safetensors":
        if config.names == "torchvision":
            arrays = torchvision.revert(variables, of_run.model, shape)
        else:
            arrays = export.flat(variables)
        weight_files.write(out, arrays, metadata.as_strings() | {"names": config.names})
    elif out.suffix == ".stablehlo":
        export.stablehlo(of_run.model, variables, metadata, out)
    else:
        export.onnx(of_run.model, variables, metadata, out)
    size = out.stat().st_size / 2**20
    console.print(f"{path}, step {of_run.step} -> {out} ({size:.1f} MiB)", soft_wrap=True)


def _numpy(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _numpy(node) for name, node in tree.items()}
    return np.asarray(tree)
