"""``deeper weights``: weights of torchvision and timm in; safetensors, StableHLO, ONNX out."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

from deeper.cli.output_files import check_directory, check_file
from deeper.config.compose import run_config
from deeper.display.terminal import open_console
from deeper.errors import UserError
from deeper.run import device
from deeper.run.weights import SUFFIXES, export_weights, import_weights

OWN_KEYS = ("import", "run", "out", "names", "checkpoint")


def run(config: DictConfig) -> None:
    """Import or export weights."""
    console = open_console()
    source = config["import"]
    if (source is None) == (config.run is None):
        raise UserError("Give import=FILE out=DIRECTORY, or run=DIRECTORY out=FILE.")
    if source is None:
        check_file(Path(config.out), "out", SUFFIXES)
    else:
        check_directory(Path(config.out), "out")
    device.start_jax(config.train.cpu_kernels)
    device.close_cache()  # an exported program holds the weights
    if source is not None:
        _import(config, str(source), Path(config.out), console)
    else:
        _export(config, Path(config.run), Path(config.out), console)


def _import(config: DictConfig, source: str, out: Path, console: Console) -> None:
    hydra = HydraConfig.get()
    given = {word.lstrip("+").split("=")[0] for word in hydra.overrides.task}
    done = import_weights(run_config(config, hydra, OWN_KEYS), source, out, given)
    if done.normalised:
        told = ", ".join(f"{name} {value}" for name, value in done.normalised.items())
        console.print(f"Images are normalised as these weights expect: {told}.")
    console.print(f"{done.arrays} arrays of {source} -> {out}", soft_wrap=True)
    if done.new:
        console.print(f"New, for {config.model.classes} classes: {', '.join(done.new)}")


def _export(config: DictConfig, path: Path, out: Path, console: Console) -> None:
    step = export_weights(path, out, config.names, config.checkpoint)
    size = out.stat().st_size / 2**20
    console.print(f"{path}, step {step} -> {out} ({size:.1f} MiB)", soft_wrap=True)
